//! Stores that are not what they were: another one, the same one at an earlier time, or one that lags.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use etcd_watch_client::CloseReason;
use etcd_watch_testkit::harness::{EtcdVersion, RestoreAs, wait_until};
use tempfile::TempDir;

use crate::{
    kinds::{self, Kind},
    observer::Observer,
    runtime::On,
    world::{DEADLINE, World},
};

/// How long a member may lag, and the store after that.
const LAG_DEADLINE: Duration = Duration::from_secs(2);

/// The same where the store is not to be doubted, however long it takes to get all watches to one that lags.
const LONG_LAG_DEADLINE: Duration = Duration::from_secs(6);

/// A cluster whose store was saved, and has gone on from there; nobody writes any more, since new writes would
/// soon hide that the store went back.
async fn saved(version: EtcdVersion) -> (World, PathBuf, TempDir) {
    let mut world = World::start(version).await;
    world.add_clients_with(|_, settings| settings.config(|config| config.lag_deadline(LAG_DEADLINE)));
    world.watch_all(kinds::all).await;
    world.start_writers();
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path().join("snapshot.db");
    world.back("before the snapshot", Instant::now(), &world.all()).await;
    world.cluster.member(0).snapshot(&path).await.expect("the store is saved");
    world.back("after the snapshot", Instant::now(), &world.all()).await;
    world.stop_writers().await;
    let mark = world.mark(&world.all()).await;
    let seen = || world.observers.iter().all(|observer| observer.reached(mark).is_some());
    wait_until("all of it has been seen", DEADLINE, seen).await;
    let history = world.history().await;
    for observer in &world.observers {
        observer.check(&history, mark);
    }
    (world, path, directory)
}

/// Waits until every watch has ended, and says when the last one did.
async fn ends(world: &World, since: Instant) -> Duration {
    let ended = || world.observers.iter().all(|observer| observer.end().is_some());
    let end = Instant::now() + DEADLINE;
    while !ended() {
        if Instant::now() >= end {
            let open: Vec<String> = world.observers.iter().map(ToString::to_string).collect();
            panic!("not all watches ended: {open:#?}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    since.elapsed()
}

/// The clients are as good as new: watches opened now see what is written now.
async fn begin_anew(world: &mut World) {
    world.observers.clear();
    world.watch_all(kinds::shared).await;
    world.back("new watches by the same clients", Instant::now(), &world.all()).await;
}

pub(crate) async fn another_store_at_the_same_addresses_ends_watches(version: EtcdVersion) {
    let (mut world, snapshot, _directory) = saved(version).await;
    world.cluster.restore(&snapshot, RestoreAs::AnotherCluster).await.expect("another cluster starts");
    let took = ends(&world, Instant::now()).await;
    println!("  another cluster at the same addresses: all watches ended after {:.1} s", took.as_secs_f64());
    for observer in &world.observers {
        let end = observer.end();
        let Some((CloseReason::StoreChanged { before, after }, _)) = end else {
            panic!("{observer}: {end:?}")
        };
        assert_ne!(before, after);
    }
    begin_anew(&mut world).await;
    world.finish().await;
}

pub(crate) async fn a_store_that_goes_back_ends_watches_after_a_while(version: EtcdVersion) {
    let (mut world, snapshot, _directory) = saved(version).await;
    let last = world.revision().await;
    let since = Instant::now();
    world.cluster.restore(&snapshot, RestoreAs::SameCluster).await.expect("the cluster starts again");
    let took = ends(&world, Instant::now()).await;
    println!("  the store went back: all watches ended after {:.1} s", took.as_secs_f64());
    let restored = world.revision().await;
    assert!(restored < last);
    for observer in &world.observers {
        let end = observer.end();
        let Some((CloseReason::StoreRegressed { known, revision }, at)) = end else {
            panic!("{observer}: {end:?}")
        };
        assert!(at - since >= LAG_DEADLINE * 2, "{observer}: first another member is tried");
        assert!(revision <= restored && known > restored && known <= last, "{observer}: {known}, {revision}");
    }
    begin_anew(&mut world).await;
    world.finish().await;
}

pub(crate) async fn a_member_that_lags_is_left_and_nothing_is_lost(version: EtcdVersion) {
    let mut world = World::start(version).await;
    world.add_clients_with(|_, settings| settings.config(|config| config.lag_deadline(LONG_LAG_DEADLINE)));
    // Those that require a leader it would send away at once.
    world.watch_all(|| kinds::shared().into_iter().map(Kind::without_leader).collect()).await;
    world.start_writers();
    world.back("all is well", Instant::now(), &world.all()).await;
    let leader = world.cluster.wait_for_leader().await.expect("there is a leader");
    let lagging = world.cluster.all_but(leader)[0];
    let majority = world.cluster.all_but(lagging);

    // Nobody is to see the partition: all watches are elsewhere.
    world.unlink(lagging);
    world.streams_on(lagging, 0).await;
    world.cluster.partition(&[lagging]);
    world.back("a member is cut off", Instant::now(), &majority).await;

    world.links[lagging].restore();
    majority.iter().for_each(|&number| world.unlink(number));
    let streams = On::ALL.len() as u64;
    world.streams_on(lagging, streams).await;
    let mark = world.mark(&majority).await;
    let created = world.cluster.member(lagging);
    let watches = world.observers.len() as u64;
    let all = || created.watcher_count().is_ok_and(|count| count == watches);
    wait_until("all watches are on the member that lags", DEADLINE, all).await;
    let since = Instant::now();
    majority.iter().for_each(|&number| world.links[number].restore());
    let ahead = |observer: &&Observer| observer.reached(mark).is_some();
    assert_eq!(world.observers.iter().filter(ahead).count(), 0, "it can't know of the mark");
    // Before the store is doubted: watches would end then, and `back` takes none that has.
    world.back("they leave it for one that doesn't lag", since, &majority).await;
    world.streams_on(lagging, 0).await;
    for on in On::ALL {
        let stats = world.client(on.name()).stats();
        assert_eq!(stats.misbehaved, 0, "to lag is no misbehaviour");
    }
    world.cluster.heal();
    world.finish().await;
}
