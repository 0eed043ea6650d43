//! The difference between what was handed out and what is listed: both come in key order, and are walked
//! together, page by page.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};
use bytes::Bytes;
use core::ops::Bound;

use super::{event::SnapshotPart, pairs::Pairs};

/// No pair has it: what the revision of a key is when its store is gone.
const OTHER_STORE: i64 = 0;

/// The keys that the consumer's fold has, each with the revision of its last change. The keys are copies: a
/// slice of a received buffer would keep the values around it alive.
#[derive(Debug, Default)]
pub(super) struct Index(BTreeMap<Box<[u8]>, i64>);

impl Index {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A key is put; whether that is new.
    pub(super) fn put(&mut self, key: &[u8], mod_revision: i64) -> bool {
        match self.0.get_mut(key) {
            Some(known) => core::mem::replace(known, mod_revision) != mod_revision,
            None => self.0.insert(key.into(), mod_revision).is_none(),
        }
    }

    pub(super) fn delete(&mut self, key: &[u8]) {
        self.0.remove(key);
    }

    /// Another store: a key with an equal revision is not an equal key.
    pub(super) fn forget_revisions(&mut self) {
        self.0.values_mut().for_each(|revision| *revision = OTHER_STORE);
    }

    /// Copies the first key between two bounds; whether there is one.
    fn first_between(&self, after: Option<&[u8]>, until: Bound<&[u8]>, key: &mut Vec<u8>) -> bool {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        key.clear();
        let first = self.0.range::<[u8], _>((after, until)).next();
        first.map(|(first, _)| key.extend_from_slice(first)).is_some()
    }
}

/// What a change counts for beside its bytes, against the limit of a part.
const CHANGE_BYTES: usize = 32;

/// A page that is not all handed out yet. Its keys are ascending, and above `done`.
#[derive(Debug)]
pub(super) struct Merge {
    listed: Pairs,
    /// How many of the pairs are handed out.
    taken: usize,
    /// Everything up to here is handed out.
    done: Option<Bytes>,
    /// The page's last key; `None` for the end of the range.
    through: Option<Bytes>,
    /// The revision the fold is at when the page is handed out, if it is the list's last.
    pub(super) completes: Option<i64>,
    /// Whether it was handed out whole.
    is_taken: bool,
}

impl Merge {
    pub(super) fn new(
        listed: Pairs,
        after: Option<Bytes>,
        through: Option<Bytes>,
        completes: Option<i64>,
    ) -> Self {
        Self { listed, taken: 0, done: after, through, completes, is_taken: false }
    }

    /// The next part, whose changes have `limit` bytes but for the last of them; `None` when all is handed out.
    pub(super) fn next_part(&mut self, index: Option<&mut Index>, limit: usize) -> Option<SnapshotPart> {
        match index {
            Some(index) => self.difference(index, limit),
            None => self.whole(),
        }
    }

    /// The page as it is, once.
    fn whole(&mut self) -> Option<SnapshotPart> {
        if core::mem::replace(&mut self.is_taken, true) {
            return None;
        }
        let puts = core::mem::take(&mut self.listed);
        let (after, through) = (self.done.take(), self.through.take());
        Some(SnapshotPart { after, through, puts, deletes: Vec::new(), is_whole: true })
    }

