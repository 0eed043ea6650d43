//! A key of the cache with its value.

use std::{fmt, str::Utf8Error, sync::Arc};

use bytes::Bytes;
use etcd_watch_core::{Event, KeyValue};
use triomphe::ThinArc;

use super::tree::Entry;
use crate::BoxError;

/// A key with its value, and what etcd tells with them. Cheap to clone, and shared between all snapshots that
/// have it.
///
/// `P` is what the cache keeps beside it: nothing, or in a [`TypedCache`](super::TypedCache) the value
/// [decoded](Decoded).
///
/// It is one piece of memory: what is told of the pair, the key, and behind that the value. What is received is not
/// kept, since a single key would keep the whole frame it came in.
pub struct CachedKv<P = ()>(ThinArc<Told<P>, u8>);

/// What is told of a pair.
struct Told<P> {
    key_bytes: usize,
    create_revision: i64,
    mod_revision: i64,
    version: i64,
    lease: i64,
    payload: P,
}

impl<P> CachedKv<P> {
    /// `joined` is where key and value are put together.
    pub(super) fn new(kv: Fresh<'_>, payload: P, joined: &mut Vec<u8>) -> Self {
        joined.clear();
        joined.extend_from_slice(kv.key);
        joined.extend_from_slice(kv.value);
        let told = Told {
            key_bytes: kv.key.len(),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
            payload,
        };
        Self(ThinArc::from_header_and_slice(told, joined))
    }

    fn told(&self) -> &Told<P> {
        &self.0.header.header
    }

    /// The key, and behind it the value.
    fn data(&self) -> &[u8] {
        &self.0.slice
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.data()[..self.told().key_bytes]
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.data()[self.told().key_bytes..]
    }

    /// The key as text.
    ///
    /// # Errors
    /// When it isn't UTF-8.
    pub fn key_str(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(self.key())
    }

    /// The value as text.
    ///
    /// # Errors
    /// When it isn't UTF-8.
    pub fn value_str(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(self.value())
    }

    /// The revision that created the key.
    #[must_use]
    pub fn create_revision(&self) -> i64 {
        self.told().create_revision
    }

    /// The revision of the last change.
    #[must_use]
    pub fn mod_revision(&self) -> i64 {
        self.told().mod_revision
    }

    /// How often the key has been put since it was created.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.told().version
    }

    /// The lease the key hangs on; 0 for none.
    #[must_use]
    pub fn lease(&self) -> i64 {
        self.told().lease
    }

    /// What the cache keeps beside it.
    #[must_use]
    pub fn payload(&self) -> &P {
        &self.told().payload
    }

    /// The bytes of key and value.
    pub(super) fn bytes(&self) -> usize {
        self.data().len()
    }
}

impl<P: Send + Sync + 'static> CachedKv<P> {
    /// The key, to keep: shares memory with the cache.
    #[must_use]
    pub fn key_bytes(&self) -> Bytes {
        self.data_bytes().slice(..self.told().key_bytes)
    }

    /// The value, to keep: shares memory with the cache.
    #[must_use]
    pub fn value_bytes(&self) -> Bytes {
        self.data_bytes().slice(self.told().key_bytes..)
    }

    fn data_bytes(&self) -> Bytes {
        Bytes::from_owner(Data(self.clone()))
    }
}

/// The owner behind `Bytes`: a pair that they keep alive.
struct Data<P>(CachedKv<P>);

impl<P> AsRef<[u8]> for Data<P> {
    fn as_ref(&self) -> &[u8] {
        self.0.data()
    }
}

impl<T> CachedKv<Decoded<T>> {
    /// The value, decoded.
    ///
    /// # Errors
    /// Why this value could not be.
    pub fn decoded(&self) -> Result<&Arc<T>, &Arc<Undecodable<T>>> {
        self.payload().0.as_ref()
    }

    /// The value, decoded; where it could not be, the last value before it that could.
    /// See [`Undecodable::last_good`].
    #[must_use]
    pub fn decoded_or_last_good(&self) -> Option<&Arc<T>> {
        self.decoded().ok().or_else(|| self.payload().last_good().map(|good| &good.value))
    }
}

