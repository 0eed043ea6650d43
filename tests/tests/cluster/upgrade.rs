//! Members that are upgraded one after the other, from 3.5 to 3.6 and on to 3.7, under everything that a client has.

use std::time::{Duration, Instant};

use etcd_watch_client::{
    Client, Get, KeyRange, MirrorRequest,
    cache::{Cache, CacheRequest},
    concurrency::{Mutex, MutexGuard, Name, Session},
};
use etcd_watch_testkit::{
    folding::{Folding, Held},
    harness::{EtcdServer, EtcdVersion, wait_until},
};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    kinds::PREFIX,
    world::{DEADLINE, World},
};

/// Longer than a member and an election take together on a busy machine: nobody's lease is to end here.
const TTL: Duration = Duration::from_secs(60);

/// After how many transactions a member writes a snapshot: few, so that it does within seconds. See [`snapshots`].
const SNAPSHOT_COUNT: u64 = 200;

/// What a client has besides watches.
struct Belongings {
    name: String,
    direct: Client,
    mirror: Folding,
    cache: Cache,
    guard: MutexGuard,
    /// Waits for the lock that `guard` holds, by a session of its own.
    waiter: JoinHandle<MutexGuard>,
}

impl Belongings {
    async fn of(name: &str, client: &Client, direct: &Client) -> Self {
        let mirror =
            Folding::open(client, MirrorRequest::new(KeyRange::prefix(PREFIX)).page_bytes(1 << 10), DEADLINE);
        let cache = client.cache(CacheRequest::new(KeyRange::prefix(PREFIX))).expect("a sound request");
        let lock = Name::new(format!("locks/{}", name.replace(' ', "-"))).expect("a sound name");
        let session = async || Session::builder(client).ttl(TTL).open().await.expect("a session");
        let guard = Mutex::new(&session().await, lock.clone()).lock().await.expect("it locks");
        let second = Mutex::new(&session().await, lock);
        let waiter = tokio::spawn(async move { second.lock().await.expect("it locks in the end") });
        Self { name: name.to_owned(), direct: direct.clone(), mirror, cache, guard, waiter }
    }

    /// All of it is as the store is now, and the lock has not changed hands.
    async fn check(&mut self) {
        let name = &self.name;
        let now = self.direct.get(Get::prefix(PREFIX)).await.expect("it is read").revision();
        let at = self.mirror.through(now).await;
        assert_eq!(self.mirror.held, stored(&self.direct, at).await, "{name}: the mirror at {at}");
        let snapshot =
            timeout(DEADLINE, self.cache.wait_for(now)).await.expect("in time").expect("it goes on");
        let cached: Held = snapshot
            .iter()
            .map(|kv| (kv.key()[..].into(), (kv.value()[..].into(), kv.mod_revision())))
            .collect();
        assert_eq!(cached, stored(&self.direct, snapshot.revision()).await, "{name}: the cache");
        assert!(self.guard.is_held(), "{name}: {:?}", self.guard.lost_reason());
        assert!(!self.waiter.is_finished(), "{name}: two hold the lock");
    }

    /// The lock goes to whoever has waited for it all the time.
    async fn hand_over(self) {
        self.guard.unlock().await.expect("it unlocks");
        let next = timeout(DEADLINE, self.waiter).await.expect("in time").expect("it doesn't panic");
        assert!(next.is_held(), "{}: {:?}", self.name, next.lost_reason());
    }
}

/// How many snapshots a member has written to disk since its start.
fn snapshots(member: &EtcdServer) -> f64 {
    member.metric("etcd_debugging_snap_save_total_duration_seconds_count").expect("it is counted")
}

/// Waits until a restart of any member begins with what was written from now on. etcd 3.7 can't read a log in which 3.5 has
/// written, not even after 3.6 (seen on 3.7.3: it panics, `unmarshal should never fail`), and reads it from the last
/// snapshot on.
async fn forget_the_log(world: &World) {
    // The first may have begun before.
    let wanted: Vec<f64> = world.cluster.members().map(|member| snapshots(member) + 2.0).collect();
    let has_enough = |(member, wanted): (&EtcdServer, &f64)| snapshots(member) >= *wanted;
    wait_until("every member writes snapshots", DEADLINE, || {
        world.cluster.members().zip(&wanted).all(has_enough)
    })
    .await;
}

/// The keys under [`PREFIX`] at a revision.
async fn stored(client: &Client, revision: i64) -> Held {
    let read = client.get(Get::prefix(PREFIX).revision(revision)).await.expect("it is read");
    read.kvs().iter().map(|kv| (kv.key[..].into(), (kv.value[..].into(), kv.mod_revision))).collect()
}

pub(crate) async fn members_are_upgraded_one_after_the_other_by_two_lines(from: EtcdVersion) {
    let mut world = World::busy_with(from, |member| member.snapshot_count(SNAPSHOT_COUNT)).await;
    let mut all = Vec::new();
    for (name, client) in &world.clients {
        all.push(Belongings::of(name, client, world.direct()).await);
    }
    for version in [EtcdVersion::V3_6, EtcdVersion::V3_7] {
        forget_the_log(&world).await;
        for number in world.all() {
            let member = world.cluster.member_mut(number);
            tokio::task::block_in_place(|| member.stop()).expect("it ends");
            let since = Instant::now();
            member.set_version(version.clone()).expect("it is on this machine");
            member.restart_async().await.expect("it starts on the data of the version before");
            let member = world.cluster.member(number);
            member.wait_until_healthy().await.expect("it serves");
            let status = member.etcdctl().expect("etcdctl").run(["endpoint", "status", "-w", "json"]).await;
            let told = format!("\"version\":\"{}\"", member.version());
            assert!(status.as_ref().is_ok_and(|status| status.contains(&told)), "{told}: {status:?}");
            world.back(format!("member {number} is of {}", member.version()), since, &world.all()).await;
            for belongings in &mut all {
                belongings.check().await;
            }
        }
    }
    for belongings in all {
        belongings.hand_over().await;
    }
    world.finish().await;
}
