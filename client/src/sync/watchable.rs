//! A value that changes, and whose changes tasks wait for.

use std::sync::{Arc, Mutex};

use super::{lock, wait_list::WaitList};

/// A value with a version. A waiter is told that it has changed, not how often.
///
/// Every version is kept for as long as it is read, so reading runs outside of the lock, and a value that is replaced
/// is dropped outside of it.
#[derive(Debug)]
pub struct Watchable<T> {
    current: Mutex<Arc<Version<T>>>,
    waiting: WaitList,
}

#[derive(Debug)]
struct Version<T> {
    value: T,
    number: u64,
}

impl<T: Clone> Watchable<T> {
    /// This value, as version 0.
    pub fn new(value: T) -> Self {
        Self { current: Mutex::new(Arc::new(Version { value, number: 0 })), waiting: WaitList::default() }
    }

    fn current(&self) -> Arc<Version<T>> {
        lock(&self.current).clone()
    }

    /// What `look` makes of the value, and the value's version.
    pub fn read<U>(&self, look: impl FnOnce(&T) -> U) -> (U, u64) {
        let current = self.current();
        (look(&current.value), current.number)
    }

    /// Changes the value; its new version. `change` gets a clone, so what it replaces is dropped with the version
    /// before, after unlocking. It must not use this value itself.
    pub fn change(&self, change: impl FnOnce(&mut T)) -> u64 {
        let (before, number) = {
            let mut current = lock(&self.current);
            let number = current.number + 1;
            let mut value = current.value.clone();
            change(&mut value);
            (std::mem::replace(&mut *current, Arc::new(Version { value, number })), number)
        };
        drop(before);
        self.waiting.wake_all();
        number
    }

    /// The tasks that wait for a change, for those that wait for something else at the same time.
    pub fn waiting(&self) -> &WaitList {
        &self.waiting
    }

    /// Waits until `found` finds what it looks for in the value; it is given the version too. Cancel-safe.
    pub async fn until<U>(&self, mut found: impl FnMut(&T, u64) -> Option<U>) -> U {
        let look = || {
            let current = self.current();
            found(&current.value, current.number)
        };
        self.waiting.until((), look).await
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Context};

    use futures_util::FutureExt;

    use super::*;
    use crate::testing::CountedWaker;

    type Shared = Arc<Watchable<Option<Arc<Reader>>>>;

    /// Reads the watchable it is in when it is dropped, as an application's value might.
    struct Reader(Arc<Mutex<Option<Shared>>>);

    impl Drop for Reader {
        fn drop(&mut self) {
            let watchable = lock(&self.0).clone();
            if let Some(watchable) = watchable {
                watchable.read(|_| ());
            }
        }
    }

    #[test]
    fn a_value_that_is_replaced_is_dropped_without_the_lock() {
        let own = Arc::default();
        let watchable = Arc::new(Watchable::new(Some(Arc::new(Reader(Arc::clone(&own))))));
        *lock(&own) = Some(watchable.clone());
        assert_eq!(watchable.change(|value| *value = None), 1);
        *lock(&own) = None;
    }

    #[test]
    fn a_wait_for_a_change_that_is_given_up_leaves_no_waker_behind() {
        let watchable = Watchable::new(0);
        let counted = CountedWaker::default();
        for _ in 0..100 {
            let mut wait = pin!(watchable.until(|&value, _| (value > 0).then_some(())));
            assert!(wait.as_mut().poll(&mut Context::from_waker(&counted.waker())).is_pending());
        }
        assert_eq!((watchable.waiting.len(), counted.alive()), (0, 0));
    }

    #[test]
    fn a_change_is_seen_with_its_version() {
        let watchable = Watchable::new(0);
        let mut wait = pin!(watchable.until(|&value, version| (value > 1).then_some((value, version))));
        assert_eq!(wait.as_mut().now_or_never(), None);
        watchable.change(|value| *value = 1);
        assert_eq!(wait.as_mut().now_or_never(), None);
        watchable.change(|value| *value = 2);
        assert_eq!(wait.now_or_never(), Some((2, 2)));
    }
}
