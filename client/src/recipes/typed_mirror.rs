//! A mirror whose values are decoded.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use etcd_watch_core::{
    Checkpoint, EventKind, KeyValue, ListProgress, MirrorEvent, SnapshotPart, WatchResponse,
};
use futures_core::{FusedStream, Stream};

use crate::{BoxError, Mirror, WatchError};

/// Decodes a value, given its key and itself.
type Decode<T> = dyn Fn(&[u8], &[u8]) -> Result<T, BoxError> + Send + Sync;

/// A [`Mirror`] whose values are decoded: `client.mirror(request)?.typed(decode)`.
///
/// It hands out each event of the mirror, and no others, as a [`TypedMirrorEvent`]. Its values are decoded when they are
/// looked at, so that no more is held in memory than by the mirror itself: an event is a view on what was received, and
/// decoded values are only those that the application takes from it. A value that does not decode is handed out as
/// such, in its place.
///
/// ```no_run
/// use std::collections::BTreeMap;
/// use etcd_watch_client::{BoxError, Client, KeyRange, TypedUpdate};
///
/// async fn follow(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
///     let decode = |_key: &[u8], value: &[u8]| std::str::from_utf8(value)?.parse::<u16>().map_err(BoxError::from);
///     let mut mirror = client.mirror(KeyRange::prefix("ports/"))?.typed(decode);
///     let mut ports = BTreeMap::new();
///     while let Some(event) = mirror.try_next().await? {
///         for update in event.updates() {
///             match update {
///                 TypedUpdate::Put { kv, value } => {
///                     ports.insert(kv.key().to_vec(), value);
///                 }
///                 TypedUpdate::Delete { key } => {
///                     ports.remove(key);
///                 }
///                 // The last good value stays.
///                 TypedUpdate::Undecodable { kv, error } => eprintln!("{kv:?}: {error}"),
///             }
///         }
///         if let Some(revision) = event.synced_revision() {
///             println!("at {revision} the ports are {ports:?}");
///         }
///     }
///     Ok(())
/// }
/// ```
#[must_use = "it does nothing unless it is polled"]
pub struct TypedMirror<T> {
    mirror: Mirror,
    decode: Arc<Decode<T>>,
}

impl<T> TypedMirror<T> {
    /// A mirror whose values are decoded. `Mirror::typed` is the same.
    pub fn new<E: Into<BoxError>>(
        mirror: Mirror,
        decode: impl Fn(&[u8], &[u8]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self {
        Self { mirror, decode: Arc::new(move |key, value| decode(key, value).map_err(Into::into)) }
    }

    /// The next event; `None` after the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<TypedMirrorEvent<T>, WatchError>> {
        let event = self.mirror.next().await?;
        Some(event.map(|event| self.typed(event)))
    }

    /// The next event; `Ok(None)` after the end. Cancel-safe.
    ///
    /// # Errors
    /// Why it can't go on, once.
    pub async fn try_next(&mut self) -> Result<Option<TypedMirrorEvent<T>>, WatchError> {
        self.next().await.transpose()
    }

    /// Asks the server how far the watch is: see [`Mirror::request_progress`].
    pub fn request_progress(&mut self) {
        self.mirror.request_progress();
    }

    /// Ends it, here and on the server: the stream ends without an error.
    pub fn cancel(&mut self) {
        self.mirror.cancel();
    }

    /// The revision that the fold of what was taken is exactly at; `None` in the middle of a list.
    #[must_use]
    pub fn synced_revision(&self) -> Option<i64> {
        self.mirror.synced_revision()
    }

    /// Where to go on after a restart of the program: see [`Mirror::checkpoint`].
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.mirror.checkpoint()
    }

    /// How far the list has come that is being handed out; `None` while there is none.
    #[must_use]
    pub fn list_progress(&self) -> Option<ListProgress> {
        self.mirror.list_progress()
    }

    /// The mirror without the decoder.
    pub fn into_mirror(self) -> Mirror {
        self.mirror
    }

