//! The workloads: what is counted.

use std::hint::black_box;

use crate::decode;

/// One thing to count.
pub(crate) struct Workload {
    /// Unique; words of it select the workload on the command line.
    pub(crate) name: &'static str,
    /// The units of the result, and how many of each one [`Run::call`] handles. Each has a line in the table.
    pub(crate) units: &'static [(&'static str, u32)],
    /// Makes the workload's state. Not counted.
    pub(crate) start: fn() -> Box<dyn Run>,
}

/// The state of a workload.
pub(crate) trait Run {
    /// Makes ready for the next call, and drops the results of the last one. Not counted.
    fn prepare(&mut self) {}

    /// The call that is counted. It keeps its result in `self`, or hands it to [`black_box`], so that the
    /// compiler can't leave the work out.
    fn call(&mut self);
}

/// The modules that have workloads, in the table's order.
const MODULES: &[&[Workload]] = &[decode::WORKLOADS];

/// How many calls are counted; the result is their mean.
pub(crate) const CALLS: u32 = 100;

/// Calls before those, so that the allocator and the workload's collections have grown to their size.
const WARM_UP_CALLS: u32 = 20;

/// The cost of counting itself, to be subtracted.
pub(crate) static NOTHING: Workload = Workload { name: "nothing", units: &[], start: || Box::new(Nothing) };

struct Nothing;

impl Run for Nothing {
    fn call(&mut self) {}
}

/// All workloads.
pub(crate) fn workloads() -> impl Iterator<Item = &'static Workload> {
    MODULES.iter().copied().flatten()
}

impl Workload {
    /// Makes the calls. Under callgrind those through [`counted_call`] are counted.
    pub(crate) fn run(&self) {
        let mut state = (self.start)();
        for _ in 0..WARM_UP_CALLS {
            state.prepare();
            black_box(&mut state).call();
        }
        for _ in 0..CALLS {
            state.prepare();
            counted_call(&mut *state);
        }
    }
}

/// Callgrind counts while this function runs: it finds it by its name.
#[inline(never)]
fn counted_call(state: &mut dyn Run) {
    black_box(state).call();
}

/// The name of [`counted_call`], as callgrind's patterns have it.
pub(crate) const COUNTED: &str = "*counted_call*";
