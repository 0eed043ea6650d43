//! Watches that wait in line.

use alloc::collections::VecDeque;

use crate::WatchKey;

/// How many keys of watches that have left a line may stay in it in any case.
const SLACK: usize = 32;

/// How many slots a queue that gives room back keeps.
const KEPT: usize = 64;

/// Watches that wait in line for something. A watch that leaves does nothing about it: its key is passed over when its
/// turn comes. So leaving costs nothing, and joining throws out the keys of those who have left often enough that they
/// are never more than half of a long line.
///
/// Whether a watch still waits is for its own state to say: `waits` answers that.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyQueue {
    keys: VecDeque<WatchKey>,
    /// At this length the keys of those who have left are thrown out.
    full_at: usize,
}

impl KeyQueue {
    /// A watch joins at the end.
    pub(crate) fn push(&mut self, key: WatchKey, waits: impl Fn(WatchKey) -> bool) {
        if self.keys.len() >= self.full_at.max(SLACK) {
            self.keys.retain(|&key| waits(key));
            self.full_at = 2 * self.keys.len();
        }
        self.keys.push_back(key);
    }

    /// Watches join at the front, in their order.
    pub(crate) fn push_all_first(&mut self, keys: impl DoubleEndedIterator<Item = WatchKey>) {
        keys.rev().for_each(|key| self.keys.push_front(key));
    }

    /// The first that still waits.
    pub(crate) fn pop(&mut self, waits: impl Fn(WatchKey) -> bool) -> Option<WatchKey> {
        let key = core::iter::from_fn(|| self.keys.pop_front()).find(|&key| waits(key));
        give_back(&mut self.keys);
        key
    }

    /// The first that still waits; it stays.
    pub(crate) fn first(&mut self, waits: impl Fn(WatchKey) -> bool) -> Option<WatchKey> {
        let key = self.pop(waits)?;
        self.keys.push_front(key);
        Some(key)
    }
}

/// Gives back room that a long queue took, once most of it is unused.
pub(crate) fn give_back<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > KEPT && queue.len() < queue.capacity() / 4 {
        queue.shrink_to(KEPT.max(2 * queue.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> WatchKey {
        WatchKey { number: index.into(), index }
    }

    #[test]
    fn a_watch_that_has_left_is_passed_over() {
        let mut queue = KeyQueue::default();
        (0..4).for_each(|index| queue.push(key(index), |_| true));
        let waits = |key: WatchKey| key.index == 1 || key.index == 3;
        assert_eq!(queue.first(waits), Some(key(1)));
        assert_eq!([(); 3].map(|()| queue.pop(waits)), [Some(key(1)), Some(key(3)), None]);
    }

    #[test]
    fn a_line_that_many_have_left_is_short() {
        let mut queue = KeyQueue::default();
        let last = 100_000;
        (0..=last).for_each(|index| queue.push(key(index), |key| key.index + 1 == index));
        assert!(queue.keys.len() <= 2 * SLACK, "{} keys", queue.keys.len());
        assert_eq!(queue.pop(|key| key.index == last), Some(key(last)));
    }

    #[test]
    fn the_room_that_a_long_line_took_is_given_back() {
        let mut queue = KeyQueue::default();
        for index in 0..100_000 {
            queue.push(key(index), |_| true);
        }
        for index in 0..100_000 {
            assert_eq!(queue.pop(|_| true), Some(key(index)));
            let (len, room) = (queue.keys.len(), queue.keys.capacity());
            assert!(room <= KEPT.max(4 * len + 4), "room for {room} with {len}");
        }
    }

    #[test]
    fn to_join_costs_the_same_however_long_the_line_is() {
        let asked = core::cell::Cell::new(0);
        let mut queue = KeyQueue::default();
        (0..10_000).for_each(|index| {
            queue.push(key(index), |_| {
                asked.set(asked.get() + 1);
                true
            });
        });
        assert!(asked.get() <= 2 * 10_000, "{} keys were looked at", asked.get());
    }

    #[test]
    fn those_who_wait_again_are_ahead_of_those_who_came_later() {
        let mut queue = KeyQueue::default();
        queue.push(key(2), |_| true);
        queue.push_all_first([key(0), key(1)].into_iter());
        assert_eq!([(); 3].map(|()| queue.pop(|_| true)), [0, 1, 2].map(|index| Some(key(index))));
    }
}
