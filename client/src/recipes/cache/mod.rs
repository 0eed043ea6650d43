//! A local, ordered view of a key range that is kept current: reads without a round trip, at a known revision.
//!
//! [`Client::cache`](crate::Client::cache) lists the keys and watches them, by one [`Mirror`](crate::Mirror) on a
//! task of its own. What it publishes is only ever the store at one revision: while keys have to be listed again
//! (compacted history, a restored store) readers see the last state there was.
//!
//! - **Reads** never wait for updates: a [`Snapshot`] is a version of a persistent map, cheap to take and to keep.
//! - **How new?** [`Cache::get`] answers from the last state; [`Cache::wait_for`] waits until the cache is at a
//!   revision, such as that of one's own write; [`Cache::consistent`] is as new as the store at the time of the
//!   call, at the price of one small read, which calls share; [`Cache::snapshot_within`] is as new as the store was so
//!   long ago, at the price of one such read in that time. [`Cache::timeout`] limits how long they wait.
//!   [`Cache::snapshot_at`] goes back.
//! - **Changes** come by [`Cache::subscribe`], to any number of subscribers on the one watch, with previous
//!   values, whole revisions at once, and never with a gap.
//! - **Values** can be decoded once for all readers: [`CacheRequest::typed`].
//!
//! # Readiness
//! [`Cache::health`] tells whether the cache is ready to be read, as a value, and [`Cache::monitor`] waits for changes of
//! that. A cache that has been *away* for longer than [`CacheRequest::unready_after`] is not ready: away is a cache whose
//! watch doesn't run on a member, or has not caught up since, and one that lists its keys. [`Health`](crate::Health) says
//! how it knows. That is cheap, and as good as a lost connection is noticed.
//!
//! [`Cache::staleness`] tells how old the state is at most. It is 0 at the moment before a linearizable read of the
//! store's revision is sent, once the cache has come to the revision that the read has found; it grows from then on, until
//! the next such read. What merely arrives counts for nothing: events and progress can have been on their way for any
//! time, and a member can be behind its cluster without knowing it. So [`Cache::snapshot_within`] holds whatever hangs, is
//! parted, or sleeps. A service that is to be taken out of rotation while its data may be too old answers its readiness
//! probe by `cache.timeout(patience).snapshot_within(limit)`.
//!
//! # Memory
//! A key costs its own bytes and its value's, and about 86 bytes (measured with a million keys): the pair and what etcd tells
//! of it are one allocation, and the rest is its place in the tree and the allocator's rounding. A typed value adds 16 bytes and whatever it is. A state in the
//! [history](CacheRequest::history), and one that a reader or a slow subscriber holds, costs only what differs.
//!
//! # Logs and metrics
//! By way of `tracing`: `cache_undecodable` (warn; `key`, `revision`, `error`; once for each value), `cache_ended`
//! (warn; `range`, `reason`). With the feature `metrics`, gauges and counters `etcd_watch_cache_...`, with the label
//! `cache` (`CacheRequest::name`, which no two caches should have): whether it is ready, keys, bytes, revision, subscribers; lists, decode errors, resyncs of slow
//! subscribers.
//!
//! ```no_run
//! use etcd_watch_client::{Client, KeyRange, cache::{CacheEvent, CacheRequest, SubscribeRequest}};
//!
//! async fn follow(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
//!     let services = KeyRange::prefix("services/");
//!     let cache = client.cache(CacheRequest::new(services.clone()))?;
//!     cache.ready().await?;
//!
//!     // What was just written is seen.
//!     let put = client.put("services/a", "10.0.0.1").await?;
//!     let now = cache.wait_for(put.revision()).await?;
//!     for kv in now.prefix("services/").take(10) {
//!         println!("{} = {}", kv.key_str()?, kv.value_str()?);
//!     }
//!
//!     let mut changes = cache.subscribe(SubscribeRequest::new(services).initial_state(true))?;
//!     while let Some(event) = changes.try_next().await? {
//!         match event {
//!             CacheEvent::Initial(keys) => println!("{} keys", keys.iter().count()),
//!             CacheEvent::Changes(batch) | CacheEvent::Resynced { changes: batch, .. } => {
//!                 batch.changes().iter().for_each(|change| println!("{change:?}, was {:?}", change.prev()));
//!             }
//!             _ => {}
//!         }
//!     }
//!     Ok(())
//! }
//! ```

#[cfg(feature = "fuzzing")]
pub(crate) mod by_hand;
mod catch_up;
mod change;
mod entry;
mod error;
mod fold;
mod follower;
mod health;
mod history;
mod inbox;
#[cfg(feature = "metrics")]
mod metrics;
mod request;
mod shared;
mod snapshot;
mod staleness;
mod stats;
mod subscription;
mod timeout;
mod tree;
mod waiters;

