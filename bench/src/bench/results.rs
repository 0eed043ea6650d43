//! What was measured: figures by name, and tables of them.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::plot;

/// The file with the tables, and the lines around each.
const FILE: &str = "../docs/performance.md";

/// The folder with the plots, and the tables that are drawn.
const PLOTS: &str = "../docs/performance";
const DRAWN: [(&str, &str); 2] = [
    ("events", "Processor time of an event, by events in a response x value; tonic + prost = 1"),
    ("watches", "Processor time of an event of 256 B, by the number of watches; tonic + prost = 1"),
];

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Results {
    figures: BTreeMap<String, f64>,
    tables: Vec<Table>,
}

/// A table of the document.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    /// What its place in the document is marked with.
    pub(crate) name: &'static str,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Results {
    pub(crate) fn set(&mut self, name: impl Into<String>, figure: f64) {
        self.figures.insert(name.into(), figure);
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }

    /// Prints a table, and keeps it.
    pub(crate) fn add(&mut self, table: Table) {
        println!("\n{}", table.markdown());
        self.tables.push(table);
    }

    /// Puts the tables into the document, in place of those that are there, and draws the plots.
    pub(crate) fn write_markdown(&self) -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(PLOTS);
        std::fs::create_dir_all(&folder)?;
        for (name, title) in DRAWN {
            if let Some(table) = self.tables.iter().find(|table| table.name == name) {
                std::fs::write(folder.join(format!("{name}.svg")), plot::bars(table, title)?)?;
            }
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
        let mut text = std::fs::read_to_string(&file)?;
        for table in &self.tables {
            text = table.placed(&text).with_context(|| format!("{} has no place for it", file.display()))?;
        }
        Ok(std::fs::write(file, text)?)
    }
}

impl Table {
    pub(crate) fn new<const N: usize>(name: &'static str, head: [&str; N]) -> Self {
        Self { name, head: head.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
        let mut text = line(&self.head);
        let rule = ["---"].into_iter().chain(std::iter::repeat("--:")).take(self.head.len());
        let _ = write!(text, "\n|{}|", rule.collect::<Vec<_>>().join("|"));
        for row in &self.rows {
            text.push('\n');
            text.push_str(&line(row));
        }
        text
    }

    /// The text with this table between its marks.
    fn placed(&self, text: &str) -> Result<String> {
        let [begin, end] = ["begin", "end"].map(|mark| format!("<!-- bench {}: {mark} -->\n", self.name));
        let (before, rest) = text.split_once(&begin).with_context(|| format!("{begin:?} is missing"))?;
        let (_, after) = rest.split_once(&end).with_context(|| format!("{end:?} is missing"))?;
        Ok(format!("{before}{begin}{}\n{end}{after}", self.markdown()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_one_before() {
        let mut table = Table::new("events", ["a", "b"]);
        table.row(["1".to_owned(), "2".to_owned()]);
        let empty = "before\n<!-- bench events: begin -->\n<!-- bench events: end -->\nafter\n";
        let placed = table.placed(empty).expect("there is a place");
        let expected = "before\n<!-- bench events: begin -->\n| a | b |\n|---|--:|\n| 1 | 2 |\n\
                        <!-- bench events: end -->\nafter\n";
        assert_eq!(placed, expected);
        assert_eq!(table.placed(&placed).expect("there is a place"), placed);
        assert!(table.placed("no place").is_err());
    }

    #[test]
    fn the_document_has_a_place_for_every_table() {
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)).expect("it is there");
        for name in ["events", "watches", "opening", "stuck", "latency", "idle", "budgets"] {
            assert!(Table::new(name, ["a"]).placed(&text).is_ok(), "{name}");
        }
    }
}
