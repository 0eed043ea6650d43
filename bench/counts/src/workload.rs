//! What is counted, and how often.

use std::hint::black_box;

/// How many calls are counted together: collections that grow now and then count for a part.
pub const CALLS: u64 = 100;

/// Calls before those, so that the allocator and the workload's collections have grown to their size.
const WARM_UP_CALLS: u64 = 20;

/// The state of a workload.
pub trait Run {
    /// Makes ready for the next call. Not counted.
    fn prepare(&mut self) {}

    /// The call that is counted. Its result has to go to [`black_box`] or into `self`, or the compiler may leave the work
    /// out.
    fn call(&mut self);

    /// Panics unless the last call has done what is to be counted. Not counted.
    fn check(&self);
}

/// Makes all calls, of which only the last [`CALLS`] are counted.
pub fn run(mut workload: impl Run) {
    for call in 0..WARM_UP_CALLS + CALLS {
        workload.prepare();
        if call < WARM_UP_CALLS {
            black_box(&mut workload).call();
        } else {
            counted_call(&mut workload);
        }
        workload.check();
    }
    // The process ends anyway; to free a large machine piece by piece takes time.
    std::mem::forget(workload);
}

/// Callgrind and DHAT count while this function runs. They find it by its name.
#[inline(never)]
fn counted_call(workload: &mut dyn Run) {
    black_box(workload).call();
}

/// The pattern of its name.
pub const COUNTED: &str = "*counted_call*";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode::Decode, machine, of_streams, of_watches};

    /// Every workload checks after each call that it has done its work.
    #[test]
    fn every_workload_does_in_a_small_machine_what_it_counts() {
        run(Decode::of(100, 32));
        run(Decode::without_header(1, 256));
        run(Decode::of(1, 256).and_drop());
        for machine in [|| of_watches(1), || of_watches(1000), || of_streams(1), || of_streams(1000)] {
            run(machine::TakeIn::of(machine()));
            run(machine::Whole::of(machine()));
            run(machine::Take::of(machine()));
            run(machine::TakeNothing::of(machine()));
            run(machine::Progress::of(machine()));
            run(machine::AskStats::of(machine()));
            run(machine::Export::of(machine()));
            run(machine::PollTimeout::of(machine()));
        }
        // On a stream that is open.
        for machine in [|| of_watches(1), || of_watches(1000)] {
            run(machine::Open::of(machine()));
            run(machine::TakeInCreated::of(machine()));
        }
    }
}
