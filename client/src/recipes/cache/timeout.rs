//! A time limit for whatever a cache is waited for.

use std::{future::Future, time::Duration};

use super::{Cache, CachedKv, Snapshot, error::CacheError};
use crate::toolkit::timeout;

/// A cache whose methods wait no longer than some time: [`Cache::timeout`].
#[derive(Debug)]
#[must_use = "it does nothing by itself"]
pub struct Timeout<'a, P = ()> {
    cache: &'a Cache<P>,
    limit: Duration,
}

impl<P> Cache<P> {
    /// A time limit for one wait: `cache.timeout(Duration::from_secs(1)).consistent().await`.
    pub fn timeout(&self, limit: Duration) -> Timeout<'_, P> {
        Timeout { cache: self, limit }
    }
}

impl<P> Timeout<'_, P> {
    /// [`Cache::ready`].
    ///
    /// # Errors
    /// As there; or [`CacheError::TimedOut`].
    pub async fn ready(self) -> Result<Snapshot<P>, CacheError> {
        self.limited("the first state", self.cache.ready()).await
    }

    /// [`Cache::wait_for`].
    ///
    /// # Errors
    /// As there; or [`CacheError::TimedOut`].
    pub async fn wait_for(self, revision: i64) -> Result<Snapshot<P>, CacheError> {
        self.limited("the revision", self.cache.wait_for(revision)).await
    }

    /// [`Cache::consistent`].
    ///
    /// # Errors
    /// As there; or [`CacheError::TimedOut`].
    pub async fn consistent(self) -> Result<Snapshot<P>, CacheError> {
        self.limited("a current state", self.cache.consistent()).await
    }

    /// [`Cache::snapshot_within`].
    ///
    /// # Errors
    /// As there; or [`CacheError::TimedOut`].
    pub async fn snapshot_within(self, staleness: Duration) -> Result<Snapshot<P>, CacheError> {
        self.limited("a state new enough", self.cache.snapshot_within(staleness)).await
    }

    /// [`Cache::get_within`].
    ///
    /// # Errors
    /// As there; or [`CacheError::TimedOut`].
    pub async fn get_within(
        self,
        key: impl AsRef<[u8]>,
        staleness: Duration,
    ) -> Result<Option<CachedKv<P>>, CacheError> {
        self.limited("a state new enough", self.cache.get_within(key, staleness)).await
    }

    async fn limited<T>(
        &self,
        what: &'static str,
        wait: impl Future<Output = Result<T, CacheError>>,
    ) -> Result<T, CacheError> {
        let after = self.limit;
        let done = timeout(&*self.cache.shared().runtime, after, wait).await;
        done.unwrap_or(Err(CacheError::TimedOut { what, after }))
    }
}
