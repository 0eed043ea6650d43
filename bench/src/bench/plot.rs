//! The processor time of an event as a picture: a bar for each client, beside tonic and prost.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use crate::{programs::Program, results::Table};

/// The clients that are drawn, each with its colour.
const CLIENTS: [(Program, &str); 5] = [
    (Program::Transport, "#b0b0b0"),
    (Program::Tokio, "#1b6ca8"),
    (Program::Smol, "#5fa8d3"),
    (Program::EtcdClient, "#e0a030"),
    (Program::Go, "#c04848"),
];

/// The columns of the table that are drawn.
const CLIENT: usize = 1;
const RATIO: usize = 3;

/// A longer bar is cut here; its figure is beside it.
const MOST: f64 = 2.0;

const BAR: f64 = 12.0;
const GAP: f64 = 14.0;
const LEFT: f64 = 120.0;
/// The length of a bar with ratio 1.
const UNIT: f64 = 260.0;
const WIDTH: f64 = LEFT + MOST * UNIT + 60.0;
const HEAD: f64 = 44.0;

/// Draws a table of workloads and clients.
///
/// # Errors
/// A ratio in it is no number.
pub(crate) fn bars(table: &Table, title: &str) -> Result<String> {
    let mut body = String::new();
    let mut x = LEFT;
    for (program, colour) in CLIENTS {
        let name = program.name();
        write!(body, r#"<rect x="{x}" y="22" width="10" height="10" fill="{colour}"/>"#)?;
        writeln!(body, r#"<text x="{}" y="31">{name}</text>"#, x + 14.0)?;
        x += 26.0 + 6.2 * name.len() as f64;
    }
    let mut y = HEAD;
    let workloads = table.rows.chunk_by(|row, next| row[0] == next[0]);
    for rows in workloads {
        let top = y;
        for (program, colour) in CLIENTS {
            let Some(row) = rows.iter().find(|row| row[CLIENT] == program.name()) else { continue };
            let ratio: f64 = row[RATIO].parse().with_context(|| format!("a ratio of {}", program.name()))?;
            let length = ratio.min(MOST) * UNIT;
            writeln!(
                body,
                r#"<rect x="{LEFT}" y="{y}" width="{length:.1}" height="{}" fill="{colour}"/><text x="{:.1}" y="{}">{ratio:.2}</text>"#,
                BAR - 2.0,
                LEFT + length + 4.0,
                y + BAR - 3.0,
            )?;
            y += BAR;
        }
        let middle = f64::midpoint(top, y) + 3.0;
        writeln!(body, r#"<text x="{}" y="{middle}" text-anchor="end">{}</text>"#, LEFT - 8.0, rows[0][0])?;
        y += GAP;
    }
    let one = LEFT + UNIT;
    Ok(format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" font-family="sans-serif" font-size="11">
<rect width="100%" height="100%" fill="#fff"/>
<text x="{LEFT}" y="14" font-weight="bold">{title}</text>
{body}<line x1="{one}" y1="{HEAD}" x2="{one}" y2="{bottom}" stroke="#000" stroke-dasharray="3 3"/>
</svg>
"##,
        width = WIDTH.max(x),
        bottom = y - GAP,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 4]]) -> Table {
        let mut table = Table::new("events", ["workload", "client", "CPU", "ratio"]);
        rows.iter().for_each(|row| table.row(row.map(str::to_owned)));
        table
    }

    #[test]
    fn each_client_has_a_bar_as_long_as_its_ratio_and_long_ones_are_cut() {
        let (tokio, go) = (Program::Tokio.name(), Program::Go.name());
        let table = table(&[["1 x 32 B", tokio, "9 ns", "0.50"], ["1 x 32 B", go, "9 ns", "4.00"]]);
        let drawn = bars(&table, "a title").expect("they are numbers");
        for part in [r#"width="130.0""#, ">0.50<", r#"width="520.0""#, ">4.00<", ">1 x 32 B<", ">a title<"] {
            assert!(drawn.contains(part), "{part}: {drawn}");
        }
    }

    #[test]
    fn a_ratio_that_is_no_number_is_refused() {
        assert!(bars(&table(&[["1 x 32 B", Program::Tokio.name(), "9 ns", "-"]]), "a title").is_err());
    }
}
