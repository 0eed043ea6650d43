//! The result: a table, a verdict, a JSON object.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use super::checks::Tally;

/// What came of one watch.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) tally: Tally,
    pub(super) caught_up: bool,
    /// What went wrong with it, if that can be said.
    pub(super) problem: Option<String>,
}

impl Row {
    fn is_flawless(&self) -> bool {
        self.tally.is_flawless() && self.caught_up && self.problem.is_none()
    }
}

/// What came of it all.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) seed: u64,
    pub(super) elapsed: Duration,
    pub(super) revision: i64,
    pub(super) writes: u64,
    pub(super) changes: usize,
    pub(super) cuts: u64,
    pub(super) reconnects: u64,
    pub(super) replays: u64,
    pub(super) rows: Vec<Row>,
}

impl Report {
    pub(super) fn is_flawless(&self) -> bool {
        self.rows.iter().all(Row::is_flawless)
    }

    fn total(&self) -> Tally {
        self.rows.iter().fold(Tally::default(), |total, row| total.plus(row.tally))
    }

    pub(super) fn json(&self) -> Value {
        let mut object = counts(&self.total());
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let mut object = counts(&row.tally);
                object["name"] = row.name.into();
                object["caught_up"] = row.caught_up.into();
                object["problem"] = row.problem.clone().into();
                object
            })
            .collect();
        object["ok"] = self.is_flawless().into();
        object["seed"] = self.seed.into();
        object["seconds"] = ((self.elapsed.as_secs_f64() * 10.0).round() / 10.0).into();
        object["revision"] = self.revision.into();
        object["writes"] = self.writes.into();
        object["changes"] = self.changes.into();
        object["cuts"] = self.cuts.into();
        object["reconnects"] = self.reconnects.into();
        object["replays"] = self.replays.into();
        object["watches"] = rows.into();
        object
    }
}

fn counts(tally: &Tally) -> Value {
    json!({
        "events": tally.received,
        "expected": tally.expected,
        "lost": tally.lost,
        "duplicated": tally.duplicated,
        "reordered": tally.reordered,
        "split": tally.split,
        "wrong": tally.wrong,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16} {:>9} {:>9} {:>6} {:>10} {:>9} {:>6} {:>6}",
            "watch", "in store", "received", "lost", "duplicated", "reordered", "split", "wrong"
        )?;
        let totals = Row { name: "all", tally: self.total(), caught_up: true, problem: None };
        for row in self.rows.iter().chain([&totals]) {
            let Row { name, tally, .. } = row;
            writeln!(
                f,
                "{name:<16} {:>9} {:>9} {:>6} {:>10} {:>9} {:>6} {:>6}{}",
                tally.expected,
                tally.received,
                tally.lost,
                tally.duplicated,
                tally.reordered,
                tally.split,
                tally.wrong,
                if row.caught_up { "" } else { "  never caught up" },
            )?;
        }
        for row in &self.rows {
            if let Some(problem) = &row.problem {
                writeln!(f, "{}: {problem}", row.name)?;
            }
        }
        writeln!(
            f,
            "\n{} writes made {} changes up to revision {}. {} connections were cut; {} reconnects, {} replays for \
             the slow consumer, {:.1} s, seed {}.",
            self.writes,
            self.changes,
            self.revision,
            self.cuts,
            self.reconnects,
            self.replays,
            self.elapsed.as_secs_f64(),
            self.seed,
        )?;
        if self.is_flawless() {
            write!(f, "Every watch received exactly what the store's history holds for it.")
        } else {
            write!(f, "NOT what the store's history holds: run it again with --seed {}.", self.seed)
        }
    }
}
