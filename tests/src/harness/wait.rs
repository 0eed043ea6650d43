//! Waiting for a condition, with a deadline: never a sleep that hopes things have settled.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How often a condition is looked at; well below what a test would notice.
pub(super) const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds, letting the runtime's other tasks run.
///
/// # Panics
/// With `what` was waited for, if it doesn't hold within `deadline`.
pub async fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(Instant::now() < end, "waited {deadline:?} in vain until {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The same, blocking the thread.
///
/// # Panics
/// With `what` was waited for, if it doesn't hold within `deadline`.
pub fn wait_until_blocking(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(Instant::now() < end, "waited {deadline:?} in vain until {what}");
        thread::sleep(INTERVAL);
    }
}
