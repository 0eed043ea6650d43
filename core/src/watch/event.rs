//! What a watch's consumer reads: events and key-value pairs, as views on a received buffer.

use alloc::string::String;

use bytes::Bytes;
use core::{
    fmt,
    str::{Utf8Error, from_utf8},
};

use super::{
    owned::{OwnedEvent, OwnedKeyValue},
    response::Chunk,
};
use crate::wire::index::{EventIndex, KvIndex};

/// Whether a key was put or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "etcd's protocol has these two, and a reader has to deal with both"
)]
pub enum EventKind {
    /// The key was put.
    Put,
    /// The key was deleted, by a request or with its lease.
    Delete,
}

impl EventKind {
    /// The kind with this number in etcd's protocol; `None` for a number that it doesn't have.
    #[inline]
    pub(crate) fn from_wire(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::Put),
            1 => Some(Self::Delete),
            _ => None,
        }
    }
}

/// One change of one key. Borrows from its [`WatchResponse`](crate::WatchResponse).
#[derive(Clone, Copy)]
pub struct Event<'a> {
    chunk: &'a Chunk,
    index: &'a EventIndex,
}

impl<'a> Event<'a> {
    #[inline]
    pub(super) fn new(chunk: &'a Chunk, index: &'a EventIndex) -> Self {
        Self { chunk, index }
    }

    /// Put or delete.
    #[must_use]
    #[inline]
    pub fn kind(&self) -> EventKind {
        // A frame with events of other kinds is refused.
        EventKind::from_wire(self.index.kind).unwrap_or(EventKind::Put)
    }

    /// The key-value pair after the change; of a delete only the key and the modification revision mean
    /// anything.
    #[must_use]
    #[inline]
    pub fn kv(&self) -> KeyValue<'a> {
        KeyValue::new(self.chunk.frame(), &self.index.kv)
    }

    /// The key.
    #[must_use]
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        self.kv().key()
    }

    /// The value; empty for a delete.
    #[must_use]
    #[inline]
    pub fn value(&self) -> &'a [u8] {
        self.kv().value()
    }

    /// The key as text.
    ///
    /// # Errors
    /// When it isn't UTF-8.
    pub fn key_str(&self) -> Result<&'a str, Utf8Error> {
        from_utf8(self.key())
    }

    /// The value as text.
    ///
    /// # Errors
    /// When it isn't UTF-8.
    pub fn value_str(&self) -> Result<&'a str, Utf8Error> {
        from_utf8(self.value())
    }

    /// The revision of the change.
    #[must_use]
    #[inline]
    pub fn mod_revision(&self) -> i64 {
        self.index.kv.mod_revision
    }

    /// The revision that created the key; 0 for a delete.
    #[must_use]
    #[inline]
    pub fn create_revision(&self) -> i64 {
        self.index.kv.create_revision
    }

    /// How often the key has been put since it was created; 0 for a delete.
    #[must_use]
    #[inline]
    pub fn version(&self) -> i64 {
        self.index.kv.version
    }

    /// The lease the key hangs on; 0 for none.
    #[must_use]
    #[inline]
    pub fn lease(&self) -> i64 {
        self.index.kv.lease
    }

    /// The pair before the change, if it was asked for, existed, and is not compacted.
    #[must_use]
    #[inline]
    pub fn prev(&self) -> Option<KeyValue<'a>> {
        self.chunk.prev(self.index).map(|prev| KeyValue::new(self.chunk.frame(), prev))
    }

    /// The event as one that stands alone. Nothing is copied: it shares the received buffer.
    #[must_use]
    pub fn to_owned(&self) -> OwnedEvent {
        let prev = self.prev().map(|prev| prev.to_owned());
        OwnedEvent { kind: self.kind(), kv: self.kv().to_owned(), prev }
    }

    /// Whether the change created the key.
    #[must_use]
    pub fn is_create(&self) -> bool {
        self.kind() == EventKind::Put && self.create_revision() == self.mod_revision()
    }
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        write!(f, "{kind:?} {:?}", self.kv())?;
        self.prev().map_or(Ok(()), |prev| write!(f, " was {prev:?}"))
    }
}

impl PartialEq for Event<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.kind(), self.kv(), self.prev()) == (other.kind(), other.kv(), other.prev())
    }
}

/// A key-value pair. Borrows from its [`WatchResponse`](crate::WatchResponse) or its [`Pairs`](crate::Pairs).
#[derive(Clone, Copy)]
pub struct KeyValue<'a> {
    frame: &'a Bytes,
    index: &'a KvIndex,
}

impl<'a> KeyValue<'a> {
    #[inline]
    pub(crate) fn new(frame: &'a Bytes, index: &'a KvIndex) -> Self {
        Self { frame, index }
    }

    /// The key.
    #[must_use]
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        self.index.key.of(self.frame)
    }

    /// The value.
    #[must_use]
    #[inline]
    pub fn value(&self) -> &'a [u8] {
        self.index.value.of(self.frame)
    }

    /// The key as text.
    ///
    /// # Errors
    /// When it isn't UTF-8.
    pub fn key_str(&self) -> Result<&'a str, Utf8Error> {
        from_utf8(self.key())
    }

    /// The value as text.
    ///
    /// # Errors
    /// When it isn't UTF-8.
    pub fn value_str(&self) -> Result<&'a str, Utf8Error> {
        from_utf8(self.value())
    }

    /// The pair as one that stands alone. Nothing is copied: it shares the received buffer.
    #[must_use]
    pub fn to_owned(&self) -> OwnedKeyValue {
        OwnedKeyValue {
            key: self.key_bytes(),
            value: self.value_bytes(),
            create_revision: self.create_revision(),
            mod_revision: self.mod_revision(),
            version: self.version(),
            lease: self.lease(),
        }
    }

    /// The key as a buffer of its own, which shares the received one rather than copying it.
    #[must_use]
    pub fn key_bytes(&self) -> Bytes {
        self.frame.slice(self.index.key.range())
    }

    /// The value as a buffer of its own, which shares the received one rather than copying it.
    #[must_use]
    pub fn value_bytes(&self) -> Bytes {
        self.frame.slice(self.index.value.range())
    }

    /// The revision of the last change.
    #[must_use]
    #[inline]
    pub fn mod_revision(&self) -> i64 {
        self.index.mod_revision
    }

    /// The revision that created the key.
    #[must_use]
    #[inline]
    pub fn create_revision(&self) -> i64 {
        self.index.create_revision
    }

    /// How often the key has been put since it was created.
    #[must_use]
    #[inline]
    pub fn version(&self) -> i64 {
        self.index.version
    }

    /// The lease the key hangs on; 0 for none.
    #[must_use]
    #[inline]
    pub fn lease(&self) -> i64 {
        self.index.lease
    }
}

impl fmt::Debug for KeyValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = String::from_utf8_lossy(self.key());
        write!(f, "{key:?}@{} ({} bytes)", self.mod_revision(), self.value().len())
    }
}

impl PartialEq for KeyValue<'_> {
    fn eq(&self, other: &Self) -> bool {
        let fields = |kv: &Self| (kv.create_revision(), kv.mod_revision(), kv.version(), kv.lease());
        self.key() == other.key() && self.value() == other.value() && fields(self) == fields(other)
    }
}
