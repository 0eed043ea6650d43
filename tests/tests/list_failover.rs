//! Lists that are under way when the member they are read from is killed, or when the history they are read from is
//! compacted, on clusters of three and while writers write: a mirror's fold and a cache are the store in the end, key
//! by key, and a member that was lost is no reason to begin again.

#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "which step a test failed in is worth knowing")]

#[path = "conformance/runtime.rs"]
mod runtime;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use etcd_watch_client::{
    CallError, Client, Delete, Get, KeyRange, ListReason, MirrorRequest, Put, Txn, WatchConfig,
    cache::{Cache, CacheRequest},
};
use etcd_watch_testkit::{
    folding::{Folding, Held},
    harness::{EtcdCluster, EtcdVersion, wait_until},
    proxy::FaultProxy,
};
use runtime::On;
use tokio::{task::JoinSet, time::timeout};

/// For any one thing that is waited for: much longer than it takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

const KEYS: usize = 2_000;

/// Small, so that there are many.
const PAGE_BYTES: usize = 3 << 10;

/// Bytes in a second at which a list takes half a minute, and so much of it is a beginning.
const SLOW: u64 = 5_000;
const BEGINNING: u64 = 6_000;

fn key(index: usize) -> String {
    format!("m/{index:04}")
}

async fn in_time<F: Future>(what: F) -> F::Output {
    timeout(DEADLINE, what).await.expect("in time")
}

struct World {
    cluster: EtcdCluster,
    /// Between the clients that list and each member.
    links: Vec<FaultProxy>,
    /// Past the links.
    direct: Client,
}

impl World {
    async fn start(version: EtcdVersion) -> Self {
        let cluster = EtcdCluster::builder(version).start_async().await.expect("the cluster starts");
        let mut links = Vec::new();
        for member in cluster.members() {
            links.push(FaultProxy::start(member.endpoint()).await.expect("the proxy starts"));
        }
        let direct = client(On::Tokio, cluster.endpoints());
        for part in 0..KEYS / 100 {
            let puts = (part * 100..(part + 1) * 100).map(|index| Put::new(key(index), vec![b'v'; 32]));
            let txn = puts.fold(Txn::new(), |txn, put| txn.and_then(put));
            direct.txn(txn).await.expect("it is made");
        }
        Self { cluster, links, direct }
    }

    /// A client of its own, by way of the links.
    fn client(&self, on: On) -> Client {
        client(on, self.links.iter().map(FaultProxy::endpoint))
    }

    fn received(&self) -> Vec<u64> {
        self.links.iter().map(FaultProxy::bytes_downstream).collect()
    }

    /// The member that clients have received most from since then, and how many bytes.
    fn busiest(&self, before: &[u64]) -> (usize, u64) {
        let since = self.received().into_iter().zip(before).map(|(now, before)| now - before);
        let (bytes, member) = since.zip(0..).max().expect("there are members");
        (member, bytes)
    }

    /// Makes a write that comes after all so far, whoever leads; its revision.
    async fn mark(&self) -> i64 {
        in_time(async {
            loop {
                match self.direct.put("m/mark", "a mark").await {
                    Ok(done) => return done.revision(),
                    Err(error) => assert_passes(&error),
                }
            }
        })
        .await
    }

    /// Throws away all history there is.
    async fn compact(&self) {
        let mark = self.mark().await;
        in_time(self.direct.compact(mark)).await.expect("it is compacted");
    }

    async fn stored(&self, revision: i64) -> Held {
        let read = in_time(self.direct.get(Get::prefix("m/").revision(revision))).await.expect("it is read");
        read.kvs().iter().map(|kv| (kv.key[..].into(), (kv.value[..].into(), kv.mod_revision))).collect()
    }

    async fn revive(&mut self, member: usize) {
        self.cluster.member_mut(member).restart_async().await.expect("it starts again");
        self.cluster.member(member).wait_until_healthy().await.expect("it serves");
    }
}

fn client(on: On, endpoints: impl IntoIterator<Item = String>) -> Client {
    let quick = WatchConfig::default().backoff(
        Duration::from_millis(5),
        Duration::from_millis(20),
        Duration::from_millis(300),
    );
    on.builder().endpoints(endpoints).watch_config(quick).connect_lazy().expect("valid settings")
}

/// A cluster that has lost a member may not know at once what became of a write.
fn assert_passes(error: &CallError) {
    assert!(matches!(error, CallError::MaybeExecuted { .. } | CallError::Timeout { .. }), "{error}");
}

