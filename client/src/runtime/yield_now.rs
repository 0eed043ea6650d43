//! Letting others have their turn.

use std::{future::poll_fn, task::Poll};

/// Completes when it is polled for the second time, which is soon.
pub(crate) async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
