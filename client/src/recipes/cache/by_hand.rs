//! A cache without a client: for benches of what it costs.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use etcd_watch_core::{Instant, KeyRange, MirrorEvent};

use super::{Alive, Cache, CacheRequest, fold::Fold, shared::Shared};
use crate::{
    BoxFuture, Health, Io, Monitor, Peer, Runtime, Verdict,
    toolkit::{Monitored, WaitList},
};

/// A cache that is told by hand what a mirror hands out.
pub struct CacheByHand {
    fold: Fold<()>,
    cache: Cache,
}

impl CacheByHand {
    /// An empty cache of these keys.
    #[must_use]
    pub fn new(range: KeyRange) -> Self {
        let request = CacheRequest::new(range);
        let shared = Arc::new(Shared::new(
            request.range,
            request.history,
            None,
            Monitor::new(Arc::new(Alone)),
            Arc::new(Alone),
        ));
        Self {
            fold: Fold::new(shared.clone(), request.make),
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
        self.fold.take(event);
    }
}

impl fmt::Debug for CacheByHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheByHand").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// Nothing can be reached, and nothing is ever run.
#[derive(Debug)]
struct Alone;

impl Runtime for Alone {
    fn resolve(&self, _: String, _: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect(&self, _: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn spawn(&self, _: BoxFuture<'static, ()>) {}

    fn now(&self) -> Instant {
        Instant::ZERO
    }
}

impl Monitored for Alone {
    fn health(&self) -> Health {
        Health::new(Instant::ZERO, Verdict::NotReady, crate::health::Contact::default())
    }

    fn changes(&self) -> Vec<&WaitList> {
        Vec::new()
    }
}
