//! What a cache is asked for.

use std::{fmt, sync::Arc, time::Duration};

use etcd_watch_core::{KeyRange, MirrorRequest, StreamOptions};

use super::{
    entry::{CachedKv, Decoded, Fresh, Undecodable},
    error::{CacheRequestError, check_count},
    stats::Counters,
};
use crate::BoxError;

/// Makes what is kept beside a pair, from it and the pair before.
pub(super) type Make<P> = Arc<dyn Fn(&Fresh<'_>, Option<&CachedKv<P>>, &Counters) -> P + Send + Sync>;

/// Longer than a restart of a member or the choice of a leader takes.
const UNREADY_AFTER: Duration = Duration::from_secs(30);

/// A cache to make: [`Client::cache`](crate::Client::cache).
///
/// ```
/// use etcd_watch_client::{KeyRange, cache::CacheRequest};
///
/// let names = CacheRequest::new(KeyRange::prefix("names/"))
///     .history(100)
///     .typed(|_key, value| String::from_utf8(value.to_vec()));
/// # let _ = names;
/// ```
#[must_use]
pub struct CacheRequest<P = ()> {
    pub(super) range: KeyRange,
    page_bytes: Option<usize>,
    pub(super) history: usize,
    pub(super) unready_after: Option<Duration>,
    buffer_bytes: Option<usize>,
    pub(super) max_keys: u64,
    stream: StreamOptions,
    #[cfg(feature = "metrics")]
    pub(super) name: String,
    pub(super) make: Make<P>,
}

impl CacheRequest {
    /// A cache of a key or a range, with every option at its default.
    pub fn new(range: impl Into<KeyRange>) -> Self {
        let range = range.into();
        Self {
            #[cfg(feature = "metrics")]
            name: String::from_utf8_lossy(range.start()).into_owned(),
            range,
            page_bytes: None,
            history: 64,
            unready_after: Some(UNREADY_AFTER),
            buffer_bytes: None,
            max_keys: MirrorRequest::MAX_KEYS,
            stream: StreamOptions::default(),
            make: Arc::new(|_, _, _| ()),
        }
    }

    /// Decode values: what the cache keeps beside each pair is then what `decode` made of its key and value.
    ///
    /// Each value is decoded once, when it comes, on the cache's task, and shared from then on: keep it short.
    /// A value that does not decode is an error of its key alone ([`CachedKv::decoded`]); it is counted and
    /// warned of once, and the last good value of the key stays at hand.
    pub fn typed<T, E>(
        self,
        decode: impl Fn(&[u8], &[u8]) -> Result<T, E> + Send + Sync + 'static,
    ) -> CacheRequest<Decoded<T>>
    where
        E: Into<BoxError>,
    {
        let make: Make<Decoded<T>> = Arc::new(move |fresh, prev, counters| {
            Decoded(match decode(fresh.key, fresh.value) {
                Ok(value) => Ok(Arc::new(value)),
                Err(error) => {
                    counters.decode_errors.add(1);
                    let source: BoxError = error.into();
                    let (key, revision) = (String::from_utf8_lossy(fresh.key), fresh.mod_revision);
                    tracing::warn!(name: "cache_undecodable", %key, revision, error = %source, "a cached value does not decode");
                    // A key that was deleted and made anew has nothing to do with the one before.
                    let prev = prev.filter(|prev| prev.create_revision() == fresh.create_revision);
                    let last_good = prev.and_then(|prev| prev.payload().good(prev.mod_revision()));
                    let (key, mod_revision) = (fresh.key.to_vec().into(), fresh.mod_revision);
                    Err(Arc::new(Undecodable { key, mod_revision, last_good, source }))
                }
            })
        });
        CacheRequest {
            range: self.range,
            page_bytes: self.page_bytes,
            history: self.history,
            unready_after: self.unready_after,
            buffer_bytes: self.buffer_bytes,
            max_keys: self.max_keys,
            stream: self.stream,
            #[cfg(feature = "metrics")]
            name: self.name,
            make,
        }
    }
}

impl<P> CacheRequest<P> {
    /// How many states to keep for [`Cache::snapshot_at`](super::Cache::snapshot_at) and for subscriptions that
    /// start at a revision, the current one among them. Default: 64. A state costs what changed since the one
    /// before: the old value, and a few KB of nodes.
    pub fn history(mut self, states: usize) -> Self {
        self.history = states;
        self
    }

    /// For how long the cache may be away from its store before it is not [ready](super::Cache::health) any more: until
    /// its watch runs on a member again and what it missed is there, by a list where it has to be. `None`: it stays
    /// ready. Default: 30 s.
    ///
    /// A connection that hangs has to be noticed first, see [`Health`](crate::Health).
    pub fn unready_after(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.unready_after = limit.into();
        self
    }

    /// The size in bytes that the pages of lists are to have. Default: the client's, see
    /// [`WatchConfig::page_bytes`](etcd_watch_core::WatchConfig::page_bytes).
    pub fn page_bytes(mut self, bytes: usize) -> Self {
        self.page_bytes = Some(bytes);
        self
    }

    /// How many bytes of changes may wait for the cache's task. Default: the client's, see
    /// [`MirrorRequest::buffer_bytes`].
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = Some(bytes);
        self
    }

    /// The most keys that the cache may have. One that would have more ends with
    /// [`TooManyKeys`](super::CacheError::TooManyKeys). Default: [`MirrorRequest::MAX_KEYS`].
    pub fn max_keys(mut self, keys: u64) -> Self {
        self.max_keys = keys;
        self
    }

    /// The stream the watch travels on; the lists carry the same metadata. Default: the one shared by all
    /// watches without options of their own.
    pub fn stream_options(mut self, options: StreamOptions) -> Self {
        self.stream = options;
        self
    }

    /// What metrics call it: their label `cache`. Default: the first key of the range, as text. Caches of one
    /// name overwrite each other's gauges.
    #[cfg(feature = "metrics")]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The keys cached.
    #[must_use]
    pub fn range(&self) -> &KeyRange {
        &self.range
    }

    /// The mirror it stands on.
    pub(super) fn mirror(&self) -> Result<MirrorRequest, CacheRequestError> {
        let out_of_range = |(field, value, allowed)| CacheRequestError::OutOfRange { field, value, allowed };
        check_count("history", self.history).map_err(out_of_range)?;
        // The cache has the keys in order itself.
        let mut mirror = MirrorRequest::new(self.range.clone())
            .keep_index(false)
            .max_keys(self.max_keys)
            .stream_options(self.stream.clone());
        let in_range = |field, bytes: usize| {
            let is_in = bytes > 0 && isize::try_from(bytes).is_ok();
            let refused = || out_of_range((field, bytes.to_string(), "from 1 to isize::MAX"));
            if is_in { Ok(bytes) } else { Err(refused()) }
        };
        if let Some(bytes) = self.page_bytes {
            mirror = mirror.page_bytes(in_range("page_bytes", bytes)?);
        }
        if let Some(bytes) = self.buffer_bytes {
            mirror = mirror.buffer_bytes(in_range("buffer_bytes", bytes)?);
        }
        Ok(mirror)
    }
}

impl<R: Into<KeyRange>> From<R> for CacheRequest {
    fn from(range: R) -> Self {
        Self::new(range)
    }
}

impl<P> Clone for CacheRequest<P> {
    fn clone(&self) -> Self {
        Self {
            range: self.range.clone(),
            page_bytes: self.page_bytes,
            history: self.history,
            unready_after: self.unready_after,
            buffer_bytes: self.buffer_bytes,
            max_keys: self.max_keys,
            stream: self.stream.clone(),
            #[cfg(feature = "metrics")]
            name: self.name.clone(),
            make: self.make.clone(),
        }
    }
}

impl<P> fmt::Debug for CacheRequest<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheRequest")
            .field("range", &self.range)
            .field("history", &self.history)
            .field("page_bytes", &self.page_bytes)
            .finish_non_exhaustive()
    }
}
