//! What is built on watches, mirrors and calls, by what every user of the crate can use: the public API, of which
//! [`toolkit`](crate::toolkit) is a part. The crate `etcd-watch-recipes-apart` makes sure of it, except for the
//! methods in this file.

use crate::{BoxError, Client, Mirror};

pub mod cache;
pub mod concurrency;
pub mod config;
#[cfg(feature = "discovery")]
pub mod discovery;
pub(crate) mod typed_mirror;

use cache::{Cache, CacheRequest, CacheRequestError};
use typed_mirror::TypedMirror;

impl Client {
    /// Caches a key range. Returns at once; [`Cache::ready`] waits for the keys.
    ///
    /// # Errors
    /// A request that can't be served, or a client that has been closed.
    pub fn cache<P: Send + Sync + 'static>(
        &self,
        request: impl Into<CacheRequest<P>>,
    ) -> Result<Cache<P>, CacheRequestError> {
        Cache::open(self, request)
    }
}

impl Mirror {
    /// The same with its values decoded by `decode`, which is given a key and its value.
    ///
    /// Values are decoded when an event is looked at, by whoever does: keep it short. A value that does not decode is handed out
    /// as [`TypedUpdate::Undecodable`](crate::TypedUpdate::Undecodable).
    pub fn typed<T, E: Into<BoxError>>(
        self,
        decode: impl Fn(&[u8], &[u8]) -> Result<T, E> + Send + Sync + 'static,
    ) -> TypedMirror<T> {
        TypedMirror::new(self, decode)
    }
}
