//! All watches of a client, and the orders in which their consumers have kept them waiting.

use alloc::{boxed::Box, vec::Vec};

use super::Watch;
use crate::WatchKey;

/// No place.
const NONE: u32 = u32::MAX;

/// All watches of a client. One is found by its key in one step. A place is used again by a later watch, whose
/// key has another number, so a key never stands for another watch.
///
/// Two orders run through the table, of the watches for whose consumers something waits: those whose buffer may be
/// dropped, and those whose buffer is kept. In each the watch whose consumer has taken nothing for longest is first. To
/// join an order at its end and to leave it cost the same however many there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watches {
    /// Boxed, so that a large table with few watches is small.
    places: Vec<Option<Box<Slot>>>,
    free: Vec<u32>,
    /// The number of the next watch.
    next: u64,
    droppable: Ends,
    kept: Ends,
}

/// In which order a watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// What waits may be dropped.
    Droppable,
    /// What waits is kept.
    Kept,
}

/// The two ends of an order.
#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
}

impl Default for Ends {
    fn default() -> Self {
        Self { first: NONE, last: NONE }
    }
}

/// A watch, and its neighbours in the order that it is in.
#[derive(Clone, Debug)]
struct Slot {
    number: u64,
    before: u32,
    after: u32,
    order: Option<Order>,
    watch: Watch,
}

impl Watches {
    /// Adds a watch; its key.
    pub(crate) fn insert(&mut self, watch: Watch) -> WatchKey {
        let number = self.next;
        self.next += 1;
        let slot = Some(Box::new(Slot { number, before: NONE, after: NONE, order: None, watch }));
        if let Some(index) = self.free.pop()
            && let Some(place) = self.places.get_mut(index as usize)
        {
            *place = slot;
            return WatchKey { number, index };
        }
        // 2^32 watches at a time would take terabytes.
        let index = u32::try_from(self.places.len()).unwrap_or(NONE);
        self.places.push(slot);
        WatchKey { number, index }
    }

    /// Forgets a watch.
    pub(crate) fn remove(&mut self, key: WatchKey) {
        self.unlist(key);
        if self.slot(key).is_some()
            && let Some(place) = self.places.get_mut(key.index as usize)
        {
            *place = None;
            self.free.push(key.index);
        }
    }

    pub(crate) fn get(&self, key: WatchKey) -> Option<&Watch> {
        self.slot(key).map(|slot| &slot.watch)
    }

    pub(crate) fn get_mut(&mut self, key: WatchKey) -> Option<&mut Watch> {
        self.slot_mut(key).map(|slot| &mut slot.watch)
    }

    /// A watch that must be there: its stream has it, or it has just been found.
    pub(crate) fn known_mut(&mut self, key: WatchKey) -> Option<&mut Watch> {
        let watch = self.get_mut(key);
        debug_assert!(watch.is_some(), "{key:?} is there");
        watch
    }