pub use change::CacheChange;
pub use entry::{CachedKv, Decoded, LastGood, Undecodable};
pub use error::{CacheError, CacheRequestError, RevisionNotHeld, SubscribeError};
pub use request::CacheRequest;
pub use shared::CacheStatus;
pub use snapshot::{Range, Snapshot};
pub use stats::CacheStats;
pub use subscription::{CacheChanges, CacheEvent, Initial, ResyncReason, SubscribeRequest, Subscription};
pub use timeout::Timeout;

use std::{fmt, sync::Arc};

use etcd_watch_core::KeyRange;

use crate::{Client, Verdict, toolkit::Moment};
use fold::Fold;
use follower::Follower;
use shared::Shared;
use waiters::Wants;

/// A local view of a key range. Cheap to clone; all clones are one cache.
///
/// It ends when the last clone and the last [`Subscription`] are gone, or with [`close`](Self::close): nothing is
/// left here or on the server. It also ends when the mirror does (a permission was denied, the client was closed).
/// What was read stays readable after that: [`status`](Self::status) tells.
pub struct Cache<P = ()> {
    alive: Arc<Alive<P>>,
}

/// A cache whose values are decoded.
pub type TypedCache<T> = Cache<Decoded<T>>;

/// A state of a [`TypedCache`].
pub type TypedSnapshot<T> = Snapshot<Decoded<T>>;

/// What keeps a cache alive.
struct Alive<P>(Arc<Shared<P>>);

impl<P> Drop for Alive<P> {
    fn drop(&mut self) {
        self.0.end(CacheError::Closed);
    }
}

impl<P: Send + Sync + 'static> Cache<P> {
    /// Caches a key range. Returns at once; [`ready`](Self::ready) waits for the keys.
    /// [`Client::cache`](crate::Client::cache) is the same.
    ///
    /// # Errors
    /// A request that can't be served, or a client that has been closed.
    pub fn open(client: &Client, request: impl Into<CacheRequest<P>>) -> Result<Self, CacheRequestError> {
        let request = request.into();
        let mirror = client.mirror(request.mirror()?)?;
        let shared = Arc::new(Shared::new(
            request.range,
            request.history,
            request.unready_after,
            mirror.monitor(),
            client.runtime().clone(),
        ));
        let fold = Fold::new(shared.clone(), request.max_keys, request.make);
        let follower = Follower::new(client.clone(), mirror, fold);
        #[cfg(feature = "metrics")]
        let follower = follower.exporting(&request.name, crate::Monitor::new(shared.clone()));
        client.runtime().spawn(Box::pin(follower.run()));
        Ok(Self { alive: Arc::new(Alive(shared)) })
    }
}

impl<P> Cache<P> {
    fn shared(&self) -> &Shared<P> {
        &self.alive.0
    }

    /// Waits for the first state.
    ///
    /// # Errors
    /// When the cache ended before.
    pub async fn ready(&self) -> Result<Snapshot<P>, CacheError> {
        let shared = self.shared();
        let look = || {
            let published = shared.read();
            match &published.status {
                _ if published.state > 0 => Some(Ok(published.snapshot.clone())),
                CacheStatus::Ended(error) => Some(Err(error.clone())),
                _ => None,
            }
        };
        shared.waiters.wait(Wants::Ready, || {}, look).await
    }

