//! The truth: what was written, and what of it a watch has to see.

use etcd_watch_core::KeyRange;
use etcd_watch_proto::mvccpb::{Event, KeyValue};

/// The store's revision before anything is written.
const EMPTY: i64 = 1;

/// How far the plan's writes have come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Store {
    pub(super) revision: i64,
    /// The oldest revision that can still be watched.
    pub(super) compacted: i64,
}

/// A change: its revision and its key.
pub(super) type Change = (i64, &'static str);

impl Store {
    pub(super) fn new() -> Self {
        Self { revision: EMPTY, compacted: 0 }
    }

    pub(super) fn is_complete(&self, writes: &[Vec<&'static str>]) -> bool {
        self.next_write(writes).is_none()
    }

    /// The keys of the write that comes next.
    pub(super) fn next_write<'a>(&self, writes: &'a [Vec<&'static str>]) -> Option<&'a [&'static str]> {
        usize::try_from(self.revision - EMPTY).ok().and_then(|index| writes.get(index)).map(Vec::as_slice)
    }

    /// What a watch on `range` has to see of the revisions `from` to `to`, those included, as far as they
    /// exist.
    pub(super) fn seen(
        &self,
        writes: &[Vec<&'static str>],
        range: &KeyRange,
        from: i64,
        to: i64,
    ) -> Vec<Change> {
        (EMPTY + 1..=self.revision.min(to))
            .zip(writes)
            .filter(|(revision, _)| *revision >= from)
            .flat_map(|(revision, keys)| keys.iter().map(move |&key| (revision, key)))
            .filter(|(_, key)| range.contains(key.as_bytes()))
            .collect()
    }
}

pub(super) fn event((revision, key): Change) -> Event {
    let kv = KeyValue {
        key: key.into(),
        value: "v".into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 0,
    };
    Event { kv: Some(kv), ..Event::default() }
}
