//! What has been counted: as lines, as tables, and against its limits.

use std::fmt::{self, Write};

use anyhow::{Result, bail};

use crate::workload::{CALLS, Case, SECTIONS, Section, Unit, Workload};

/// A count at the largest size of a section may be so many times the one at the smallest.
const GROWTH: f64 = 1.5;

/// A workload, and what was counted.
pub(crate) struct Counted {
    case: Case,
    /// Instructions of one call, on average.
    per_call: f64,
}

impl Counted {
    /// `instructions` are those of all calls.
    pub(crate) fn new(case: Case, instructions: u64) -> Self {
        Self { case, per_call: instructions as f64 / f64::from(CALLS) }
    }

    fn per(&self, unit: &Unit) -> f64 {
        self.per_call / f64::from(unit.of)
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.case.workload.units.iter().try_for_each(|unit| {
            writeln!(f, "{:<52} {:>10.1} per {}", self.case.to_string(), self.per(unit), unit.name)
        })
    }
}

/// The counts at all sizes of one workload, the smallest size first.
fn at_sizes<'a>(counted: &'a [Counted], section: &Section, workload: &Workload) -> Vec<&'a Counted> {
    let is_of = |counted: &&Counted| {
        counted.case.section.of == section.of && counted.case.workload.name == workload.name
    };
    counted.iter().filter(is_of).collect()
}

/// How many times the count at the smallest size the one at the largest is, if both were counted.
fn growth(sizes: &[&Counted], section: &Section) -> Option<f64> {
    match sizes {
        [first, .., last] if sizes.len() == section.sizes.len() => Some(last.per_call / first.per_call),
        _ => None,
    }
}

/// Compares the counts with their limits.
///
/// # Errors
/// One is above its ceiling, or grows with the size of the machine.
pub(crate) fn check(counted: &[Counted]) -> Result<()> {
    let mut broken = String::new();
    for one in counted {
        for unit in one.case.workload.units {
            let (each, ceiling) = (one.per(unit), unit.ceiling);
            if each > f64::from(ceiling) {
                let _ = writeln!(broken, "{}: {each:.1} per {}, at most {ceiling}", one.case, unit.name);
            }
        }
    }
    for section in SECTIONS {
        for workload in section.workloads {
            let sizes = at_sizes(counted, section, workload);
            if let Some(growth) = growth(&sizes, section).filter(|&growth| growth > GROWTH) {
                let (name, [_, of]) = (workload.name, section.of);
                let _ = writeln!(
                    broken,
                    "{name}: grows {growth:.2} times with the number of {of}, at most {GROWTH}"
                );
            }
        }
    }
    if !broken.is_empty() {
        bail!(
            "counts beyond their limits (a change that is worth it raises the limit beside its workload):\n{broken}"
        );
    }
    Ok(())
}

/// The counts as tables.
pub(crate) fn markdown(counted: &[Counted]) -> String {
    let mut tables = Vec::new();
    for section in SECTIONS {
        let mut rows = String::new();
        for workload in section.workloads {
            let sizes = at_sizes(counted, section, workload);
            for unit in workload.units.iter().filter(|_| sizes.len() == section.sizes.len()) {
                let _ = writeln!(rows, "{}", row(section, workload, unit, &sizes));
            }
        }
        if !rows.is_empty() {
            tables.push(head(section) + &rows);
        }
    }
    tables.join("\n")
}

fn head(section: &Section) -> String {
    let sizes = section.sizes.iter();
    let (counts, growth) = match section.sizes {
        [_] => (" instructions |".to_owned(), ""),
        _ => {
            let name = |&size: &usize| format!(" {} |", section.size(size));
            (sizes.clone().map(name).collect(), " growth |")
        }
    };
    let columns = sizes.len() + usize::from(!growth.is_empty()) + 2;
    format!("| call | per |{counts}{growth} goal | ceiling |\n|---|---|{}\n", "--:|".repeat(columns))
}

fn row(section: &Section, workload: &Workload, unit: &Unit, sizes: &[&Counted]) -> String {
    let counts: String = sizes.iter().map(|counted| format!(" {:.0} |", counted.per(unit))).collect();
    let growth = if sizes.len() > 1 { growth(sizes, section) } else { None };
    let growth = growth.map(|growth| format!(" {growth:.2} |")).unwrap_or_default();
    let goal = unit.goal.map(|goal| format!("{goal}")).unwrap_or_default();
    format!("| {} | {} |{counts}{growth} {goal} | {} |", workload.name, unit.name, unit.ceiling)
}