impl<P> Clone for CachedKv<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// It is a reference: what it refers to never moves with it.
impl<P> Unpin for CachedKv<P> {}

/// Equal in everything that etcd tells.
impl<P> PartialEq for CachedKv<P> {
    fn eq(&self, other: &Self) -> bool {
        let told = |kv: &Self| (kv.mod_revision(), kv.version(), kv.create_revision(), kv.lease());
        std::ptr::eq(self.told(), other.told())
            || (told(self) == told(other) && self.key() == other.key() && self.value() == other.value())
    }
}

impl<P> Eq for CachedKv<P> {}

impl<P> fmt::Debug for CachedKv<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = String::from_utf8_lossy(self.key());
        write!(f, "{key:?}@{} ({} bytes)", self.mod_revision(), self.value().len())
    }
}

impl<P> Entry for CachedKv<P> {
    fn key(&self) -> &[u8] {
        self.key()
    }

    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

/// A pair as it was received.
#[derive(Clone, Copy)]
pub(super) struct Fresh<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) create_revision: i64,
    pub(super) mod_revision: i64,
    pub(super) version: i64,
    pub(super) lease: i64,
}

impl<'a> From<KeyValue<'a>> for Fresh<'a> {
    fn from(kv: KeyValue<'a>) -> Self {
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

impl<'a> From<&Event<'a>> for Fresh<'a> {
    fn from(event: &Event<'a>) -> Self {
        Self {
            key: event.key(),
            value: event.value(),
            create_revision: event.create_revision(),
            mod_revision: event.mod_revision(),
            version: event.version(),
            lease: event.lease(),
        }
    }
}

/// What a decoder made of a value: the value, shared, or why there is none.
pub struct Decoded<T>(pub(super) Result<Arc<T>, Arc<Undecodable<T>>>);

impl<T> Decoded<T> {
    /// What to fall back on, should the next value not decode.
    pub(super) fn good(&self, mod_revision: i64) -> Option<LastGood<T>> {
        match &self.0 {
            Ok(value) => Some(LastGood { value: value.clone(), mod_revision }),
            Err(_) => self.last_good().cloned(),
        }
    }

    fn last_good(&self) -> Option<&LastGood<T>> {
        self.0.as_ref().err().and_then(|error| error.last_good.as_ref())
    }
}

impl<T> Clone for Decoded<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for Decoded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value that decoded.
#[derive(Debug)]
pub struct LastGood<T> {
    /// The value.
    pub value: Arc<T>,
    /// The revision that put it.
    pub mod_revision: i64,
}

impl<T> Clone for LastGood<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), mod_revision: self.mod_revision }
    }
}

/// A value that does not decode: an error of its key alone.
pub struct Undecodable<T> {
    pub(super) key: Bytes,
    pub(super) mod_revision: i64,
    pub(super) last_good: Option<LastGood<T>>,
    pub(super) source: BoxError,
}

impl<T> Undecodable<T> {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The revision that put the value.
    #[must_use]
    pub fn mod_revision(&self) -> i64 {
        self.mod_revision
    }

    /// The last value of the key that did decode, if this cache has seen one since the key was last created. It
    /// depends on what the cache has seen, and not on the store alone: two caches may differ in it.
    #[must_use]
    pub fn last_good(&self) -> Option<&LastGood<T>> {
        self.last_good.as_ref()
    }
}

impl<T> fmt::Debug for Undecodable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undecodable")
            .field("key", &String::from_utf8_lossy(&self.key))
            .field("mod_revision", &self.mod_revision)
            .field("last_good", &self.last_good.as_ref().map(|good| good.mod_revision))
            .field("source", &self.source)
            .finish()
    }
}

impl<T> fmt::Display for Undecodable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, revision) = (String::from_utf8_lossy(&self.key), self.mod_revision);
        write!(f, "the value that {key:?} has since revision {revision} does not decode: {}", self.source)
    }
}

impl<T> std::error::Error for Undecodable<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}
