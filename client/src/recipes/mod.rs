//! What is built on watches, mirrors and calls, by what every user of the crate can use: the public API, of which
//! [`toolkit`](crate::toolkit) is a part. The crate `etcd-watch-recipes-apart` makes sure of it, except for the
//! methods of the client in this file.

use crate::Client;

pub mod cache;
pub mod concurrency;
pub mod config;
#[cfg(feature = "discovery")]
pub mod discovery;

use cache::{Cache, CacheRequest, CacheRequestError};

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