/// Change keys all over the range until they are told to stop.
struct Writers {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Writers {
    fn start(client: &Client) -> Self {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::<AtomicU64>::default());
        let mut tasks = JoinSet::new();
        for seed in 0..2 {
            let (client, stop, made) = (client.clone(), stop.clone(), made.clone());
            let mut rng = fastrand::Rng::with_seed(seed);
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let key = key(rng.usize(..KEYS + 100));
                    let written = if rng.u8(..4) == 0 {
                        client.delete(Delete::key(key)).await.map(drop)
                    } else {
                        client.put(key, rng.u32(..).to_string()).await.map(drop)
                    };
                    match written {
                        Ok(()) => drop(made.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => assert_passes(&error),
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        Self { stop, made, tasks }
    }

    async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = in_time(self.tasks.join_next()).await {
            ended.expect("the writer writes");
        }
    }

    /// Waits until some more is written.
    async fn more(&self) {
        let before = self.made.load(Ordering::Relaxed);
        wait_until("more is written", DEADLINE, || self.made.load(Ordering::Relaxed) > before + 20).await;
    }
}

/// A mirror that is in the middle of its first list.
async fn begun_mirror(client: &Client) -> Folding {
    let request = MirrorRequest::new(KeyRange::prefix("m/")).page_bytes(PAGE_BYTES);
    let mut fold = Folding::open(client, request, DEADLINE);
    while fold.parts < 5 {
        fold.step().await;
    }
    assert!(fold.mirror.synced_revision().is_none() && fold.held.len() < KEYS / 2, "there is more");
    fold
}

/// Folds until it is past a revision, and compares with the store.
async fn check(fold: &mut Folding, world: &World, through: i64) {
    let at = fold.through(through).await;
    assert!(fold.held.len() > KEYS / 2);
    assert_eq!(fold.held, world.stored(at).await, "at revision {at}");
}

async fn a_mirror_lists_on_at_another_member(on: On, world: &mut World, writers: &Writers) {
    let before = world.received();
    let mut fold = begun_mirror(&world.client(on)).await;
    let (member, _) = world.busiest(&before);
    world.cluster.member_mut(member).kill();
    let mark = world.mark().await;
    check(&mut fold, world, mark).await;
    assert_eq!(fold.reasons, [ListReason::First]);
    world.revive(member).await;
    writers.more().await;
    let mark = world.mark().await;
    check(&mut fold, world, mark).await;
}

async fn a_mirror_lists_again_when_its_revision_is_gone(on: On, world: &World, writers: &Writers) {
    let mut fold = begun_mirror(&world.client(on)).await;
    writers.more().await;
    world.compact().await;
    let mark = world.mark().await;
    check(&mut fold, world, mark).await;
    assert_eq!(fold.reasons, [ListReason::First, ListReason::Interrupted]);
}

/// A cache whose list has begun, and goes on slowly until the links are restored; and the member it is read from.
async fn begun(on: On, world: &World) -> (Cache, usize) {
    let before = world.received();
    world.links.iter().for_each(|link| link.throttle(SLOW));
    let request = CacheRequest::new(KeyRange::prefix("m/")).page_bytes(PAGE_BYTES);
    let cache = world.client(on).cache(request).expect("it is made");
    wait_until("the list has begun", DEADLINE, || world.busiest(&before).1 > BEGINNING).await;
    assert_eq!(cache.stats().revision, 0, "there is more");
    (cache, world.busiest(&before).0)
}

async fn is_the_store(cache: &Cache, world: &World, mark: i64) {
    let snapshot = in_time(cache.wait_for(mark)).await.expect("it goes on");
    let held: Held =
        snapshot.iter().map(|kv| (kv.key()[..].into(), (kv.value()[..].into(), kv.mod_revision()))).collect();
    assert!(held.len() > KEYS / 2);
    assert_eq!(held, world.stored(snapshot.revision()).await, "at revision {}", snapshot.revision());
}

fn restore(world: &World) {
    world.links.iter().for_each(FaultProxy::restore);
}

async fn a_cache_lists_on_at_another_member(on: On, world: &mut World, writers: &Writers) {
    let (cache, member) = begun(on, world).await;
    world.cluster.member_mut(member).kill();
    restore(world);
    let mark = world.mark().await;
    is_the_store(&cache, world, mark).await;
    assert_eq!(cache.stats().lists, 1);
    world.revive(member).await;
    writers.more().await;
    let mark = world.mark().await;
    is_the_store(&cache, world, mark).await;
}

async fn a_cache_lists_again_when_its_revision_is_gone(on: On, world: &World, writers: &Writers) {
    let (cache, _) = begun(on, world).await;
    world.compact().await;
    restore(world);
    let mark = world.mark().await;
    is_the_store(&cache, world, mark).await;
    assert_eq!(cache.stats().lists, 2);
    writers.more().await;
    let mark = world.mark().await;
    is_the_store(&cache, world, mark).await;
}

async fn lists_survive(on: On, version: EtcdVersion) {
    let mut world = World::start(version).await;
    let writers = Writers::start(&world.direct);
    println!("a mirror, a member killed");
    a_mirror_lists_on_at_another_member(on, &mut world, &writers).await;
    println!("a mirror, history compacted");
    a_mirror_lists_again_when_its_revision_is_gone(on, &world, &writers).await;
    println!("a cache, a member killed");
    a_cache_lists_on_at_another_member(on, &mut world, &writers).await;
    println!("a cache, history compacted");
    a_cache_lists_again_when_its_revision_is_gone(on, &world, &writers).await;
    writers.stop().await;
}

macro_rules! on {
    ($($module:ident: $on:expr;)*) => {$(
        mod $module {
            use crate::{EtcdVersion, lists_survive};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn lists_survive_lost_members_and_compaction_on_3_4() {
                lists_survive($on, EtcdVersion::V3_4).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn lists_survive_lost_members_and_compaction_on_3_5() {
                lists_survive($on, EtcdVersion::V3_5).await;
            }
        }
    )*};
}

on! {
    tokio_runtime: crate::On::Tokio;
    smol_runtime: crate::On::Smol;
}
