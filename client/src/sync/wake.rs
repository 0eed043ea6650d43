//! Waking tasks.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
};

/// Wakes a task. Not to be called under a lock: what a waker does is up to the executor that made it.
///
/// A panic of the waker ends here. It is a fault of that executor, and neither the other tasks to be woken nor whoever
/// wakes them (the driver of all watches, say) are to suffer from it.
fn wake(waker: Waker) {
    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
        tracing::error!(name: "waker_panicked", "a waker panicked; its task may never run again");
    }
}

/// Wakes tasks, in this order. Not to be called under a lock. A waker that panics keeps no other task asleep.
pub fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(wake);
}
