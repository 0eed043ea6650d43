//! The cache's keys at one revision.

use std::{fmt, ops::Bound};

use etcd_watch_core::KeyRange;

use super::{
    change::CacheChange,
    entry::CachedKv,
    tree::{self, Tree},
};

/// The keys of a cache exactly as the store had them at one revision. It never changes; cheap to clone and to
/// keep: it shares with other snapshots whatever is the same.
pub struct Snapshot<P = ()> {
    pub(super) revision: i64,
    pub(super) tree: Tree<CachedKv<P>>,
    pub(super) bytes: usize,
}

impl<P> Snapshot<P> {
    /// What there is before the first list.
    pub(super) fn none() -> Self {
        Self { revision: 0, tree: Tree::default(), bytes: 0 }
    }

    /// The same keys at another revision, at which they were the same.
    pub(super) fn at(&self, revision: i64) -> Self {
        Self { revision, ..self.clone() }
    }

    /// The revision of the store. The keys may have been the same before.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A key.
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&CachedKv<P>> {
        self.tree.get(key.as_ref())
    }

    /// The keys of a range, in order. `take` limits them.
    #[must_use]
    pub fn range(&self, range: &KeyRange) -> Range<'_, P> {
        Range { entries: self.tree.iter_from(Bound::Included(range.start())), range: Some(range.clone()) }
    }

    /// The keys with a prefix, in order.
    #[must_use]
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Range<'_, P> {
        self.range(&KeyRange::prefix(prefix.as_ref().to_vec()))
    }

    /// All keys, in order.
    #[must_use]
    pub fn iter(&self) -> Range<'_, P> {
        Range { entries: self.tree.iter(), range: None }
    }

    /// The first key.
    #[must_use]
    pub fn first(&self) -> Option<&CachedKv<P>> {
        self.tree.first()
    }

    /// The last key.
    #[must_use]
    pub fn last(&self) -> Option<&CachedKv<P>> {
        self.tree.last()
    }

    /// What leads from another snapshot of the same cache to this one, in order of the keys: at most one change
    /// for each. Takes as long as they differ, not as they are large.
    #[must_use]
    pub fn changes_since(&self, older: &Self) -> Vec<CacheChange<P>> {
        self.changes_within(older, |_| true)
    }

    pub(super) fn changes_within(&self, older: &Self, wanted: impl Fn(&[u8]) -> bool) -> Vec<CacheChange<P>> {
        let mut changes = Vec::new();
        tree::difference(&older.tree, &self.tree, |prev, kv| {
            if kv.or(prev).is_some_and(|kv| wanted(kv.key())) {
                changes.extend(CacheChange::new(self.revision, kv.cloned(), prev.cloned()));
            }
        });
        changes
    }
}

impl<P> Clone for Snapshot<P> {
    fn clone(&self) -> Self {
        Self { revision: self.revision, tree: self.tree.clone(), bytes: self.bytes }
    }
}

impl<P> fmt::Debug for Snapshot<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("revision", &self.revision).field("len", &self.len()).finish()
    }
}

impl<'a, P> IntoIterator for &'a Snapshot<P> {
    type Item = &'a CachedKv<P>;
    type IntoIter = Range<'a, P>;

    fn into_iter(self) -> Range<'a, P> {
        self.iter()
    }
}

/// Keys of a [`Snapshot`] in order.
pub struct Range<'a, P = ()> {
    entries: tree::Iter<'a, CachedKv<P>>,
    /// `None` for all.
    range: Option<KeyRange>,
}

impl<P> Clone for Range<'_, P> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone(), range: self.range.clone() }
    }
}

impl<P> fmt::Debug for Range<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Range").field("range", &self.range).finish_non_exhaustive()
    }
}

impl<'a, P> Iterator for Range<'a, P> {
    type Item = &'a CachedKv<P>;

    fn next(&mut self) -> Option<&'a CachedKv<P>> {
        let entry = self.entries.next()?;
        self.range.as_ref().is_none_or(|range| range.contains(entry.key())).then_some(entry)
    }
}
