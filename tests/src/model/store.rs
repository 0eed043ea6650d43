//! The multi-version store: every key at every revision since the last compaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use etcd_watch_proto::mvccpb::KeyValue;

use super::error::ModelError;
use super::history::{EventKind, HistoryEvent};
use super::key_range::KeyRange;

/// One change, shared by all who hold it.
pub(super) type Change = Arc<HistoryEvent>;

/// The multi-version store.
#[derive(Debug, Clone)]
pub(super) struct Store {
    revision: i64,
    /// -1 until the first compaction, as in etcd.
    compact_revision: i64,
    /// Every revision at which it was compacted, in order.
    compactions: Vec<i64>,
    /// Keys whose delete at that very revision is lost.
    lost: BTreeSet<Bytes>,
    /// Each key's changes in order; compaction prunes them.
    versions: BTreeMap<Bytes, Vec<Change>>,
    /// Every change there ever was, in order; compaction leaves it alone.
    history: Vec<Change>,
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            revision: 1,
            compact_revision: -1,
            compactions: Vec::new(),
            lost: BTreeSet::new(),
            versions: BTreeMap::new(),
            history: Vec::new(),
        }
    }

    /// A store that is at a revision and has these pairs, and whose history begins there.
    pub(super) fn starting_at(revision: i64, mut pairs: Vec<KeyValue>) -> Self {
        pairs.sort_by_key(|kv| kv.mod_revision);
        let mut store = Self { revision, compact_revision: revision, ..Self::new() };
        for kv in pairs {
            let change = Arc::new(HistoryEvent {
                revision: kv.mod_revision,
                sub_revision: 0,
                kind: EventKind::Put,
                key: kv.key.clone(),
                value: kv.value,
                create_revision: kv.create_revision,
                version: kv.version,
                lease: kv.lease,
                prev: None,
            });
            store.versions.insert(kv.key, vec![Arc::clone(&change)]);
            store.history.push(change);
        }
        store
    }

    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    pub(super) fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    pub(super) fn compactions(&self) -> &[i64] {
        &self.compactions
    }

    pub(super) fn history(&self) -> &[Change] {
        &self.history
    }

    /// Refuses revisions that can't be read, given the newest one.
    pub(super) fn check_revision(&self, revision: i64, newest: i64) -> Result<(), ModelError> {
        if revision > newest {
            Err(ModelError::FutureRevision)
        } else if revision > 0 && revision < self.compact_revision {
            Err(ModelError::Compacted)
        } else {
            Ok(())
        }
    }

    /// The keys of a range that exist at a revision, in order.
    pub(super) fn live(&self, range: &KeyRange, revision: i64) -> impl Iterator<Item = &Change> {
        self.versions
            .range::<[u8], _>(range.bounds())
            .filter_map(move |(_, versions)| live_version(versions, revision))
    }

    /// One key's state at a revision, if it exists there.
    pub(super) fn get(&self, key: &[u8], revision: i64) -> Option<&Change> {
        live_version(self.versions.get(key)?, revision)
    }

    /// The state before a change's revision, unless that is compacted: what a watch with `prev_kv` gets.
    pub(super) fn state_before(&self, change: &HistoryEvent) -> Option<KeyValue> {
        let before = change.revision - 1;
        if before < self.compact_revision {
            return None;
        }
        self.get(&change.key, before).map(|change| change.key_value())
    }

    /// The changes of a range from a revision on, in order. The revision must not be compacted.
    pub(super) fn changes_since<'a>(
        &'a self,
        range: &'a KeyRange,
        revision: i64,
    ) -> Box<dyn Iterator<Item = &'a Change> + 'a> {
        debug_assert!(revision >= self.compact_revision);
        if let KeyRange::One(key) = range {
            // The key's own changes lead there without a walk through everybody else's.
            let versions = self.versions.get(key).map_or(&[][..], Vec::as_slice);
            return Box::new(since(versions, revision).iter());
        }
        let is_there = |change: &&Change| range.contains(&change.key) && !self.is_lost(change);
        Box::new(since(&self.history, revision).iter().filter(is_there))
    }

    fn is_lost(&self, change: &HistoryEvent) -> bool {
        change.revision == self.compact_revision && self.lost.contains(&change.key)
    }

    /// Begins a transaction; nothing it does counts until it is committed.
    pub(super) fn begin(&mut self) -> WriteTxn<'_> {
        WriteTxn { revision: self.revision + 1, store: self, changes: Vec::new() }
    }

    /// Makes the changes of one revision that another store has made.
    pub(super) fn repeat(&mut self, changes: &[Change]) {
        for change in changes {
            self.versions.entry(change.key.clone()).or_default().push(Arc::clone(change));
            self.revision = change.revision;
        }
        self.history.extend(changes.iter().cloned());
    }

    /// Forgets what isn't needed to read at `revision` or later, and with `loses_deletes` a little more.
    pub(super) fn compact(&mut self, revision: i64, loses_deletes: bool) -> Result<(), ModelError> {
        if revision <= self.compact_revision {
            return Err(ModelError::Compacted);
        }
        if revision > self.revision {
            return Err(ModelError::FutureRevision);
        }
        self.compact_revision = revision;
        self.compactions.push(revision);
        let lost = &mut self.lost;
        lost.clear();
        self.versions.retain(|key, versions| {
            let later = versions.partition_point(|change| change.revision <= revision);
            if loses_deletes
                && let Some(last) = later.checked_sub(1).map(|last| &versions[last])
                && last.kind == EventKind::Delete
            {
                if last.revision == revision {
                    lost.insert(key.clone());
                }
                versions.drain(..later);
                return !versions.is_empty();
            }
            // The state at `revision` stays readable. A delete stays only if it happened exactly then: a watch
            // may still start there.
            let keep_from = match later.checked_sub(1).map(|last| &versions[last]) {
                Some(last) if last.kind == EventKind::Put || last.revision == revision => later - 1,
                _ => later,
            };
            // A revision stays whole, even one that changed the key twice.
            let keep_from = match versions.get(keep_from) {
                Some(first) if first.revision == revision => {
                    versions.partition_point(|change| change.revision < revision)
                }
                _ => keep_from,
            };
            versions.drain(..keep_from);
            !versions.is_empty()
        });
        Ok(())
    }
}

