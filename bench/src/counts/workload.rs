//! The workloads: what is counted.

use std::{fmt, hint::black_box};

use crate::{decode, machine};

/// Workloads that are counted in machines of the same sizes.
pub(crate) struct Section {
    /// What grows from size to size, in the singular and the plural; of a section with one size, what the workloads
    /// have in common.
    pub(crate) of: [&'static str; 2],
    /// The sizes, the smallest first. Each workload is counted at each of them.
    pub(crate) sizes: &'static [usize],
    /// In the table's order.
    pub(crate) workloads: &'static [Workload],
}

/// One thing to count.
pub(crate) struct Workload {
    /// Unique in its section; words of it select the workload on the command line.
    pub(crate) name: &'static str,
    /// The units of the result. Each has a line in the table.
    pub(crate) units: &'static [Unit],
    /// `--check` fails if a call asks the allocator for memory more often than this, on average. A queue that grows now
    /// and then counts for a part.
    pub(crate) allocations: f64,
    /// Makes the workload's state at a size. Not counted.
    pub(crate) start: fn(usize) -> Box<dyn Run>,
}

/// In which a workload's result is told.
pub(crate) struct Unit {
    /// In the singular.
    pub(crate) name: &'static str,
    /// How many of them each [`Run::call`] handles.
    pub(crate) of: u32,
    /// Instructions that each ought to take at most.
    pub(crate) goal: Option<u32>,
    /// `--check` fails above so many instructions. It is the goal, or else 1.15 times a measured count: room for
    /// another C library and for small changes.
    pub(crate) ceiling: u32,
}

/// The state of a workload.
pub(crate) trait Run {
    /// Makes ready for the next call. Not counted.
    fn prepare(&mut self) {}

    /// The call that is counted. Its result has to go to [`black_box`], [`drop_uncounted`] or into `self`, or
    /// the compiler may leave the work out.
    fn call(&mut self);

    /// Panics unless the last call has done what is to be counted. Not counted.
    fn check(&self);
}

/// A workload at one of its section's sizes.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) section: &'static Section,
    pub(crate) workload: &'static Workload,
    pub(crate) size: usize,
}

/// All sections, in the table's order.
pub(crate) const SECTIONS: &[&Section] = &[&decode::OF_FRAMES, &machine::OF_WATCHES, &machine::OF_STREAMS];

/// How many calls are counted; the result is their mean.
pub(crate) const CALLS: u32 = 100;

/// Calls before those, so that the allocator and the workload's collections have grown to their size.
const WARM_UP_CALLS: u32 = 20;

/// The cost of counting itself, to be subtracted.
pub(crate) static NOTHING: Case = Case {
    section: &Section { of: ["", ""], sizes: &[1], workloads: &[] },
    workload: &Workload { name: "nothing", units: &[], allocations: 0.0, start: |_| Box::new(Nothing) },
    size: 1,
};

struct Nothing;

impl Run for Nothing {
    fn call(&mut self) {}

    fn check(&self) {}
}

/// All workloads, at all their sizes.
pub(crate) fn cases() -> impl Iterator<Item = Case> {
    SECTIONS.iter().flat_map(|&section| {
        let at = move |workload| section.sizes.iter().map(move |&size| Case { section, workload, size });
        section.workloads.iter().flat_map(at)
    })
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { section, workload, size } = *self;
        match section.sizes {
            [_] => f.write_str(workload.name),
            _ => write!(f, "{}, {}", workload.name, section.size(size)),
        }
    }
}

impl Section {
    /// A size in words.
    pub(crate) fn size(&self, size: usize) -> String {
        let [one, many] = self.of;
        format!("{} {}", Thousands(size), if size == 1 { one } else { many })
    }
}

/// A number with a comma between every three digits.
struct Thousands(usize);

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1000 {
            return write!(f, "{}", self.0);
        }
        write!(f, "{},{:03}", Self(self.0 / 1000), self.0 % 1000)
    }
}

impl Case {
    /// Makes the calls.
    pub(crate) fn run(self) {
        let mut state = (self.workload.start)(self.size);
        for call in 0..WARM_UP_CALLS + CALLS {
            if call == WARM_UP_CALLS {
                end_warm_up();
            }
            state.prepare();
            counted_call(&mut *state);
            state.check();
        }
        // The process ends anyway; to free a large machine piece by piece takes time.
        std::mem::forget(state);
    }
}

// Callgrind finds these functions by their names.

/// Callgrind sets its counters to zero before this.
#[inline(never)]
fn end_warm_up() {
    black_box(());
}

/// Callgrind counts while this function runs.
#[inline(never)]
fn counted_call(state: &mut dyn Run) {
    black_box(state).call();
}

/// For use in a counted call: drops a result without counting that.
#[inline(never)]
pub(crate) fn drop_uncounted<T>(result: T) {
    drop(black_box(result));
}

/// The options for callgrind to that end. Where a function of a toggle begins or ends, it starts or stops to count.
pub(crate) const OPTIONS: [&str; 7] = [
    "--collect-atstart=no",
    "--toggle-collect=*counted_call*",
    "--toggle-collect=*drop_uncounted*",
    "--zero-before=*end_warm_up*",
    // The report is to be read by the line.
    "--dump-instr=yes",
    "--compress-pos=no",
    "--compress-strings=no",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_case_is_found_by_its_own_name() {
        let names: BTreeSet<String> = cases().map(|case| case.to_string()).collect();
        assert_eq!(names.len(), cases().count());
    }

    #[test]
    fn every_workload_does_in_a_small_machine_what_it_counts() {
        cases().filter(|case| case.size <= 1000).for_each(Case::run);
    }

    #[test]
    fn long_numbers_are_told_with_commas() {
        let told = [0, 999, 1000, 1_234_567].map(|number| Thousands(number).to_string());
        assert_eq!(told, ["0", "999", "1,000", "1,234,567"]);
    }
}
