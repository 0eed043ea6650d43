//! Sets of watches.

use core::fmt;

use crate::{WatchKey, id_map::IdMap};

/// A set of watches, in the order in which they were opened. To join it and to leave it cost the same however many
/// there are.
#[derive(Clone, Default)]
pub(crate) struct WatchSet {
    /// By the watches' numbers, which are counted up.
    indices: IdMap<u32>,
}

impl WatchSet {
    pub(crate) fn len(&self) -> usize {
        self.indices.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    pub(crate) fn insert(&mut self, key: WatchKey) {
        self.indices.insert(key.number.cast_signed(), key.index);
    }

    pub(crate) fn remove(&mut self, key: WatchKey) {
        self.indices.remove(key.number.cast_signed());
    }

    pub(crate) fn contains(&self, key: WatchKey) -> bool {
        self.indices.get(key.number.cast_signed()) == Some(&key.index)
    }

    /// The one that was opened first.
    pub(crate) fn first(&self) -> Option<WatchKey> {
        self.iter().next()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = WatchKey> {
        self.indices.iter().map(key_of)
    }

    /// Each once, beginning with the one that was opened after `key`, and with the first after the last.
    pub(crate) fn in_turn_after(&self, key: Option<WatchKey>) -> impl Iterator<Item = WatchKey> {
        let number = key.map_or(i64::MIN, |key| key.number.cast_signed());
        let rest = self.indices.iter().take_while(move |&(other, _)| other <= number);
        self.indices.iter_after(number).chain(rest).map(key_of)
    }
}

fn key_of((number, &index): (i64, &u32)) -> WatchKey {
    WatchKey { number: number.cast_unsigned(), index }
}

impl fmt::Debug for WatchSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec::Vec};

    use super::*;

    #[test]
    fn watches_come_in_the_order_in_which_they_were_opened() {
        let key = |number: u32, index| WatchKey { number: number.into(), index };
        let mut set = WatchSet::default();
        [key(70, 1), key(3, 9), key(40, 0), key(70, 1)].into_iter().for_each(|key| set.insert(key));
        assert_eq!((set.first(), set.len()), (Some(key(3, 9)), 3));
        assert_eq!(set.iter().collect::<Vec<_>>(), [key(3, 9), key(40, 0), key(70, 1)]);
        assert_eq!(format!("{set:?}"), "{watch 3, watch 40, watch 70}");
        let in_turn =
            |after: Option<WatchKey>| set.in_turn_after(after).map(|key| key.number).collect::<Vec<_>>();
        assert_eq!(in_turn(None), [3, 40, 70]);
        assert_eq!(in_turn(Some(key(3, 9))), [40, 70, 3]);
        assert_eq!(in_turn(Some(key(50, 0))), [70, 3, 40]);
        assert_eq!(in_turn(Some(key(70, 1))), [3, 40, 70]);
        set.remove(key(3, 9));
        assert!(set.contains(key(40, 0)) && !set.contains(key(40, 1)) && !set.contains(key(3, 9)));
        set.remove(key(40, 0));
        set.remove(key(70, 1));
        assert!(set.is_empty() && set.first().is_none());
    }
}
