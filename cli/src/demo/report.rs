//! The result: a table, a verdict, a JSON object.

use std::{fmt, time::Duration};

use etcd_watch_testkit::checks::{Rule, Violation};
use serde_json::{Value, json};

/// How often each kind of rule was broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Changes that had to come.
    expected: u64,
    /// Changes that came, repeats included.
    received: u64,
    /// Had to come and did not, or came though it was before the start.
    lost: u64,
    /// Came again.
    duplicated: u64,
    /// Came after a later change.
    reordered: u64,
    /// Came in another response than others of their revision did.
    split: u64,
    /// Had not come when it was said that everything up to them had.
    early: u64,
    /// Came with other content than was written (the previous pair is part of it), or had no business to come.
    wrong: u64,
}

impl Tally {
    pub(super) fn of(expected: u64, received: u64, violations: &[Violation]) -> Self {
        let mut tally = Self { expected, received, ..Self::default() };
        for violation in violations {
            let kind = match violation.rule {
                Rule::Reliable | Rule::Resumable => &mut tally.lost,
                Rule::Unique => &mut tally.duplicated,
                Rule::Ordered => &mut tally.reordered,
                Rule::Atomic => &mut tally.split,
                Rule::Bookmarkable => &mut tally.early,
                Rule::Filter | Rule::PrevValue | Rule::IsCreate | Rule::Content => &mut tally.wrong,
            };
            *kind += 1;
        }
        tally
    }

    fn flaws(&self) -> [(&'static str, u64); 6] {
        [
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("reordered", self.reordered),
            ("split", self.split),
            ("early", self.early),
            ("wrong", self.wrong),
        ]
    }

    fn is_flawless(&self) -> bool {
        self.flaws().iter().all(|(_, count)| *count == 0)
    }

    /// Both together.
    fn plus(self, other: Self) -> Self {
        Self {
            expected: self.expected + other.expected,
            received: self.received + other.received,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
            split: self.split + other.split,
            early: self.early + other.early,
            wrong: self.wrong + other.wrong,
        }
    }
}

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
    let mut object = json!({ "events": tally.received, "expected": tally.expected });
    for (flaw, count) in tally.flaws() {
        object[flaw] = count.into();
    }
    object
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16} {:>9} {:>9}", "watch", "in store", "received")?;
        for (flaw, _) in Tally::default().flaws() {
            write!(f, " {flaw:>6}")?;
        }
        writeln!(f)?;
        let totals = Row { name: "all", tally: self.total(), caught_up: true, problem: None };
        for row in self.rows.iter().chain([&totals]) {
            let Row { name, tally, .. } = row;
            write!(f, "{name:<16} {:>9} {:>9}", tally.expected, tally.received)?;
            for (flaw, count) in tally.flaws() {
                write!(f, " {count:>width$}", width = flaw.len().max(6))?;
            }
            writeln!(f, "{}", if row.caught_up { "" } else { "  never caught up" })?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_counts_as_some_flaw_and_only_none_is_flawless() {
        let rules = [
            (Rule::Reliable, "lost"),
            (Rule::Resumable, "lost"),
            (Rule::Unique, "duplicated"),
            (Rule::Ordered, "reordered"),
            (Rule::Atomic, "split"),
            (Rule::Bookmarkable, "early"),
            (Rule::Filter, "wrong"),
            (Rule::PrevValue, "wrong"),
            (Rule::IsCreate, "wrong"),
            (Rule::Content, "wrong"),
        ];
        assert!(Tally::of(7, 7, &[]).is_flawless());
        for (rule, flaw) in rules {
            let tally = Tally::of(7, 7, &[Violation { rule, revision: 3, key: "a".into() }]);
            assert!(!tally.is_flawless(), "{rule:?}");
            let found = tally.flaws().into_iter().filter(|(_, count)| *count == 1).collect::<Vec<_>>();
            assert_eq!(found, [(flaw, 1)], "{rule:?}");
            assert_eq!(counts(&tally)[flaw], 1);
        }
    }
}
