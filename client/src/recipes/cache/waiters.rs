//! Those who wait for the cache to come somewhere.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::Mutex,
    task::{Poll, Waker},
};

use crate::sync::lock;

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
pub(super) struct Waiters(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    waiting: BTreeMap<u64, (Wants, Waker)>,
}

impl Waiters {
    /// Completes once `look` finds something. `begin` is called after this waiter counts as waiting.
    pub(super) async fn wait<T>(
        &self,
        wants: Wants,
        begin: impl Fn(),
        mut look: impl FnMut() -> Option<T>,
    ) -> T {
        let mut place = Place { waiters: self, id: None };
        poll_fn(|cx| {
            let is_new = place.id.is_none();
            place.register(wants, cx.waker());
            if let Some(found) = look() {
                return Poll::Ready(found);
            }
            if is_new {
                begin();
            }
            Poll::Pending
        })
        .await
    }

    /// Wakes those who want what is true of `is_there`.
    pub(super) fn wake(&self, is_there: impl Fn(Wants) -> bool) {
        let woken: Vec<Waker> = {
            let state = lock(&self.0);
            let there = state.waiting.values().filter(|(wants, _)| is_there(*wants));
            there.map(|(_, waker)| waker.clone()).collect()
        };
        woken.into_iter().for_each(Waker::wake);
    }

    /// The highest revision that is waited for.
    pub(super) fn highest(&self) -> Option<i64> {
        let revision = |wants| if let Wants::Revision(revision) = wants { Some(revision) } else { None };
        lock(&self.0).waiting.values().filter_map(|(wants, _)| revision(*wants)).max()
    }
}

/// A waiter's place; given up when it is dropped.
struct Place<'a> {
    waiters: &'a Waiters,
    id: Option<u64>,
}

impl Place<'_> {
    fn register(&mut self, wants: Wants, waker: &Waker) {
        let mut state = lock(&self.waiters.0);
        let id = *self.id.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        state.waiting.insert(id, (wants, waker.clone()));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            lock(&self.waiters.0).waiting.remove(&id);
        }
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
        }
        assert_eq!(waiters.highest(), None);
    }
}
