//! All watches of a client, and the order in which their consumers have kept them waiting.

use alloc::{boxed::Box, vec::Vec};

use super::Watch;
use crate::WatchKey;

/// No place.
const NONE: u32 = u32::MAX;

/// All watches of a client. One is found by its key in one step. A place is used again by a later watch, whose
/// key has another number, so a key never stands for another watch.
///
/// A second order runs through the table: the watches whose buffer may be dropped, the one whose consumer has taken
/// nothing for longest first. To join at its end and to leave it cost the same however many there are.
#[derive(Clone, Debug)]
pub(crate) struct Watches {
    places: Vec<Slot>,
    free: Vec<u32>,
    /// The number of the next watch.
    next: u64,
    first: u32,
    last: u32,
}

#[derive(Clone, Debug)]
struct Slot {
    /// The number of the watch that is here, or was.
    number: u64,
    /// Boxed, so that a large table with few watches is small.
    watch: Option<Box<Watch>>,
    is_listed: bool,
    before: u32,
    after: u32,
}

impl Default for Watches {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), next: 0, first: NONE, last: NONE }
    }
}

impl Watches {
    /// Adds a watch; its key.
    pub(crate) fn insert(&mut self, watch: Watch) -> WatchKey {
        let number = self.next;
        self.next += 1;
        let slot = Slot { number, watch: Some(Box::new(watch)), is_listed: false, before: NONE, after: NONE };
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
        let Some(slot) = self.slot_mut(key) else { return };
        if slot.watch.take().is_some() {
            self.free.push(key.index);
        }
    }

    pub(crate) fn get(&self, key: WatchKey) -> Option<&Watch> {
        let slot = self.places.get(key.index as usize).filter(|slot| slot.number == key.number)?;
        slot.watch.as_deref()
    }

    pub(crate) fn get_mut(&mut self, key: WatchKey) -> Option<&mut Watch> {
        self.slot_mut(key)?.watch.as_deref_mut()
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
            let key = WatchKey { number: slot.number, index };
            slot.watch.as_deref().map(|watch| (key, watch))
        })
    }

    /// The watch whose consumer has kept it waiting for longest, of those that are listed.
    pub(crate) fn first_listed(&self) -> Option<WatchKey> {
        self.key_at(self.first)
    }

    /// Puts a watch at the end of that order: its consumer has just taken something, or has just been given
    /// something to take.
    pub(crate) fn list_last(&mut self, key: WatchKey) {
        if self.last == key.index && self.slot_mut(key).is_some_and(|slot| slot.is_listed) {
            return;
        }
        self.unlist(key);
        let last = self.last;
        let Some(slot) = self.slot_mut(key) else { return };
        (slot.is_listed, slot.before, slot.after) = (true, last, NONE);
        match self.places.get_mut(last as usize) {
            Some(slot) => slot.after = key.index,
            None => self.first = key.index,
        }
        self.last = key.index;
    }

    /// Takes a watch out of that order: nothing of it waits that may be dropped.
    pub(crate) fn unlist(&mut self, key: WatchKey) {
        let Some(slot) = self.slot_mut(key).filter(|slot| slot.is_listed) else { return };
        slot.is_listed = false;
        let (before, after) = (slot.before, slot.after);
        match self.places.get_mut(before as usize) {
            Some(slot) => slot.after = after,
            None => self.first = after,
        }
        match self.places.get_mut(after as usize) {
            Some(slot) => slot.before = before,
            None => self.last = before,
        }
    }

    fn key_at(&self, index: u32) -> Option<WatchKey> {
        let slot = self.places.get(index as usize)?;
        Some(WatchKey { number: slot.number, index })
    }

    fn slot_mut(&mut self, key: WatchKey) -> Option<&mut Slot> {
        self.places.get_mut(key.index as usize).filter(|slot| slot.number == key.number)
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
        while let Some(key) = watches.first_listed() {
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
        keys.iter().for_each(|&key| watches.list_last(key));
        watches.list_last(keys[1]);
        watches.list_last(keys[1]);
        watches.unlist(keys[2]);
        watches.unlist(keys[2]);
        let mut copy = watches.clone();
        assert_eq!(listed(&mut copy), [keys[0], keys[3], keys[1]]);
        watches.remove(keys[0]);
        watches.list_last(keys[2]);
        assert_eq!(listed(&mut watches), [keys[3], keys[1], keys[2]]);
        assert_eq!(watches.first_listed(), None);
    }
}
