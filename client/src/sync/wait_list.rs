//! Lists of tasks that wait.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::Mutex,
    task::{Context, Poll, Waker},
};

use crate::sync::{lock, wake_all};

/// The tasks that wait for some state to change, each with a target of type `T`.
///
/// The list has a lock of its own, and the state it belongs to is not under it. Two rules make sure that no change is
/// missed: a waiter registers before it looks at the state, and whoever changes the state wakes afterwards.
///
/// A waker is the code of another executor, so it is cloned, woken and dropped outside of the lock. A waiter that is
/// dropped leaves nothing behind.
#[derive(Debug)]
pub struct WaitList<T = ()>(Mutex<Slots<T>>);

#[derive(Debug)]
struct Slots<T> {
    next: u64,
    waiting: BTreeMap<u64, Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    target: T,
    /// `None` from when the task is woken until it registers again.
    waker: Option<Waker>,
}

impl<T> Default for WaitList<T> {
    fn default() -> Self {
        Self(Mutex::new(Slots { next: 0, waiting: BTreeMap::new() }))
    }
}

impl<T: Copy> WaitList<T> {
    /// A waiter, which is in the list from its first registration until it is dropped.
    pub fn waiter(&self, target: T) -> Waiter<'_, T> {
        Waiter { list: self, target, id: None }
    }

    /// Completes once `look` finds something. It is called outside of the list's lock, after each wake. Cancel-safe.
    pub async fn until<U>(&self, target: T, mut look: impl FnMut() -> Option<U>) -> U {
        let mut waiter = self.waiter(target);
        poll_fn(|cx| waiter.poll_until(cx, &mut look)).await
    }

    /// Wakes the waiters whose target satisfies `is_reached`, in the order in which they came. `is_reached` must not use
    /// this list itself.
    pub fn wake_if(&self, is_reached: impl Fn(T) -> bool) {
        let woken: Vec<Waker> = {
            let mut slots = lock(&self.0);
            let reached = slots.waiting.values_mut().filter(|slot| is_reached(slot.target));
            reached.filter_map(|slot| slot.waker.take()).collect()
        };
        wake_all(woken);
    }

    /// Wakes all waiters.
    pub fn wake_all(&self) {
        self.wake_if(|_| true);
    }

    /// The greatest of what `measure` makes of the targets. `measure` must not use this list itself.
    pub fn max<U: Ord>(&self, measure: impl Fn(T) -> Option<U>) -> Option<U> {
        lock(&self.0).waiting.values().filter_map(|slot| measure(slot.target)).max()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.0).waiting.len()
    }
}

/// One task's place in a [`WaitList`]. Dropping it frees the place.
#[derive(Debug)]
pub struct Waiter<'a, T> {
    list: &'a WaitList<T>,
    target: T,
    id: Option<u64>,
}

impl<T: Copy> Waiter<'_, T> {
    /// Has the list wake this task from now on. Says whether the waiter was new to the list.
    pub fn register(&mut self, waker: &Waker) -> bool {
        let waker = waker.clone();
        let is_new = self.id.is_none();
        let replaced = {
            let mut slots = lock(&self.list.0);
            let id = *self.id.get_or_insert_with(|| {
                slots.next += 1;
                slots.next
            });
            slots.waiting.insert(id, Slot { target: self.target, waker: Some(waker) })
        };
        drop(replaced);
        is_new
    }

    /// Ready once `look` finds something; the task is registered until then.
    pub fn poll_until<U>(&mut self, cx: &Context<'_>, look: &mut impl FnMut() -> Option<U>) -> Poll<U> {
        if let Some(found) = look() {
            return Poll::Ready(found);
        }
        self.register(cx.waker());
        look().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Drop for Waiter<'_, T> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let slot = lock(&self.list.0).waiting.remove(&id);
            drop(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use futures_util::FutureExt;

    use super::*;
    use crate::testing::CountedWaker;

    /// A list that its own wakers use whenever they are woken or dropped.
    struct Meddling(Arc<WaitList>);

    impl Wake for Meddling {
        fn wake(self: Arc<Self>) {
            self.0.wake_all();
        }
    }

    impl Drop for Meddling {
        fn drop(&mut self) {
            self.0.wake_all();
        }
    }

    struct Panicking;

    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            // Without the message of `panic!`, which would look like a failed test.
            std::panic::resume_unwind(Box::new("a waker's panic"));
        }
    }

    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_waiter_that_is_dropped_leaves_no_waker_behind() {
        let list = WaitList::<()>::default();
        let counted = CountedWaker::default();
        for _ in 0..10_000 {
            let mut wait = pin!(list.until((), || None::<()>));
            assert!(wait.as_mut().poll(&mut Context::from_waker(&counted.waker())).is_pending());
            assert_eq!((list.len(), counted.alive()), (1, 1));
        }
        assert_eq!((list.len(), counted.alive()), (0, 0));
    }

    #[test]
    fn a_waiter_that_is_polled_by_another_task_forgets_the_first() {
        let list = WaitList::<()>::default();
        let (first, second) = (CountedWaker::default(), CountedWaker::default());
        let mut waiter = list.waiter(());
        assert!(waiter.register(&first.waker()));
        assert!(!waiter.register(&second.waker()));
        assert_eq!((first.alive(), second.alive()), (0, 1));
        list.wake_all();
        assert_eq!((first.woken(), second.woken(), second.alive()), (0, 1, 0));
    }

    #[test]
    fn wakers_may_use_the_list_while_they_are_woken_or_dropped() {
        let list = Arc::new(WaitList::<()>::default());
        let meddling = || Waker::from(Arc::new(Meddling(list.clone())));
        let mut waiter = list.waiter(());
        waiter.register(&meddling());
        // Drops the first.
        waiter.register(&meddling());
        list.wake_all();
        waiter.register(&meddling());
        drop(waiter);
        assert_eq!(list.len(), 0);
    }

    #[test]
    fn a_waker_that_panics_does_not_keep_the_others_asleep() {
        let list = WaitList::<()>::default();
        let counting = Arc::new(Counting(AtomicUsize::new(0)));
        let mut waiters: Vec<_> = (0..5).map(|_| list.waiter(())).collect();
        for (at, waiter) in waiters.iter_mut().enumerate() {
            let panics = at % 2 == 0;
            let waker = if panics { Arc::new(Panicking).into() } else { Waker::from(counting.clone()) };
            waiter.register(&waker);
        }
        list.wake_all();
        assert_eq!(counting.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn only_those_are_woken_whose_target_is_reached() {
        let list = WaitList::default();
        let wakers = [3, 9, 5].map(|target| (target, CountedWaker::default()));
        let mut waiters = Vec::new();
        for (target, waker) in &wakers {
            let mut waiter = list.waiter(*target);
            waiter.register(&waker.waker());
            waiters.push(waiter);
        }
        assert_eq!(list.max(Some), Some(9));
        list.wake_if(|target| target <= 5);
        assert_eq!(wakers.each_ref().map(|(_, waker)| waker.woken()), [1, 0, 1]);
        assert_eq!(list.max(Some), Some(9));
        waiters.remove(1);
        assert_eq!(list.max(Some), Some(5), "who was woken waits on until the waiter is dropped");
        drop(waiters);
        assert_eq!(list.max(Some), None);
    }

    #[test]
    fn what_is_there_already_is_found_without_waiting() {
        let list = WaitList::<()>::default();
        assert_eq!(list.until((), || Some(1)).now_or_never(), Some(1));
    }
}
