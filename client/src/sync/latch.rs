//! A value that is set once, and that any number of tasks wait for.

use std::{
    future::Future,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
};

use super::wait_list::{WaitList, Waiter};

/// A value that is set once, and that any number of tasks wait for.
#[derive(Debug)]
pub struct Latch<T> {
    value: OnceLock<T>,
    waiting: WaitList,
}

impl<T> Default for Latch<T> {
    fn default() -> Self {
        Self { value: OnceLock::new(), waiting: WaitList::default() }
    }
}

impl<T: Clone> Latch<T> {
    /// Sets the value and wakes the tasks that wait for it. Says whether it was the first: later ones change nothing.
    pub fn set(&self, value: T) -> bool {
        let is_first = self.value.set(value).is_ok();
        if is_first {
            self.waiting.wake_all();
        }
        is_first
    }

    /// The value, if it has been set.
    pub fn get(&self) -> Option<T> {
        self.value.get().cloned()
    }

    /// The tasks that wait for it, for those that wait for something else at the same time.
    pub fn waiting(&self) -> &WaitList {
        &self.waiting
    }

    /// Completes with the value. Cancel-safe.
    pub fn wait(&self) -> LatchWait<'_, T> {
        LatchWait { latch: self, waiter: self.waiting.waiter(()) }
    }
}

/// Waits for the value of a [`Latch`].
#[derive(Debug)]
#[must_use = "it does nothing unless it is awaited"]
pub struct LatchWait<'a, T> {
    latch: &'a Latch<T>,
    waiter: Waiter<'a, ()>,
}

impl<T: Clone> Future for LatchWait<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let latch = self.latch;
        self.waiter.poll_until(cx, &mut || latch.get())
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
        assert_eq!(latch.waiting.len(), 2);
        drop(waits);
        assert_eq!(latch.waiting.len(), 0);
    }
}
