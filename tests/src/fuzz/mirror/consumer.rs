//! A consumer that folds what a mirror hands out, and holds it to what [`MirrorEvent`] promises.

use std::collections::BTreeSet;
use std::ops::Bound;

use bytes::Bytes;
use etcd_watch_core::{EventKind, KeyRange, Mirror, MirrorEvent, SnapshotPart, WatchResponse};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has been handed out.
    New,
    /// Inside of a bracket, at this revision.
    Listing(i64),
    /// Outside of one.
    Synced,
    Closed,
}

/// A consumer and what it has folded.
pub(super) struct Consumer {
    range: KeyRange,
    keeps_index: bool,
    page_bytes: usize,
    phase: Phase,
    /// Without an index the keys are the consumer's business; here they are kept all the same.
    keys: BTreeSet<Bytes>,
    /// How far the parts of this list have come: `None` for its start.
    listed: Option<Bytes>,
    /// Whether the last part went to the end of the range.
    is_listed: bool,
    /// The highest revision that was called synced, and the highest that was listed or changed.
    synced: i64,
    changed: i64,
}

impl Consumer {
    pub(super) fn new(range: KeyRange, keeps_index: bool, page_bytes: usize) -> Self {
        Self {
            range,
            keeps_index,
            page_bytes,
            phase: Phase::New,
            keys: BTreeSet::new(),
            listed: None,
            is_listed: false,
            synced: 0,
            changed: 0,
        }
    }

    pub(super) fn take(&mut self, event: MirrorEvent, mirror: &Mirror) {
        let synced_revision = event.synced_revision();
        match (self.phase, event) {
            (Phase::Closed, event) => panic!("{event:?} after the end"),
            (_, MirrorEvent::Closed(_)) => self.phase = Phase::Closed,
            (_, MirrorEvent::Listing { revision, reason }) => {
                if reason.is_other_store() {
                    (self.synced, self.changed) = (0, 0);
                }
                assert!(revision >= self.synced.max(1), "a list at {revision} after {}", self.synced);
                self.phase = Phase::Listing(revision);
                (self.listed, self.is_listed) = (None, false);
            }
            (Phase::Listing(revision), MirrorEvent::Snapshot(part)) => self.fold(part, revision),
            (Phase::Listing(listed), MirrorEvent::Synced { revision }) => {
                assert_eq!(revision, listed, "a list is of one revision");
                assert!(self.keeps_index || self.is_listed, "a list goes to the end of the range");
                self.changed = self.changed.max(revision);
                self.phase = Phase::Synced;
            }
            (Phase::Synced, MirrorEvent::Synced { .. }) => {}
            (Phase::Synced, MirrorEvent::Changes(response)) => self.change(&response),
            (phase, event) => panic!("{event:?} in {phase:?}"),
        }
        assert_eq!(mirror.synced_revision().is_some(), synced_revision.is_some());
        if let Some(revision) = synced_revision {
            assert!(mirror.synced_revision() >= Some(revision));
            assert!(mirror.synced_revision() >= Some(self.synced), "it never goes down");
            self.synced = self.synced.max(revision);
        }
    }

    fn fold(&mut self, part: SnapshotPart, listing: i64) {
        let count = part.puts().len() + part.deletes().len();
        assert!(part.puts().iter().is_sorted_by(|a, b| a.key() < b.key()));
        assert!(part.deletes().is_sorted_by(|a, b| a < b));
        let deleted = part.deletes().first().map(|key| &key[..]);
        let first = part.puts().first().map(|kv| kv.key()).into_iter().chain(deleted).min();
        assert!(first.is_none_or(|first| self.listed.as_deref() < Some(first)), "parts follow each other");
        let (after, through) = part.span();
        if self.keeps_index {
            assert!(count > 0, "a part without changes is left out");
            // Each change counts for 32 bytes beside its own, and all but the last come to less than what is wanted.
            let puts = part.puts().iter().map(|kv| kv.key().len() + kv.value().len() + 32);
            let sizes: Vec<usize> = puts.chain(part.deletes().iter().map(|key| key.len() + 32)).collect();
            let others = sizes.iter().sum::<usize>() - sizes.iter().max().expect("there are changes");
            assert!(others < self.page_bytes, "{count} changes at once");
            for key in part.deletes() {
                assert!(self.keys.remove(key), "{key:?} is deleted and was not there");
            }
        } else {
            let expected = self.listed.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            assert!(!self.is_listed && after == expected, "parts cover the range without a gap");
            let known = self.keys.range::<[u8], _>((after, through));
            let gone: Vec<Bytes> = part.missing(known).cloned().collect();
            gone.iter().for_each(|key| assert!(self.keys.remove(key)));
        }
        match through {
            Bound::Included(key) => self.listed = Some(Bytes::copy_from_slice(key)),
            _ => self.is_listed = true,
        }
        for kv in part.into_puts() {
            assert!(self.range.contains(&kv.key) && !kv.key.is_empty(), "{kv:?}");
            assert!((1..=listing).contains(&kv.mod_revision), "{kv:?} in a list at {listing}");
            self.keys.insert(kv.key);
        }
    }

    fn change(&mut self, response: &WatchResponse) {
        assert!(!response.is_empty());
        for event in response.events() {
            assert!(event.mod_revision() > self.changed, "{event:?} was in already, at {}", self.changed);
            assert!(self.range.contains(event.key()));
            match event.kind() {
                EventKind::Put => self.keys.insert(event.kv().key_bytes()),
                _ => self.keys.remove(event.key()),
            };
        }
        self.changed = response.revision();
    }

    /// The index has what the fold has, once everything is folded; without one there is none.
    pub(super) fn compare_index(&self, mirror: &Mirror) {
        let expected = if self.keeps_index && !mirror.is_closed() { self.keys.len() } else { 0 };
        assert_eq!(mirror.index_keys(), expected);
    }

    pub(super) fn assert_closed(&self) {
        assert_eq!(self.phase, Phase::Closed, "it has no end");
    }
}
