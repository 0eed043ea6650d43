//! Pairs and events that stand alone.

use core::{
    fmt,
    str::{Utf8Error, from_utf8},
};

use alloc::string::String;
use bytes::Bytes;

use super::event::EventKind;

/// A key-value pair that stands alone. It shares the buffer it was received in.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_structs,
    reason = "drivers make these, and etcd's KeyValue has had these fields for ten years"
)]
pub struct OwnedKeyValue {
    /// The key.
    pub key: Bytes,
    /// The value; empty when only keys were asked for.
    pub value: Bytes,
    /// The revision that created the key.
    pub create_revision: i64,
    /// The revision of the last change.
    pub mod_revision: i64,
    /// How often the key has been put since it was created.
    pub version: i64,
    /// The lease the key hangs on; 0 for none.
    pub lease: i64,
}

impl OwnedKeyValue {
    /// The key as text.
    ///
    /// # Errors
    /// When it isn't UTF-8.
    pub fn key_str(&self) -> Result<&str, Utf8Error> {
        from_utf8(&self.key)
    }

    /// The value as text.
    ///
    /// # Errors
    /// When it isn't UTF-8.
    pub fn value_str(&self) -> Result<&str, Utf8Error> {
        from_utf8(&self.value)
    }
}

impl fmt::Debug for OwnedKeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = String::from_utf8_lossy(&self.key);
        write!(f, "{key:?}@{} ({} bytes)", self.mod_revision, self.value.len())
    }
}

/// One change of one key that stands alone, so that it can be sent to another task or kept: what
/// [`Event::to_owned`](crate::Event::to_owned) makes. It shares the buffer it was received in, which stays in memory
/// for as long as it does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "etcd's Event has had these fields for ten years")]
pub struct OwnedEvent {
    /// Put or delete.
    pub kind: EventKind,
    /// The pair after the change; of a delete only the key and the modification revision mean anything.
    pub kv: OwnedKeyValue,
    /// The pair before the change, if it was asked for, existed, and is not compacted.
    pub prev: Option<OwnedKeyValue>,
}

impl OwnedEvent {
    /// Whether the change created the key.
    #[must_use]
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision == self.kv.mod_revision
    }
}
