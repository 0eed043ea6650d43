//! A value that is set once, and waited for by any number.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll, Waker},
};

use crate::sync::lock;

/// A value that is set once.
#[derive(Debug)]
pub(crate) struct Latch<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    value: Option<T>,
    waiting: BTreeMap<u64, Waker>,
    next: u64,
}

impl<T> Default for Latch<T> {
    fn default() -> Self {
        Self(Mutex::new(State { value: None, waiting: BTreeMap::new(), next: 0 }))
    }
}

impl<T: Clone> Latch<T> {
    /// Sets the value and wakes who waits for it. Says whether it was the first: later ones change nothing.
    pub(crate) fn set(&self, value: T) -> bool {
        let waiting = {
            let mut state = lock(&self.0);
            if state.value.is_some() {
                return false;
            }
            state.value = Some(value);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
        true
    }

    pub(crate) fn get(&self) -> Option<T> {
        lock(&self.0).value.clone()
    }

    /// Completes with the value. Leaves nothing behind when it is dropped: a latch may live for long and be
    /// waited for often.
    pub(crate) fn wait(&self) -> Wait<'_, T> {
        Wait { latch: self, id: None }
    }
}

#[derive(Debug)]
pub(crate) struct Wait<'a, T> {
    latch: &'a Latch<T>,
    id: Option<u64>,
}

impl<T: Clone> Future for Wait<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let latch = self.latch;
        let mut state = lock(&latch.0);
        if let Some(value) = &state.value {
            return Poll::Ready(value.clone());
        }
        let id = *self.id.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        state.waiting.insert(id, cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Wait<'_, T> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            lock(&self.latch.0).waiting.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_first_value_stays() {
        let latch = Latch::default();
        assert_eq!((latch.get(), latch.wait().now_or_never()), (None, None));
        assert!(latch.set(1));
        assert!(!latch.set(2));
        assert_eq!((latch.get(), latch.wait().now_or_never()), (Some(1), Some(1)));
    }

    #[test]
    fn a_wait_given_up_leaves_nothing_behind() {
        let latch = Latch::<()>::default();
        let mut waits = [latch.wait(), latch.wait()];
        for wait in &mut waits {
            assert!(wait.now_or_never().is_none());
        }
        assert_eq!(lock(&latch.0).waiting.len(), 2);
        drop(waits);
        assert!(lock(&latch.0).waiting.is_empty());
    }
}
