//! Time limits and pauses, on runtimes that may shut down meanwhile.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use etcd_watch_core::Instant;

use crate::Runtime;

/// The runtime that a client was built on has shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the async runtime that the client was built on has shut down")]
pub struct RuntimeGone;

/// The future's output, or `None` once `limit` is over.
pub async fn timeout<F: Future>(runtime: &dyn Runtime, limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut sleep = runtime.sleep(limit);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        sleep.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// Waits. A loop that waits by this ends with its runtime, rather than going round without a pause.
///
/// # Errors
/// The runtime has shut down.
pub async fn pause(runtime: &dyn Runtime, duration: Duration) -> Result<(), RuntimeGone> {
    let began = runtime.now();
    runtime.sleep(duration).await;
    if rang_too_early(runtime, began, duration) { Err(RuntimeGone) } else { Ok(()) }
}

/// Whether a timer that has rung says that the runtime is gone: on such a runtime timers ring at once. Half of the time
/// is left to timers that are not exact.
pub(crate) fn rang_too_early(runtime: &dyn Runtime, began: Instant, duration: Duration) -> bool {
    runtime.now().since(began) < duration / 2
}
