//! What `cargo xtask counts` has counted, as tables.

use std::fmt;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// How many calls gungraun has counted together: `CALLS` in `bench/counts/src/workload.rs`.
const CALLS: f64 = 100.0;

/// All counts, in the order in which they were taken.
pub(crate) struct Counted(Vec<Count>);

/// The counts of one workload, of one call on average.
struct Count {
    /// What was called.
    call: String,
    /// What there are many of, and how many: `watches` and `1,000`.
    kind: String,
    size: String,
    instructions: f64,
    allocations: f64,
}

impl Counted {
    /// Reads gungraun's output: a line of JSON for each workload.
    ///
    /// # Errors
    /// It is of another form, or nothing was counted.
    pub(crate) fn read(output: &str) -> Result<Self> {
        let counts: Result<Vec<Count>> =
            output.lines().filter(|line| line.starts_with('{')).map(Count::read).collect();
        let counts = counts?;
        ensure!(!counts.is_empty(), "nothing was counted: is there a workload of this name?");
        Ok(Self(counts))
    }

    /// The kinds, in the order in which they come first.
    fn kinds(&self) -> Vec<&str> {
        unique(self.0.iter().map(|count| &*count.kind))
    }
}

impl Count {
    fn read(line: &str) -> Result<Self> {
        let summary: Value = serde_json::from_str(line)?;
        let text =
            |name: &str| summary[name].as_str().with_context(|| format!("{name} is missing in {line}"));
        let metric = |tool: &str, name: &str| {
            let profiles = summary["profiles"].as_array()?;
            let profile = profiles.iter().find(|profile| profile["tool"] == tool)?;
            profile["data"]["total"]["metrics"][name]["values"]["new"].as_f64()
        };
        let call = text("function_name")?.replace('_', " ");
        // Such as `watches_1_000`.
        let (kind, size) =
            text("id")?.split_once('_').with_context(|| format!("the id has no number in {line}"))?;
        let (kind, size) = (kind.to_owned(), size.replace('_', ","));
        let instructions = metric("Callgrind", "Ir").with_context(|| format!("no instructions in {line}"))?;
        let allocations =
            metric("DHAT", "TotalBlocks").with_context(|| format!("no allocations in {line}"))?;
        ensure!(instructions > 0.0, "nothing was counted of {call}: has its function another name?");
        Ok(Self { call, kind, size, instructions: instructions / CALLS, allocations: allocations / CALLS })
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut unique = Vec::new();
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

/// A table for each kind, in Markdown. Allocations are the most of all sizes.
impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in self.kinds() {
            let counts: Vec<&Count> = self.0.iter().filter(|count| count.kind == kind).collect();
            let sizes = unique(counts.iter().map(|count| &*count.size));
            let head: String = sizes.iter().map(|size| format!("{kind}: {size} | ")).collect();
            writeln!(f, "| call | {head}allocations |\n|---|{}--:|", "--:|".repeat(sizes.len()))?;
            for call in unique(counts.iter().map(|count| &*count.call)) {
                let of: Vec<&&Count> = counts.iter().filter(|count| count.call == call).collect();
                let at = |size: &str| of.iter().find(|count| count.size == size);
                let cell =
                    |size| at(size).map_or_else(String::new, |count| format!("{:.0}", count.instructions));
                let cells: Vec<String> = sizes.iter().map(|&size| cell(size)).collect();
                let allocations = of.iter().map(|count| count.allocations).fold(0.0, f64::max);
                writeln!(f, "| {call} | {} | {allocations:.2} |", cells.join(" | "))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(function: &str, id: &str, instructions: u64, allocations: u64) -> String {
        let profile = |tool: &str, metric: &str, value: u64| {
            let values = serde_json::json!({"values": {"new": value, "old": 1}});
            serde_json::json!({"tool": tool, "data": {"total": {"metrics": {metric: values}}}})
        };
        let profiles =
            [profile("Callgrind", "Ir", instructions), profile("DHAT", "TotalBlocks", allocations)];
        serde_json::json!({"function_name": function, "id": id, "profiles": profiles}).to_string()
    }

    #[test]
    fn each_kind_has_a_table_with_a_column_for_each_size() {
        let lines = [
            line("take_in", "watches_1", 100, 200),
            line("take_in", "watches_1_000", 250, 300),
            line("decode", "watches_1_000", 700, 0),
            line("decode", "puts_1", 33_349, 0),
        ];
        let counted = Counted::read(&lines.join("\n")).unwrap();
        assert_eq!(
            counted.to_string(),
            "| call | watches: 1 | watches: 1,000 | allocations |\n|---|--:|--:|--:|\n| take in | 1 | 2 | 3.00 |\n\
             | decode |  | 7 | 0.00 |\n\n| call | puts: 1 | allocations |\n|---|--:|--:|\n| decode | 333 | 0.00 |\n\n"
        );
    }

    #[test]
    fn what_was_not_counted_is_an_error() {
        let told = |line: &str| Counted::read(line).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(told(&line("decode", "puts_1", 0, 0)).contains("nothing was counted of decode"));
        assert!(told(&line("decode", "puts_1", 5, 0).replace("DHAT", "Massif")).contains("no allocations"));
    }
}