    /// All watches, by their places in the table.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (WatchKey, &Watch)> {
        self.places.iter().zip(0..).filter_map(|(slot, index)| {
            let slot = slot.as_deref()?;
            Some((WatchKey { number: slot.number, index }, &slot.watch))
        })
    }

    /// The watch whose consumer has kept it waiting for longest, of those whose buffer may be dropped.
    pub(crate) fn first_to_drop(&self) -> Option<WatchKey> {
        self.key_at(self.droppable.first)
    }

    /// The watches of an order, the one whose consumer has kept it waiting for longest first.
    pub(crate) fn waiting(&self, order: Order) -> impl Iterator<Item = (WatchKey, &Watch)> {
        let slot_at = |index| Some((index, self.slot_at(index)?));
        let first = slot_at(self.ends(order).first);
        let slots = core::iter::successors(first, move |(_, slot)| slot_at(slot.after));
        slots.map(|(index, slot)| (WatchKey { number: slot.number, index }, &slot.watch))
    }

    /// In which order the watch is, if something waits for its consumer.
    pub(crate) fn order(&self, key: WatchKey) -> Option<Order> {
        self.slot(key)?.order
    }

    /// Puts a watch at the end of an order, wherever it was before: its consumer has just taken something.
    pub(crate) fn list_last(&mut self, key: WatchKey, order: Order) {
        let last = self.ends(order).last;
        if last == key.index && self.order(key) == Some(order) {
            return;
        }
        self.unlist(key);
        self.list(key, order);
    }

    /// Puts a watch that is in no order at the end of one: its consumer has just been given something to take.
    pub(crate) fn list(&mut self, key: WatchKey, order: Order) {
        let last = self.ends(order).last;
        let Some(slot) = self.slot_mut(key) else { return };
        debug_assert!(slot.order.is_none(), "{key:?} is in no order");
        (slot.order, slot.before, slot.after) = (Some(order), last, NONE);
        match self.slot_at_mut(last) {
            Some(slot) => slot.after = key.index,
            None => self.ends_mut(order).first = key.index,
        }
        self.ends_mut(order).last = key.index;
    }

    /// Takes a watch out of its order: nothing waits for its consumer.
    pub(crate) fn unlist(&mut self, key: WatchKey) {
        let Some(slot) = self.slot_mut(key) else { return };
        let Some(order) = slot.order.take() else { return };
        let (before, after) = (slot.before, slot.after);
        match self.slot_at_mut(before) {
            Some(slot) => slot.after = after,
            None => self.ends_mut(order).first = after,
        }
        match self.slot_at_mut(after) {
            Some(slot) => slot.before = before,
            None => self.ends_mut(order).last = before,
        }
    }

    fn ends(&self, order: Order) -> &Ends {
        match order {
            Order::Droppable => &self.droppable,
            Order::Kept => &self.kept,
        }
    }

    fn ends_mut(&mut self, order: Order) -> &mut Ends {
        match order {
            Order::Droppable => &mut self.droppable,
            Order::Kept => &mut self.kept,
        }
    }

    fn key_at(&self, index: u32) -> Option<WatchKey> {
        Some(WatchKey { number: self.slot_at(index)?.number, index })
    }

    fn slot(&self, key: WatchKey) -> Option<&Slot> {
        self.slot_at(key.index).filter(|slot| slot.number == key.number)
    }

    fn slot_mut(&mut self, key: WatchKey) -> Option<&mut Slot> {
        self.slot_at_mut(key.index).filter(|slot| slot.number == key.number)
    }

    fn slot_at(&self, index: u32) -> Option<&Slot> {
        self.places.get(index as usize)?.as_deref()
    }

    fn slot_at_mut(&mut self, index: u32) -> Option<&mut Slot> {
        self.places.get_mut(index as usize)?.as_deref_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyRange, StreamId, WatchConfig, WatchRequest};

    fn table_of(count: usize) -> (Watches, Vec<WatchKey>) {
        let mut watches = Watches::default();
        let mut insert = || {
            let request = WatchRequest::new(KeyRange::key("k"));
            watches.insert(Watch::new(&request, StreamId(0), &WatchConfig::default()))
        };
        let keys = (0..count).map(|_| insert()).collect();
        (watches, keys)
    }

    fn listed(watches: &mut Watches) -> Vec<WatchKey> {
        let mut keys = Vec::new();
        while let Some(key) = watches.first_to_drop() {
            keys.push(key);
            watches.unlist(key);
        }
        keys
    }

    #[test]
    fn a_place_is_used_again_and_a_key_is_not() {
        let (mut watches, keys) = table_of(2);
        watches.remove(keys[0]);
        assert!(watches.get(keys[0]).is_none() && watches.get(keys[1]).is_some());
        let request = WatchRequest::new(KeyRange::key("k"));
        let next = watches.insert(Watch::new(&request, StreamId(0), &WatchConfig::default()));
        assert_eq!((next.index, next.number), (keys[0].index, 2));
        assert!(watches.get(keys[0]).is_none() && watches.get_mut(next).is_some());
        watches.remove(keys[0]);
        assert!(watches.get(next).is_some(), "the old key removes nothing");
        assert_eq!(watches.iter().map(|(key, _)| key).collect::<Vec<_>>(), [next, keys[1]]);
    }

    #[test]
    fn who_has_waited_for_longest_is_first() {
        let (mut watches, keys) = table_of(4);
        let order = Order::Droppable;
        keys.iter().for_each(|&key| watches.list_last(key, order));
        watches.list_last(keys[1], order);
        watches.list_last(keys[1], order);
        watches.unlist(keys[2]);
        watches.unlist(keys[2]);
        let mut copy = watches.clone();
        assert_eq!(listed(&mut copy), [keys[0], keys[3], keys[1]]);
        watches.remove(keys[0]);
        watches.list_last(keys[2], order);
        assert_eq!(listed(&mut watches), [keys[3], keys[1], keys[2]]);
        assert_eq!(watches.first_to_drop(), None);
    }

    #[test]
    fn of_many_watches_those_for_which_something_waits_are_found_without_a_look_at_the_others() {
        let (mut watches, keys) = table_of(100_000);
        let visited =
            |watches: &Watches| [Order::Droppable, Order::Kept].map(|order| watches.waiting(order).count());
        assert_eq!(visited(&watches), [0, 0]);
        watches.list_last(keys[99_999], Order::Droppable);
        watches.list_last(keys[50_000], Order::Kept);
        assert_eq!((visited(&watches), watches.iter().count()), ([1, 1], 100_000));
    }

    #[test]
    fn a_watch_is_in_one_order_and_can_change_it() {
        let (mut watches, keys) = table_of(3);
        keys.iter().for_each(|&key| watches.list_last(key, Order::Droppable));
        watches.list_last(keys[2], Order::Kept);
        watches.list_last(keys[0], Order::Kept);
        let keys_of =
            |watches: &Watches, order| watches.waiting(order).map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys_of(&watches, Order::Kept), [keys[2], keys[0]]);
        assert_eq!(keys_of(&watches, Order::Droppable), [keys[1]]);
        watches.unlist(keys[2]);
        watches.unlist(keys[0]);
        assert_eq!(keys_of(&watches, Order::Kept), []);
        assert_eq!((watches.order(keys[0]), watches.order(keys[1])), (None, Some(Order::Droppable)));
    }
}