    fn typed(&self, event: MirrorEvent) -> TypedMirrorEvent<T> {
        TypedMirrorEvent { event, decode: self.decode.clone() }
    }
}

impl<T> Stream for TypedMirror<T> {
    type Item = Result<TypedMirrorEvent<T>, WatchError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mirror = self.get_mut();
        let polled = Pin::new(&mut mirror.mirror).poll_next(cx);
        polled.map(|event| event.map(|event| event.map(|event| mirror.typed(event))))
    }
}

impl<T> FusedStream for TypedMirror<T> {
    fn is_terminated(&self) -> bool {
        self.mirror.is_terminated()
    }
}

impl<T> fmt::Debug for TypedMirror<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedMirror").field(&self.mirror).finish()
    }
}

/// An event of a [`TypedMirror`]: a [`MirrorEvent`] and the decoder for its values.
pub struct TypedMirrorEvent<T> {
    event: MirrorEvent,
    decode: Arc<Decode<T>>,
}

impl<T> TypedMirrorEvent<T> {
    /// The event as the mirror has handed it out. Its documentation is what a consumer may rely on.
    #[must_use]
    pub fn event(&self) -> &MirrorEvent {
        &self.event
    }

    /// The event, by value.
    #[must_use]
    pub fn into_event(self) -> MirrorEvent {
        self.event
    }

    /// What to fold in, in the order to do it in: as [`MirrorEvent::updates`], decoded. Each value is decoded when the
    /// iterator comes to it, and again if it is iterated again.
    pub fn updates(&self) -> impl Iterator<Item = TypedUpdate<'_, T>> {
        let (part, response) = match &self.event {
            MirrorEvent::Snapshot(part) => (Some(part), None),
            MirrorEvent::Changes(response) => (None, Some(response)),
            _ => (None, None),
        };
        let deletes = part.into_iter().flat_map(SnapshotPart::deletes).map(|key| TypedUpdate::Delete { key });
        let puts = part.into_iter().flat_map(SnapshotPart::puts).map(|kv| self.put(kv));
        let changed = response.into_iter().flat_map(WatchResponse::events).map(|event| match event.kind() {
            EventKind::Delete => TypedUpdate::Delete { key: event.key() },
            _ => self.put(event.kv()),
        });
        deletes.chain(puts).chain(changed)
    }

    /// The revision of the store that the fold is exactly at once the event is folded in; `None` if it is at none.
    #[must_use]
    pub fn synced_revision(&self) -> Option<i64> {
        self.event.synced_revision()
    }

    fn put<'a>(&self, kv: KeyValue<'a>) -> TypedUpdate<'a, T> {
        match (self.decode)(kv.key(), kv.value()) {
            Ok(value) => TypedUpdate::Put { kv, value },
            Err(error) => TypedUpdate::Undecodable { kv, error },
        }
    }
}

impl<T> Clone for TypedMirrorEvent<T> {
    fn clone(&self) -> Self {
        Self { event: self.event.clone(), decode: self.decode.clone() }
    }
}

impl<T> fmt::Debug for TypedMirrorEvent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.event.fmt(f)
    }
}

/// One change of one key, with its value decoded.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a consumer that misses one has another state than the store")]
pub enum TypedUpdate<'a, T> {
    /// The key has this value now.
    Put {
        /// The pair as it was received.
        kv: KeyValue<'a>,
        /// Its value, decoded.
        value: T,
    },
    /// The key has a value now that does not decode. What it had before is not in the store any more; whether to keep
    /// it, to forget the key or to stop is up to the consumer.
    Undecodable {
        /// The pair as it was received.
        kv: KeyValue<'a>,
        /// Why it does not decode.
        error: BoxError,
    },
    /// The key is gone.
    Delete {
        /// The key.
        key: &'a [u8],
    },
}

impl<'a, T> TypedUpdate<'a, T> {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        match self {
            Self::Put { kv, .. } | Self::Undecodable { kv, .. } => kv.key(),
            Self::Delete { key } => key,
        }
    }
}
