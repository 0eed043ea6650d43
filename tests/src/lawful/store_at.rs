//! The store at one revision: what consumers are compared with.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use etcd_watch_core::{KeyRange, OwnedKeyValue};

use crate::model::{EventKind, ModelEtcd};

/// How many differences are told.
const TOLD: usize = 3;

/// The keys of the range as the store had them at one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreAt {
    revision: i64,
    cluster_id: u64,
    pairs: BTreeMap<Bytes, OwnedKeyValue>,
}

impl StoreAt {
    /// `None` if the store has not come to the revision.
    pub(super) fn new(store: &ModelEtcd, range: &KeyRange, revision: i64) -> Option<Self> {
        if revision > store.revision() || revision < 0 {
            return None;
        }
        let mut pairs = BTreeMap::new();
        for change in store.history().iter().take_while(|change| change.revision <= revision) {
            match change.kind {
                EventKind::Put if range.contains(&change.key) => {
                    let kv = OwnedKeyValue {
                        key: change.key.clone(),
                        value: change.value.clone(),
                        create_revision: change.create_revision,
                        mod_revision: change.revision,
                        version: change.version,
                        lease: change.lease,
                    };
                    pairs.insert(change.key.clone(), kv);
                }
                EventKind::Put => {}
                EventKind::Delete => drop(pairs.remove(&change.key)),
            }
        }
        Some(Self { revision, cluster_id: store.config().cluster_id, pairs })
    }

    /// The revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The id of the store's cluster, for [`known_store`](etcd_watch_core::WatchRequest::known_store).
    #[must_use]
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// All keys of the range, with what the store knows of them.
    #[must_use]
    pub fn pairs(&self) -> &BTreeMap<Bytes, OwnedKeyValue> {
        &self.pairs
    }

    /// Whether these are the keys of the range and their values.
    ///
    /// # Errors
    /// What is missing, what is too much, and what is different.
    pub fn expect_pairs<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), String> {
        let mut missing = self.pairs.clone();
        let mut differences = Vec::new();
        for (key, value) in pairs {
            let (key, value) = (key.as_ref(), value.as_ref());
            match missing.remove(key) {
                Some(kv) if kv.value == value => {}
                Some(kv) => differences.push(format!(
                    "it has {} = {}, the store has {}",
                    show(key),
                    show(value),
                    show(&kv.value)
                )),
                None => {
                    differences.push(format!(
                        "it has {} = {}, the store has no such key",
                        show(key),
                        show(value)
                    ));
                }
            }
        }
        differences.extend(missing.iter().map(|(key, kv)| {
            format!("it has no {}, the store has {} = {}", show(key), show(key), show(&kv.value))
        }));
        if differences.is_empty() {
            return Ok(());
        }
        let more = differences.len().saturating_sub(TOLD);
        differences.truncate(TOLD);
        let mut told = differences.join("; ");
        if more > 0 {
            let _ = write!(told, "; and {more} more");
        }
        Err(told)
    }
}

/// A key or value, readable.
pub(super) fn show(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}
