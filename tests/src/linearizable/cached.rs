//! Reads of a cache, written down.

use std::time::Duration;

use etcd_watch_client::cache::{Cache, CacheError, Snapshot};
use etcd_watch_proto::mvccpb::KeyValue;

use super::{
    history::{Demand, Outcome, Request},
    recorder::{RecordedClient, range_answer},
    translate::range_request,
};

/// The reads return what the cache's own do. A read is of all that the cache has.
///
/// # Errors
/// Those of the cache's reads.
#[expect(clippy::missing_errors_doc, reason = "said once, for all of them")]
impl RecordedClient {
    /// `Cache::consistent`.
    pub async fn consistent(&self, cache: &Cache) -> Result<Snapshot, CacheError> {
        self.cached(cache, Demand::Current, cache.consistent()).await
    }

    /// `Cache::wait_for`.
    pub async fn wait_for(&self, cache: &Cache, revision: i64) -> Result<Snapshot, CacheError> {
        self.cached(cache, Demand::AtLeast(revision), cache.wait_for(revision)).await
    }

    /// `Cache::snapshot_within`.
    pub async fn snapshot_within(&self, cache: &Cache, limit: Duration) -> Result<Snapshot, CacheError> {
        self.cached(cache, Demand::Within(limit), cache.snapshot_within(limit)).await
    }

    /// `Cache::snapshot`, once the cache has a state.
    pub async fn snapshot(&self, cache: &Cache) -> Result<Snapshot, CacheError> {
        cache.ready().await?;
        self.cached(cache, Demand::Any, async { Ok(cache.snapshot()) }).await
    }

    /// Writes down a demand and what a read comes to that is to meet it, which need not be the cache's.
    pub async fn cached(
        &self,
        cache: &Cache,
        demand: Demand,
        read: impl Future<Output = Result<Snapshot, CacheError>>,
    ) -> Result<Snapshot, CacheError> {
        let range = range_request(cache.key_range());
        let operation = self.recorder().begin(self.number(), Request::Cached(range, demand));
        let result = read.await;
        let outcome = match &result {
            Ok(snapshot) => Outcome::Answered(range_answer(snapshot.revision(), pairs(snapshot))),
            Err(_) => Outcome::NotExecuted(None),
        };
        self.recorder().end(operation, outcome);
        result
    }
}

fn pairs(snapshot: &Snapshot) -> Vec<KeyValue> {
    let pair = |kv: &etcd_watch_client::cache::CachedKv| KeyValue {
        key: kv.key_bytes(),
        value: kv.value_bytes(),
        create_revision: kv.create_revision(),
        mod_revision: kv.mod_revision(),
        version: kv.version(),
        lease: kv.lease(),
    };
    snapshot.iter().map(pair).collect()
}
