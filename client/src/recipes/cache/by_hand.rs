//! A cache without a mirror: for benches of what it costs.

use std::{fmt, sync::Arc};

use etcd_watch_core::{KeyRange, MirrorEvent};

use super::{Alive, Cache, CacheRequest, fold::Fold, shared::Shared};
use crate::Client;

/// A cache that is told by hand what a mirror hands out.
pub struct CacheByHand {
    fold: Fold<()>,
    cache: Cache,
}

impl CacheByHand {
    /// An empty cache of these keys. Of the client it takes the runtime and the health.
    #[must_use]
    pub fn new(client: &Client, range: KeyRange) -> Self {
        let request = CacheRequest::new(range);
        let (monitor, runtime) = (client.monitor(), client.runtime().clone());
        let shared = Arc::new(Shared::new(request.range, request.history, None, monitor, runtime));
        Self {
            fold: Fold::new(shared.clone(), request.max_keys, request.make),
            cache: Cache { alive: Arc::new(Alive(shared)) },
        }
    }

    /// The cache, for its readers.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Folds and publishes what a mirror has handed out.
    pub fn take(&mut self, event: &MirrorEvent) {
        if let Err(error) = self.fold.take(event) {
            self.fold.shared.end(error);
        }
    }
}

impl fmt::Debug for CacheByHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheByHand").field("cache", &self.cache).finish_non_exhaustive()
    }
}
