//! The property tests for users: correct consumers pass, each classic bug is found and made small, and the
//! default histories contain what a consumer has to cope with.

mod coverage;
mod failures;
mod mirrors;
mod watches;

use etcd_watch_testkit::lawful::{Broken, Failure};

/// The bug was found, by the consumer's own check, and the history is short.
fn assert_small(failure: &Failure, steps: usize) {
    let (_, cases) = failure.found_by().expect("it was searched for");
    let few = failure.history().steps().len();
    let is_checked = matches!(failure.broken(), Broken::Check { .. } | Broken::Between { .. });
    assert!(is_checked && few <= steps, "{few} steps, of history {cases}:\n{failure}");
}
