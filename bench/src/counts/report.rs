//! What has been counted: as lines, as tables, and against its limits.

use std::fmt;

use anyhow::{Result, ensure};

use crate::{
    callgrind::Totals,
    workload::{CALLS, Case, SECTIONS, Section, Unit, Workload},
};

/// A count at the largest size of a section may be so many times the one at the smallest.
const GROWTH: f64 = 1.5;

/// A workload, and what was counted.
pub(crate) struct Counted {
    case: Case,
    /// Instructions of one call, on average.
    per_call: f64,
    /// How often one call asks for memory, on average.
    allocations: f64,
}

impl Counted {
    /// The totals are those of all calls, `overhead` is what the counting itself takes.
    pub(crate) fn new(case: Case, totals: Totals, overhead: Totals) -> Self {
        let per_call = |total: u64, overhead| total.saturating_sub(overhead) as f64 / f64::from(CALLS);
        Self {
            case,
            per_call: per_call(totals.instructions, overhead.instructions),
            allocations: per_call(totals.allocations, overhead.allocations),
        }
    }

    fn per(&self, unit: &Unit) -> f64 {
        self.per_call / f64::from(unit.of)
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.case.to_string();
        self.case
            .workload
            .units
            .iter()
            .try_for_each(|unit| writeln!(f, "{name:<64} {:>10.1} per {}", self.per(unit), unit.name))?;
        writeln!(f, "{name:<64} {:>10.2} allocations per call", self.allocations)
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
    let broken: Vec<String> =
        too_many(counted).chain(too_many_allocations(counted)).chain(too_much_growth(counted)).collect();
    ensure!(
        broken.is_empty(),
        "counts beyond their limits, which are in bench/src/counts beside each workload:\n{}",
        broken.join("\n")
    );
    Ok(())
}

fn too_many(counted: &[Counted]) -> impl Iterator<Item = String> {
    let units = counted.iter().flat_map(|one| one.case.workload.units.iter().map(move |unit| (one, unit)));
    units.filter(|(one, unit)| one.per(unit) > f64::from(unit.ceiling)).map(|(one, unit)| {
        format!("{}: {:.1} per {}, at most {}", one.case, one.per(unit), unit.name, unit.ceiling)
    })
}

fn too_many_allocations(counted: &[Counted]) -> impl Iterator<Item = String> {
    counted.iter().filter(|one| one.allocations > one.case.workload.allocations).map(|one| {
        let (made, most) = (one.allocations, one.case.workload.allocations);
        format!("{}: {made:.2} allocations per call, at most {most}", one.case)
    })
}

fn too_much_growth(counted: &[Counted]) -> impl Iterator<Item = String> {
    workloads().filter_map(move |(section, workload)| {
        let growth = growth(&at_sizes(counted, section, workload), section)?;
        let [_, of] = section.of;
        let is_broken = growth > GROWTH;
        is_broken.then(|| format!("{}: x {growth:.2} with more {of}, at most x {GROWTH}", workload.name))
    })
}

fn workloads() -> impl Iterator<Item = (&'static Section, &'static Workload)> {
    SECTIONS.iter().flat_map(|&section| section.workloads.iter().map(move |workload| (section, workload)))
}

/// The counts as tables, one for each section. Workloads that were not counted at all sizes are left out.
pub(crate) fn markdown(counted: &[Counted]) -> String {
    let tables = SECTIONS.iter().filter_map(|section| {
        let rows: String =
            section.workloads.iter().map(|workload| rows(section, workload, counted)).collect();
        (!rows.is_empty()).then(|| head(section) + &rows)
    });
    tables.collect::<Vec<_>>().join("\n")
}

fn head(section: &Section) -> String {
    let columns: Vec<String> = match section.sizes {
        [_] => ["instructions", "goal", "ceiling", "allocations"].map(str::to_owned).into(),
        sizes => {
            let limits = ["growth", "ceiling", "allocations"].map(str::to_owned);
            sizes.iter().map(|&size| section.size(size)).chain(limits).collect()
        }
    };
    format!("| call | per | {} |\n|---|---|{}\n", columns.join(" | "), "--:|".repeat(columns.len()))
}

fn rows(section: &Section, workload: &Workload, counted: &[Counted]) -> String {
    let sizes = at_sizes(counted, section, workload);
    if sizes.len() < section.sizes.len() {
        return String::new();
    }
    let middle = |unit: &Unit| match growth(&sizes, section) {
        Some(growth) => format!("x {growth:.2}"),
        None => unit.goal.map(|goal| format!("{goal}")).unwrap_or_default(),
    };
    // The most of all sizes; per call, and so told once.
    let allocations = sizes.iter().map(|counted| counted.allocations).fold(0.0, f64::max);
    let row = |(index, unit): (usize, &Unit)| {
        let counts: String = sizes.iter().map(|counted| format!("{:.0} | ", counted.per(unit))).collect();
        let (name, per, ceiling) = (workload.name, unit.name, unit.ceiling);
        let allocations = if index == 0 { format!("{allocations:.2}") } else { String::new() };
        format!("| {name} | {per} | {counts}{} | {ceiling} | {allocations} |\n", middle(unit))
    };
    workload.units.iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::cases;

    /// All cases, with so many instructions in a call.
    fn counted(per_call: impl Fn(Case) -> f64) -> Vec<Counted> {
        cases().map(|case| Counted { case, per_call: per_call(case), allocations: 0.0 }).collect()
    }

    #[test]
    fn a_count_above_its_ceiling_is_told_with_both() {
        assert!(check(&counted(|_| 1.0)).is_ok());
        let slow = cases().find(|case| case.size == 1000).expect("a case of this size").to_string();
        let told = check(&counted(|case| if case.to_string() == slow { 1e6 } else { 1.0 }));
        let told = told.expect_err("it is above its ceiling").to_string();
        assert!(told.contains(&slow) && told.contains("1000000.0 per"), "{told}");
        assert_eq!(told.lines().count(), 2, "{told}");
    }

    #[test]
    fn more_allocations_than_a_call_may_make_are_told_with_both() {
        let mut all = counted(|_| 1.0);
        for one in &mut all {
            one.allocations = one.case.workload.allocations;
        }
        assert!(check(&all).is_ok());
        all[0].allocations += 0.5;
        let told = check(&all).expect_err("they are too many").to_string();
        assert_eq!(told.lines().count(), 2, "{told}");
        let (made, most) = (all[0].allocations, all[0].case.workload.allocations);
        let both = format!("{}: {made:.2} allocations per call, at most {most}", all[0].case);
        assert!(told.contains(&both), "{told}");
    }

    #[test]
    fn growth_from_the_smallest_size_to_the_largest_is_told() {
        let last = |case: Case| case.section.sizes.len() > 1 && case.section.sizes.last() == Some(&case.size);
        assert!(check(&counted(|case| if last(case) { 1.5 } else { 1.0 })).is_ok());
        let told = check(&counted(|case| if last(case) { 1.6 } else { 1.0 }));
        let told = told.expect_err("all grow").to_string();
        let sized = workloads().filter(|(section, _)| section.sizes.len() > 1);
        assert_eq!(told.matches("x 1.60").count(), sized.count(), "{told}");
    }

    #[test]
    fn each_unit_has_its_row_and_what_was_not_counted_has_none() {
        let all = counted(|_| 1.0);
        let units: usize = workloads().map(|(_, workload)| workload.units.len()).sum();
        let lines = units + 3 * SECTIONS.len() - 1;
        assert_eq!(markdown(&all).lines().count(), lines);
        assert_eq!(markdown(&[]), "");
    }
}
