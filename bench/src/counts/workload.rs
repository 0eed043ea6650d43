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
    /// Makes ready for the next call. Not counted.
    fn prepare(&mut self) {}

    /// The call that is counted. Its result has to go to [`black_box`], [`drop_uncounted`] or into `self`, or
    /// the compiler may leave the work out.
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
    /// Makes the calls.
    pub(crate) fn run(&self) {
        let mut state = (self.start)();
        for call in 0..WARM_UP_CALLS + CALLS {
            if call == WARM_UP_CALLS {
                end_warm_up();
            }
            state.prepare();
            counted_call(&mut *state);
        }
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
pub(crate) const OPTIONS: [&str; 4] = [
    "--collect-atstart=no",
    "--toggle-collect=*counted_call*",
    "--toggle-collect=*drop_uncounted*",
    "--zero-before=*end_warm_up*",
];
