//! Folds what a mirror hands out into states, and publishes them.

use std::{mem, sync::Arc};

use etcd_watch_core::{EventKind, ListReason, MirrorEvent, SnapshotPart, WatchResponse};

use super::{
    change::CacheChange,
    entry::{CachedKv, Fresh},
    error::CacheError,
    request::Make,
    shared::Shared,
    snapshot::Snapshot,
};

/// How many bytes are kept to put the next key and value together.
const MOST_JOINED: usize = 64 << 10;

/// The state that is being worked on. Between a list's begin and its end it is a mix, and is not published.
pub(super) struct Fold<P> {
    pub(super) shared: Arc<Shared<P>>,
    work: Snapshot<P>,
    /// The most keys that a state may have.
    max_keys: u64,
    make: Make<P>,
    /// Where a key and its value are put together.
    joined: Vec<u8>,
    /// While keys are listed: whether what was there before is of another store.
    listing: Option<bool>,
}

impl<P> Fold<P> {
    pub(super) fn new(shared: Arc<Shared<P>>, max_keys: u64, make: Make<P>) -> Self {
        Self { shared, work: Snapshot::none(), max_keys, make, joined: Vec::new(), listing: None }
    }

    /// The revision and the number of keys of the state; `None` for a mix.
    pub(super) fn at(&self) -> Option<(i64, usize)> {
        let is_state = self.listing.is_none() && self.work.revision > 0;
        is_state.then(|| (self.work.revision, self.work.len()))
    }

    /// Folds and publishes what a mirror has handed out.
    ///
    /// # Errors
    /// A state has too many keys. It is not published.
    pub(super) fn take(&mut self, event: &MirrorEvent) -> Result<(), CacheError> {
        match event {
            MirrorEvent::Listing { reason, .. } => self.listing(reason),
            MirrorEvent::Snapshot(part) => self.part(part),
            MirrorEvent::Synced { revision } => self.synced(*revision),
            MirrorEvent::Changes(response) => self.changes(response)?,
            // The stream turns the end into its own. Other kinds of events change no keys.
            _ => {}
        }
        Ok(())
    }

    fn listing(&mut self, reason: &ListReason) {
        let is_other_store = self.listing.unwrap_or(false) || reason.is_other_store();
        self.listing = Some(is_other_store);
        self.shared.listing(reason);
    }

    fn part(&mut self, part: &SnapshotPart) {
        let is_other_store = self.listing.unwrap_or(false);
        let (after, through) = part.span();
        let known = self.work.tree.iter_from(after).map(CachedKv::key);
        let known = known.take_while(|key| match through {
            std::ops::Bound::Included(last) => *key <= last,
            std::ops::Bound::Excluded(end) => *key < end,
            std::ops::Bound::Unbounded => true,
        });
        // As in every first list.
        let is_none_known = known.clone().next().is_none();
        let gone: Vec<Vec<u8>> = part.missing(known).map(<[u8]>::to_vec).collect();
        for key in gone {
            self.remove(&key);
        }
        for kv in part.puts() {
            let held = if is_none_known { None } else { self.work.get(kv.key()) };
            // In one store, revision and version of a key say all; what is the same stays shared.
            let is_held = !is_other_store
                && held.is_some_and(|held| {
                    (held.mod_revision(), held.version()) == (kv.mod_revision(), kv.version())
                });
            if !is_held {
                self.put(Fresh::from(kv), is_other_store);
            }
        }
    }

    /// The state is the store's at this revision.
    pub(super) fn synced(&mut self, revision: i64) {
        match self.listing.take() {
            Some(is_other_store) => {
                self.work.revision = revision;
                self.shared.publish_list(self.work.clone(), is_other_store);
            }
            None if revision > self.work.revision => {
                self.work.revision = revision;
                self.shared.extend(revision);
            }
            None => {}
        }
    }

    /// Publishes a state for each revision of a response.
    fn changes(&mut self, response: &WatchResponse) -> Result<(), CacheError> {
        let mut changes = Vec::new();
        let mut revision = 0;
        for event in response.events() {
            if event.mod_revision() != revision {
                self.publish(revision, mem::take(&mut changes))?;
                revision = event.mod_revision();
            }
            let (kv, prev) = match event.kind() {
                EventKind::Delete => (None, self.remove(event.key())),
                _ => self.put(Fresh::from(&event), false),
            };
            changes.extend(CacheChange::new(revision, kv, prev));
        }
        self.publish(revision, changes)?;
        self.synced(response.revision());
        Ok(())
    }

    fn publish(&mut self, revision: i64, changes: Vec<CacheChange<P>>) -> Result<(), CacheError> {
        if changes.is_empty() {
            return Ok(());
        }
        // A list has a limit of its own.
        let limit = self.max_keys;
        if self.work.len() as u64 > limit {
            return Err(CacheError::TooManyKeys { limit });
        }
        // A faulty server may send what belongs before a revision it has vouched for.
        self.work.revision = self.work.revision.max(revision);
        self.shared.publish_changes(self.work.clone(), changes);
        Ok(())
    }

    /// The pair that is there now, and the one before.
    fn put(&mut self, fresh: Fresh<'_>, is_other_store: bool) -> (Option<CachedKv<P>>, Option<CachedKv<P>>) {
        let Self { shared, work, make, joined, .. } = self;
        let mut new = None;
        let prev = work.tree.put(fresh.key, |prev| {
            let payload = make(&fresh, prev.filter(|_| !is_other_store), &shared.counters);
            let kv = CachedKv::new(fresh, payload, joined);
            new = Some(kv.clone());
            kv
        });
        joined.clear();
        joined.shrink_to(MOST_JOINED);
        work.bytes += fresh.key.len() + fresh.value.len();
        work.bytes -= prev.as_ref().map_or(0, CachedKv::bytes);
        (new, prev)
    }

    fn remove(&mut self, key: &[u8]) -> Option<CachedKv<P>> {
        let prev = self.work.tree.remove(key)?;
        self.work.bytes -= prev.bytes();
        Some(prev)
    }
}
