//! What happened to the keys.

use bytes::Bytes;
use etcd_watch_proto::mvccpb::{Event, KeyValue, event::EventType};

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// It was created or overwritten.
    Put,
    /// It was deleted.
    Delete,
}

/// One change of one key: the truth that watches are checked against.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEvent {
    /// The revision: all changes of one transaction share it.
    pub revision: i64,
    /// Position among the changes of the revision, from 0.
    pub sub_revision: i64,
    /// What happened.
    pub kind: EventKind,
    /// The key.
    pub key: Bytes,
    /// The value put; empty for a delete.
    pub value: Bytes,
    /// Revision at which this generation of the key began; 0 for a delete.
    pub create_revision: i64,
    /// Puts since then; 0 for a delete.
    pub version: i64,
    /// Lease the key is attached to; 0 for none.
    pub lease: i64,
    /// The key's state before this revision, if it had one.
    pub prev: Option<KeyValue>,
}

impl HistoryEvent {
    /// The key's state after the change, as etcd sends it: of a delete, only key and mod revision.
    #[must_use]
    pub fn key_value(&self) -> KeyValue {
        KeyValue {
            key: self.key.clone(),
            create_revision: self.create_revision,
            mod_revision: self.revision,
            version: self.version,
            value: self.value.clone(),
            lease: self.lease,
        }
    }

    /// The change as etcd sends it, without the state before.
    #[must_use]
    pub fn to_event(&self) -> Event {
        let kind = match self.kind {
            EventKind::Put => EventType::Put,
            EventKind::Delete => EventType::Delete,
        };
        Event { r#type: kind.into(), kv: Some(self.key_value()), prev_kv: None }
    }

    /// Whether this put began a generation of the key.
    #[must_use]
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.create_revision == self.revision
    }
}