    /// The last state; before the first there are no keys in it, and its revision is 0.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<P> {
        self.shared().snapshot()
    }

    /// The store exactly as it was at a revision, if that is [held](CacheRequest::history).
    ///
    /// # Errors
    /// When it is not: which ones are.
    pub fn snapshot_at(&self, revision: i64) -> Result<Snapshot<P>, RevisionNotHeld> {
        self.shared().read().history.at(revision)
    }

    /// A key in the last state. For more than one, take a [`snapshot`](Self::snapshot): they are of one revision
    /// then.
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<CachedKv<P>> {
        self.shared().read().snapshot.get(key).cloned()
    }

    /// The keys of a range in the last state, in order. None of them is copied, but
    /// [`Snapshot::range`] makes no list either.
    #[must_use]
    pub fn range(&self, range: &KeyRange) -> Vec<CachedKv<P>> {
        self.shared().read().snapshot.range(range).cloned().collect()
    }

    /// The keys cached. Of others, a read finds nothing, whether the store has them or not.
    #[must_use]
    pub fn key_range(&self) -> &KeyRange {
        &self.shared().range
    }

    /// Whether it has all keys of a range.
    #[must_use]
    pub fn covers(&self, range: &KeyRange) -> bool {
        subscription::covers(self.key_range(), range)
    }

    /// Waits until the cache is at a revision or past it: that of one's own write, or one that was heard of. It
    /// doesn't wait for a change of the cached keys: the server is asked. There is no time limit.
    ///
    /// Servers that don't answer that are asked another way: see the [`proof_reads`](CacheStats::proof_reads).
    ///
    /// # Errors
    /// When the cache ends before it is there, or another store takes the place of the one the revision is of.
    pub async fn wait_for(&self, revision: i64) -> Result<Snapshot<P>, CacheError> {
        let shared = self.shared();
        let store = {
            let published = shared.read();
            (published.state > 0).then_some(published.store)
        };
        self.wait_in(store, revision).await
    }

    /// Waits for a revision of this store; `None` before the first state.
    async fn wait_in(&self, store: Option<u64>, revision: i64) -> Result<Snapshot<P>, CacheError> {
        let shared = self.shared();
        let look = || {
            let published = shared.read();
            match &published.status {
                _ if store.unwrap_or(0) != published.store => Some(Err(CacheError::OtherStore)),
                _ if published.state > 0 && published.snapshot.revision >= revision => {
                    Some(Ok(published.snapshot.clone()))
                }
                CacheStatus::Ended(error) => Some(Err(error.clone())),
                _ => None,
            }
        };
        shared.waiters.wait(Wants::Revision(revision), || shared.wake_task(), look).await
    }

    /// A state at least as new as the store was when this was called: a linearizable read. It asks the store for
    /// its revision, by a read of one key that calls at the same time share, and waits until the cache is there.
    ///
    /// # Errors
    /// When the revision can't be read, the cache ends, the store has gone back, or another store takes the place of
    /// this one.
    pub async fn consistent(&self) -> Result<Snapshot<P>, CacheError> {
        let shared = self.shared();
        let (store, known) = {
            let published = shared.read();
            (published.store, published.snapshot.revision)
        };
        // The read is sent after this: whoever waits for a read waits for one that is begun later.
        let as_of = Moment::now(&*shared.runtime);
        if shared.has_ended() {
            return Err(self.ended());
        }
        let number = shared.ask_for_read();
        let ended = || shared.has_ended().then(|| Err(self.ended()));
        let look = || shared.read_result(number).or_else(ended);
        let revision = shared.waiters.wait(Wants::Read(number), || shared.wake_task(), look).await?;
        // The read was sent when the cache was there already.
        if revision < known {
            return Err(CacheError::StoreWentBack { known, revision });
        }
        let snapshot = self.wait_in(Some(store), revision).await?;
        shared.is_current(store, as_of);
        Ok(snapshot)
    }

    /// Why it has ended.
    fn ended(&self) -> CacheError {
        match &self.shared().read().status {
            CacheStatus::Ended(error) => error.clone(),
            _ => CacheError::Closed,
        }
    }

    /// Subscribes to the changes of keys.
    ///
    /// # Errors
    /// An option out of range, keys that the cache doesn't have, a start revision that is not held.
    pub fn subscribe(&self, request: impl Into<SubscribeRequest>) -> Result<Subscription<P>, SubscribeError> {
        Subscription::new(self.alive.clone(), request.into())
    }

    /// What it is doing.
    #[must_use]
    pub fn status(&self) -> CacheStatus {
        let status = self.shared().read().status.clone();
        let is_unready = || matches!(self.shared().judged().verdict(), Verdict::NotReady);
        if status == CacheStatus::Current && is_unready() { CacheStatus::Away } else { status }
    }

    /// What it has, and what it has done so far.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.shared().stats()
    }

    /// Ends it, for all clones: the watch is cancelled, subscriptions end, who waits is told
    /// ([`CacheError::Closed`]). The last state stays readable.
    pub fn close(&self) {
        self.shared().end(CacheError::Closed);
    }

    /// Completes when it has ended, with the reason.
    pub async fn closed(&self) -> CacheError {
        let shared = self.shared();
        let look = || shared.has_ended().then(|| self.ended());
        shared.waiters.wait(Wants::End, || {}, look).await
    }
}

impl<T> TypedCache<T> {
    /// The decoded value of a key in the last state; `None` if there is no such key.
    ///
    /// # Errors
    /// (Inside the option.) Why the value it has does not decode, with the last one that did.
    #[must_use]
    pub fn value(&self, key: impl AsRef<[u8]>) -> Option<Result<Arc<T>, Arc<Undecodable<T>>>> {
        self.get(key).map(|kv| kv.decoded().cloned().map_err(Clone::clone))
    }
}

impl<P> Clone for Cache<P> {
    fn clone(&self) -> Self {
        Self { alive: self.alive.clone() }
    }
}

impl<P> fmt::Debug for Cache<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("status", &self.status())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
