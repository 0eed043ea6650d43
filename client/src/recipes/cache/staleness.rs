//! Reads of a cache that are bounded by how old the state may be.
//!
//! A state is *known to be current as of* a moment if it has everything that the store had then. That is known from a
//! linearizable read of the store's revision, such as [`Cache::consistent`] makes, once the cache has come to the
//! revision that the read found: the state is current as of the moment before the read was sent. Nothing else is taken
//! for it. What merely arrives (events, progress, frames of other watches, pings) says that a member is alive, and can
//! have been on its way for any time, or come from a member that is itself behind.

use std::time::Duration;

use super::{Cache, CachedKv, Snapshot, error::CacheError};
use crate::toolkit::Moment;

impl<P> Cache<P> {
    /// How old its last state is at most: it has everything that the store had so long ago. `None` before that has been
    /// found out for the first time, by [`consistent`](Self::consistent), [`snapshot_within`](Self::snapshot_within) or
    /// [`get_within`](Self::get_within); only they shorten it, since only they ask the store. Time in which the machine
    /// sleeps counts.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        let shared = self.shared();
        let now = Moment::now(&*shared.runtime);
        shared.known_current().map(|as_of| now.since(as_of))
    }

    /// A state that has everything that the store had `limit` ago. If that is known already, this is the last state, at
    /// once; otherwise the store is asked, as by [`consistent`](Self::consistent). Once it is
    /// known the store is not asked for `limit`. Calls that come while it is being found out share small reads, one at a
    /// time. To wait no longer than some
    /// time for it: [`timeout`](Self::timeout).
    ///
    /// # Errors
    /// When it isn't known and can't be found out: the store's revision can't be read, or the cache has ended.
    pub async fn snapshot_within(&self, limit: Duration) -> Result<Snapshot<P>, CacheError> {
        if self.staleness().is_some_and(|staleness| staleness <= limit) {
            return Ok(self.snapshot());
        }
        self.consistent().await
    }

    /// A key in a state that has everything that the store had `limit` ago: see
    /// [`snapshot_within`](Self::snapshot_within).
    ///
    /// # Errors
    /// As there.
    pub async fn get_within(
        &self,
        key: impl AsRef<[u8]>,
        limit: Duration,
    ) -> Result<Option<CachedKv<P>>, CacheError> {
        Ok(self.snapshot_within(limit).await?.get(key).cloned())
    }
}