    fn difference(&mut self, index: &mut Index, limit: usize) -> Option<SnapshotPart> {
        let after = self.done.clone();
        let until = self.through.as_deref().map_or(Bound::Unbounded, Bound::Included);
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        // The next key of the index. It is looked up only when the one before is passed, so that a first list looks up
        // one for each page.
        let mut known = Vec::new();
        let mut is_known = index.first_between(after.as_deref(), until, &mut known);
        let (mut bytes, mut is_done) = (0, false);
        while !is_done && bytes < limit {
            let next = self.listed.get(self.taken);
            if is_known && next.is_none_or(|kv| &known[..] < kv.key()) {
                let gone = Bytes::from(core::mem::take(&mut known));
                index.delete(&gone);
                is_known = index.first_between(Some(&gone), until, &mut known);
                bytes += gone.len() + CHANGE_BYTES;
                deletes.push(gone);
            } else if let Some(kv) = next {
                if index.put(kv.key(), kv.mod_revision()) {
                    bytes += kv.key().len() + kv.value().len() + CHANGE_BYTES;
                    puts.push(self.listed.index()[self.taken]);
                }
                self.taken += 1;
                if is_known && known == kv.key() {
                    is_known = index.first_between(Some(kv.key()), until, &mut known);
                }
            } else {
                is_done = true;
            }
        }
        let listed = self.taken.checked_sub(1).and_then(|last| self.listed.get(last));
        let last = listed.map(|kv| kv.key()).max(deletes.last().map(|key| &key[..]));
        self.done = last.max(self.done.as_deref()).map(Bytes::copy_from_slice);
        if puts.is_empty() && deletes.is_empty() {
            return None;
        }
        let through = if is_done { self.through.clone() } else { self.done.clone() };
        Some(SnapshotPart { after, through, puts: self.listed.part(puts), deletes, is_whole: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OwnedKeyValue;

    fn kvs(keys: &[(&'static str, i64)]) -> Pairs {
        let kv = |&(key, mod_revision): &(&'static str, i64)| OwnedKeyValue {
            key: Bytes::from_static(key.as_bytes()),
            mod_revision,
            ..OwnedKeyValue::default()
        };
        Pairs::copied(&keys.iter().map(kv).collect::<Vec<_>>()).unwrap()
    }

    fn index(keys: &[(&'static str, i64)]) -> Index {
        Index(keys.iter().map(|(key, revision)| (key.as_bytes().into(), *revision)).collect())
    }

    fn key(key: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(key.as_bytes()))
    }

    #[test]
    fn the_difference_is_what_is_new_or_changed_and_what_lies_between() {
        let mut index = index(&[("a", 1), ("b", 2), ("c", 3), ("d", 4), ("x", 5)]);
        let mut merge = Merge::new(kvs(&[("b", 2), ("c", 9), ("e", 8)]), None, key("e"), None);
        let part = merge.next_part(Some(&mut index), 100).expect("there are changes");
        assert_eq!(part.puts(), &kvs(&[("c", 9), ("e", 8)]));
        assert_eq!(part.deletes(), ["a", "d"]);
        assert_eq!(part.span(), (Bound::Unbounded, Bound::Included(&b"e"[..])));
        assert_eq!(merge.next_part(Some(&mut index), 100), None);
        let mut last = Merge::new(kvs(&[]), key("e"), None, Some(9));
        let part = last.next_part(Some(&mut index), 100).expect("what is behind the last key is gone");
        assert_eq!((part.puts().len(), part.deletes()), (0, &[Bytes::from_static(b"x")][..]));
        assert_eq!(index.len(), 3);
    }

    #[test]
    fn a_part_ends_with_the_change_that_fills_it() {
        let mut index = index(&[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]);
        let mut merge = Merge::new(kvs(&[("c", 2)]), None, None, Some(2));
        let parts: Vec<SnapshotPart> =
            core::iter::from_fn(|| merge.next_part(Some(&mut index), CHANGE_BYTES + 2)).collect();
        let sizes: Vec<usize> = parts.iter().map(|part| part.puts().len() + part.deletes().len()).collect();
        assert_eq!(sizes, [2, 2, 1]);
        let edges: Vec<_> = parts.iter().map(|part| (part.after.clone(), part.through.clone())).collect();
        assert_eq!(edges, [(None, key("b")), (key("b"), key("d")), (key("d"), None)]);
    }

    #[test]
    fn after_another_store_equal_revisions_mean_nothing() {
        let mut index = index(&[("a", 1)]);
        index.forget_revisions();
        let mut merge = Merge::new(kvs(&[("a", 1)]), None, None, None);
        assert_eq!(merge.next_part(Some(&mut index), 9).expect("a is put anew").puts().len(), 1);
    }

    #[test]
    fn without_an_index_a_page_is_handed_out_once_even_if_it_is_empty() {
        let mut merge = Merge::new(Pairs::default(), key("k"), None, None);
        let part = merge.next_part(None, 1).expect("it says that nothing is behind k");
        assert_eq!(part.span(), (Bound::Excluded(&b"k"[..]), Bound::Unbounded));
        assert!(part.missing([b"l", b"m"]).eq([b"l", b"m"]));
        assert_eq!(merge.next_part(None, 1), None);
    }
}
