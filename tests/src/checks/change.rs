//! A change of a key, whoever tells of it.

use std::sync::Arc;

use etcd_watch_core::{EventKind, KeyValue as CorePair};
use etcd_watch_proto::mvccpb::{Event, KeyValue, event::EventType};

use crate::model::{self, HistoryEvent};

/// A key and its value, as of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// The revision that created the key; 0 in a delete.
    pub create_revision: i64,
    /// The revision of the change.
    pub mod_revision: i64,
    /// How often the key has been put since; 0 in a delete.
    pub version: i64,
    /// The lease the key hangs on; 0 for none.
    pub lease: i64,
}

/// One change of one key, as an event of a watch or as an entry of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Whether the key was deleted.
    pub is_delete: bool,
    /// The pair after the change; of a delete, its key and revision.
    pub kv: Pair<'a>,
    /// The pair before it, if there was one and it is told.
    pub prev: Option<Pair<'a>>,
}

impl Change<'_> {
    /// The revision of the change.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.kv.mod_revision
    }

    /// Whether it created its key.
    #[must_use]
    pub fn is_create(&self) -> bool {
        !self.is_delete && self.kv.create_revision == self.kv.mod_revision
    }
}

impl<'a> From<&'a KeyValue> for Pair<'a> {
    fn from(kv: &'a KeyValue) -> Self {
        Self {
            key: &kv.key,
            value: &kv.value,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

impl<'a> From<CorePair<'a>> for Pair<'a> {
    fn from(kv: CorePair<'a>) -> Self {
        Self {
            key: kv.key(),
            value: kv.value(),
            create_revision: kv.create_revision(),
            mod_revision: kv.mod_revision(),
            version: kv.version(),
            lease: kv.lease(),
        }
    }
}

impl<'a> From<&'a Event> for Change<'a> {
    /// An event without a pair is a change of the empty key at revision 0, which no store has.
    fn from(event: &'a Event) -> Self {
        const NONE: Pair<'static> =
            Pair { key: b"", value: b"", create_revision: 0, mod_revision: 0, version: 0, lease: 0 };
        Self {
            is_delete: event.r#type() == EventType::Delete,
            kv: event.kv.as_ref().map_or(NONE, Pair::from),
            prev: event.prev_kv.as_ref().map(Pair::from),
        }
    }
}

impl<'a> From<etcd_watch_core::Event<'a>> for Change<'a> {
    fn from(event: etcd_watch_core::Event<'a>) -> Self {
        Self {
            is_delete: event.kind() == EventKind::Delete,
            kv: event.kv().into(),
            prev: event.prev().map(Pair::from),
        }
    }
}

impl<'a> From<&'a HistoryEvent> for Change<'a> {
    fn from(event: &'a HistoryEvent) -> Self {
        Self {
            is_delete: event.kind == model::EventKind::Delete,
            kv: Pair {
                key: &event.key,
                value: &event.value,
                create_revision: event.create_revision,
                mod_revision: event.revision,
                version: event.version,
                lease: event.lease,
            },
            prev: event.prev.as_ref().map(Pair::from),
        }
    }
}

/// Every change of a store, in order.
pub trait History {
    /// How many there are.
    fn count(&self) -> usize;

    /// One of them, by its place.
    fn change(&self, at: usize) -> Change<'_>;

    /// The place of the first change at or after a revision.
    fn place_of(&self, revision: i64) -> usize {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low.midpoint(high);
            if self.change(middle).revision() < revision {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

impl History for [Event] {
    fn count(&self) -> usize {
        self.len()
    }

    fn change(&self, at: usize) -> Change<'_> {
        Change::from(&self[at])
    }
}

impl History for [Arc<HistoryEvent>] {
    fn count(&self) -> usize {
        self.len()
    }

    fn change(&self, at: usize) -> Change<'_> {
        Change::from(&*self[at])
    }
}
