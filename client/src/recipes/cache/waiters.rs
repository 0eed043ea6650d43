//! The tasks that wait for the cache to come somewhere.

use std::{future::poll_fn, task::Poll};

use crate::toolkit::WaitList;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// The first state.
    Ready,
    /// A revision.
    Revision(i64),
    /// A read of the store's revision that was begun after this many had been asked for.
    Read(u64),
    /// The end.
    End,
}

#[derive(Debug, Default)]
pub(super) struct Waiters(WaitList<Wants>);

impl Waiters {
    /// Completes once `look` finds something. `begin` is called once this waiter is in the list, unless it doesn't
    /// have to wait at all.
    pub(super) async fn wait<T>(
        &self,
        wants: Wants,
        begin: impl Fn(),
        mut look: impl FnMut() -> Option<T>,
    ) -> T {
        let mut waiter = self.0.waiter(wants);
        poll_fn(|cx| {
            if let Some(found) = look() {
                return Poll::Ready(found);
            }
            if waiter.register(cx.waker()) {
                begin();
            }
            look().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Wakes the waiters whose target satisfies `is_there`.
    pub(super) fn wake(&self, is_there: impl Fn(Wants) -> bool) {
        self.0.wake_if(is_there);
    }

    /// The highest revision that is waited for.
    pub(super) fn highest(&self) -> Option<i64> {
        self.0.max(|wants| if let Wants::Revision(revision) = wants { Some(revision) } else { None })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_wait_given_up_wants_nothing_any_more() {
        let waiters = Waiters::default();
        {
            let mut waits = [3, 9, 5]
                .map(|revision| Box::pin(waiters.wait(Wants::Revision(revision), || {}, || None::<()>)));
            waits.iter_mut().for_each(|wait| assert!(wait.now_or_never().is_none()));
            assert_eq!(waiters.highest(), Some(9));
            waiters.wake(|_| true);
            assert_eq!(waiters.highest(), Some(9), "a woken waiter wants it until it has looked");
        }
        assert_eq!(waiters.highest(), None);
    }
}
