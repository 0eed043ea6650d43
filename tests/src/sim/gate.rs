//! Tasks of a host: they run while it does.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::core::{Core, words};
use super::host::{HostState, Turn};
use super::report::Cause;

/// A future of a host: it is polled only while the host runs, and dropped when the host's process is killed. Then it
/// completes with `None`.
pub(super) struct Gate<F> {
    core: Arc<Core>,
    host: Arc<HostState>,
    /// The process it belongs to.
    life: u64,
    id: u64,
    future: Option<Pin<Box<F>>>,
}

impl<F> Gate<F> {
    pub(super) fn new(core: Arc<Core>, host: Arc<HostState>, life: u64, future: F) -> Self {
        let id = host.enter();
        Self { core, host, life, id, future: Some(Box::pin(future)) }
    }
}

impl<F: Future> Future for Gate<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.core.polled();
        match this.host.turn(this.id, this.life, cx.waker()) {
            Turn::Wait => return Poll::Pending,
            Turn::Killed => {
                this.future = None;
                return Poll::Ready(None);
            }
            Turn::Run => {}
        }
        let Some(future) = &mut this.future else { return Poll::Ready(None) };
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Some),
            Err(panic) => {
                this.core.fail(Cause::Panic(words(&*panic)));
                resume_unwind(panic)
            }
        }
    }
}

impl<F> Drop for Gate<F> {
    fn drop(&mut self) {
        self.host.leave(self.id);
    }
}
