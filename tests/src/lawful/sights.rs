//! Recognising what a consumer gets to see.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use etcd_watch_core::{EventKind, WatchResponse};

use super::record::Record;
use super::{Sight, StoreAt};

/// The keys that a consumer has, and those that it has seen deleted.
#[derive(Default)]
pub(super) struct Seen {
    keys: BTreeSet<Bytes>,
    deleted: BTreeSet<Bytes>,
    /// Whether the list under way is there because history was compacted.
    is_compacted: bool,
}

impl Seen {
    pub(super) fn has(&mut self, key: &Bytes) {
        self.keys.insert(key.clone());
    }

    /// The next list is for this reason.
    pub(super) fn compacted(&mut self, is_compacted: bool) {
        self.is_compacted = is_compacted;
    }

    pub(super) fn keys_not_in(&self, listed: &StoreAt) -> Vec<Bytes> {
        self.keys.iter().filter(|key| !listed.pairs().contains_key(*key)).cloned().collect()
    }

    /// A list lacks these keys.
    pub(super) fn removed<'k>(&mut self, record: &mut Record, keys: impl Iterator<Item = &'k Bytes>) {
        let mut is_any = false;
        for key in keys {
            is_any = true;
            self.keys.remove(key);
        }
        if is_any {
            record.saw(Sight::RemovedByList);
            if self.is_compacted {
                record.saw(Sight::RemovedByCompactedList);
            }
        }
    }

    /// Events come.
    pub(super) fn response(&mut self, record: &mut Record, response: &WatchResponse) {
        let mut revisions: BTreeMap<i64, usize> = BTreeMap::new();
        for event in response.events() {
            *revisions.entry(event.mod_revision()).or_default() += 1;
            let key = event.kv().key_bytes();
            if event.kind() == EventKind::Delete {
                self.keys.remove(&key);
                self.deleted.insert(key);
            } else {
                if event.is_create() && self.deleted.remove(&key) {
                    record.saw(Sight::CreatedAgain);
                }
                self.keys.insert(key);
            }
        }
        if revisions.len() > 1 {
            record.saw(Sight::SeveralRevisionsAtOnce);
        }
        if revisions.values().any(|events| *events > 1) {
            record.saw(Sight::SeveralKeysAtOnce);
        }
        if response.header().revision > response.revision() {
            record.saw(Sight::HeaderAhead);
        }
    }
}
