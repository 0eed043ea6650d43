//! A value that others can wait on.

use std::{
    future::poll_fn,
    sync::Mutex,
    task::{Poll, Waker},
};

use crate::sync::lock;

/// A value with a version. Whoever waits is told that it has changed, not how often.
#[derive(Debug)]
pub(crate) struct Watchable<T>(Mutex<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    value: T,
    version: u64,
    waiting: Vec<Waker>,
}

impl<T> Watchable<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(Inner { value, version: 0, waiting: Vec::new() }))
    }

    /// What `look` makes of the value, and the value's version.
    pub(crate) fn read<U>(&self, look: impl FnOnce(&T) -> U) -> (U, u64) {
        let inner = lock(&self.0);
        (look(&inner.value), inner.version)
    }

    /// Changes the value; its new version.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T)) -> u64 {
        let (waiting, version) = {
            let mut inner = lock(&self.0);
            change(&mut inner.value);
            inner.version += 1;
            (std::mem::take(&mut inner.waiting), inner.version)
        };
        waiting.into_iter().for_each(Waker::wake);
        version
    }

    /// Waits until `found` finds what it looks for in the value; it is given the version too. Cancel-safe.
    pub(crate) async fn until<U>(&self, mut found: impl FnMut(&T, u64) -> Option<U>) -> U {
        poll_fn(|cx| {
            let mut inner = lock(&self.0);
            if let Some(found) = found(&inner.value, inner.version) {
                return Poll::Ready(found);
            }
            if !inner.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                inner.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}