/// The tail of an ordered list of changes that begins at a revision.
fn since(changes: &[Change], revision: i64) -> &[Change] {
    &changes[changes.partition_point(|change| change.revision < revision)..]
}

/// The newest change at or before a revision, unless it is a delete.
fn live_version(versions: &[Change], revision: i64) -> Option<&Change> {
    let later = versions.partition_point(|change| change.revision <= revision);
    versions[..later].last().filter(|change| change.kind == EventKind::Put)
}

/// A transaction under way: its reads see its own writes.
#[derive(Debug)]
pub(super) struct WriteTxn<'a> {
    store: &'a mut Store,
    revision: i64,
    changes: Vec<Change>,
}

impl WriteTxn<'_> {
    pub(super) fn store(&self) -> &Store {
        self.store
    }

    /// The newest revision as seen from inside: one up as soon as anything is written.
    pub(super) fn revision(&self) -> i64 {
        if self.changes.is_empty() { self.store.revision } else { self.revision }
    }

    /// Puts a key and returns the state before.
    pub(super) fn put(&mut self, key: &Bytes, value: Bytes, lease: i64) -> Option<KeyValue> {
        let old = self.store.get(key, self.revision).cloned();
        self.record(HistoryEvent {
            revision: self.revision,
            sub_revision: self.next_sub_revision(),
            kind: EventKind::Put,
            key: key.clone(),
            value,
            create_revision: old.as_ref().map_or(self.revision, |old| old.create_revision),
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease,
            prev: self.before(key),
        });
        old.map(|old| old.key_value())
    }

    /// Deletes the keys of a range and returns the states before.
    pub(super) fn delete(&mut self, range: &KeyRange) -> Vec<KeyValue> {
        let deleted: Vec<KeyValue> =
            self.store.live(range, self.revision).map(|change| change.key_value()).collect();
        for old in &deleted {
            self.record(HistoryEvent {
                revision: self.revision,
                sub_revision: self.next_sub_revision(),
                kind: EventKind::Delete,
                key: old.key.clone(),
                value: Bytes::new(),
                create_revision: 0,
                version: 0,
                lease: 0,
                prev: self.before(&old.key),
            });
        }
        deleted
    }

    /// Makes it count. Returns the changes, none if nothing was written.
    pub(super) fn commit(self) -> Vec<Change> {
        if !self.changes.is_empty() {
            self.store.revision = self.revision;
            self.store.history.extend(self.changes.iter().cloned());
        }
        self.changes
    }

    fn next_sub_revision(&self) -> i64 {
        i64::try_from(self.changes.len()).unwrap_or(i64::MAX)
    }

    fn before(&self, key: &[u8]) -> Option<KeyValue> {
        self.store.get(key, self.revision - 1).map(|change| change.key_value())
    }

    fn record(&mut self, change: HistoryEvent) {
        let change = Arc::new(change);
        self.store.versions.entry(change.key.clone()).or_default().push(Arc::clone(&change));
        self.changes.push(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &mut Store, key: &'static str) -> Change {
        let mut txn = store.begin();
        txn.put(&Bytes::from_static(key.as_bytes()), Bytes::from_static(b"v"), 0);
        txn.commit().remove(0)
    }

    fn delete(store: &mut Store, key: &'static str) {
        let mut txn = store.begin();
        txn.delete(&KeyRange::One(Bytes::from_static(key.as_bytes())));
        assert_eq!(txn.commit().len(), 1);
    }

    fn all() -> KeyRange {
        KeyRange::From(Bytes::from_static(b"\0"))
    }

    #[test]
    fn an_empty_store_is_at_revision_one_and_the_first_write_makes_two() {
        let mut store = Store::new();
        assert_eq!(store.revision(), 1);
        assert_eq!(put(&mut store, "a").revision, 2);
        assert_eq!(store.revision(), 2);
    }

    #[test]
    fn a_transaction_that_writes_nothing_uses_no_revision() {
        let mut store = Store::new();
        let mut txn = store.begin();
        assert!(txn.delete(&all()).is_empty());
        assert!(txn.commit().is_empty());
        assert_eq!(store.revision(), 1);
    }

    #[test]
    fn a_new_generation_starts_over_with_version_one() {
        let mut store = Store::new();
        put(&mut store, "a");
        let second = put(&mut store, "a");
        assert_eq!((second.create_revision, second.version), (2, 2));
        delete(&mut store, "a");
        let third = put(&mut store, "a");
        assert_eq!((third.create_revision, third.version), (5, 1));
        assert!(third.is_create());
        assert_eq!(third.prev, None);
    }

    #[test]
    fn changes_of_one_transaction_share_the_revision_and_count_sub_revisions() {
        let mut store = Store::new();
        let mut txn = store.begin();
        txn.put(&Bytes::from_static(b"a"), Bytes::new(), 0);
        txn.put(&Bytes::from_static(b"b"), Bytes::new(), 0);
        let changes = txn.commit();
        let revisions: Vec<_> = changes.iter().map(|change| (change.revision, change.sub_revision)).collect();
        assert_eq!(revisions, [(2, 0), (2, 1)]);
    }

    #[test]
    fn compaction_keeps_what_is_read_at_its_revision_and_later() {
        let mut store = Store::new();
        put(&mut store, "a"); // 2
        put(&mut store, "b"); // 3
        put(&mut store, "a"); // 4
        delete(&mut store, "b"); // 5
        put(&mut store, "a"); // 6
        store.compact(4, false).expect("in the past");
        let keys_at = |store: &Store, revision| {
            store.live(&all(), revision).map(|change| change.revision).collect::<Vec<_>>()
        };
        assert_eq!(keys_at(&store, 4), [4, 3]);
        assert_eq!(keys_at(&store, 5), [4]);
        assert_eq!(keys_at(&store, 6), [6]);
        assert_eq!(store.check_revision(3, 6), Err(ModelError::Compacted));
        assert_eq!(store.check_revision(4, 6), Ok(()));
    }

    #[test]
    fn compaction_forgets_deleted_keys_but_not_a_delete_at_its_own_revision() {
        let mut store = Store::new();
        put(&mut store, "a"); // 2
        delete(&mut store, "a"); // 3
        put(&mut store, "b"); // 4
        store.compact(3, false).expect("in the past");
        let one = KeyRange::One(Bytes::from_static(b"a"));
        assert_eq!(store.changes_since(&one, 3).count(), 1);
        store.compact(4, false).expect("in the past");
        assert_eq!(store.changes_since(&one, 4).count(), 0);
        assert!(!store.versions.contains_key(b"a".as_slice()));
    }

    #[test]
    fn compaction_leaves_the_history_alone() {
        let mut store = Store::new();
        put(&mut store, "a");
        put(&mut store, "a");
        store.compact(3, false).expect("in the past");
        assert_eq!(store.history().len(), 2);
        assert_eq!(store.compactions(), [3]);
    }

    #[test]
    fn compaction_goes_forward_only_and_not_into_the_future() {
        let mut store = Store::new();
        put(&mut store, "a");
        assert_eq!(store.compact(3, false), Err(ModelError::FutureRevision));
        assert_eq!(store.compact(2, false), Ok(()));
        assert_eq!(store.compact(2, false), Err(ModelError::Compacted));
    }
}
