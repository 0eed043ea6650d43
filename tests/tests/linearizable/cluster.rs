//! Three members, of which one after the other leads.

use std::time::Duration;

use etcd_watch_testkit::{harness::EtcdVersion, linearizable::Recorder};
use fastrand::Rng;
use tokio::time::sleep;

use crate::{
    assert_enough, faults, from_env, seed,
    world::{Callers, Kind, World},
};

/// How often a leader is lost, unless somebody wants more.
const LEADERS: u64 = 2;

/// How long a leader is away, or cut off from the others: long enough for another one to be elected.
const AWAY: Duration = Duration::from_millis(2_500);

/// How long calls go on beside all that, at least.
const LASTS: Duration = Duration::from_secs(1);

async fn calls_are_linearizable_while_leaders_are_lost(version: EtcdVersion, number: u64) {
    let seed = seed(number);
    let mut world = World::start(Kind::Cluster(version)).await;
    let leaders = from_env("ETCD_WATCH_CALLS_SECONDS").map_or(LEADERS, |seconds: u64| seconds / 3);
    let lasts = LASTS + 2 * AWAY * u32::try_from(leaders).expect("few");
    let recorder = Recorder::new();
    let callers = Callers::start(&recorder, &world.link_endpoints(), seed, lasts);
    let (cluster, links) = world.cluster();
    let lose = async {
        let mut random = Rng::with_seed(seed);
        for number in 0..leaders {
            let leader = cluster.wait_for_leader().await.expect("there is a leader");
            if number % 2 == 0 {
                // It goes on answering for a while, but for what needs the others.
                cluster.partition(&[leader]);
                sleep(AWAY).await;
                cluster.heal();
            } else {
                cluster.member_mut(leader).kill();
                sleep(AWAY).await;
                cluster.member_mut(leader).restart_async().await.expect("it starts again");
            }
            cluster.member(leader).wait_until_healthy().await.expect("it has found the others");
            sleep(Duration::from_millis(random.u64(..200))).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = callers.finish() => {}
        () = lose => {}
        () = faults::strike(links, seed) => {}
    }
    // Whoever is away or cut off comes back.
    cluster.heal();
    for number in 0..cluster.size() {
        cluster.member_mut(number).restart_async().await.expect("it starts again");
    }
    cluster.member(0).wait_until_healthy().await.expect("it has found the others");
    links.iter().for_each(etcd_watch_testkit::proxy::FaultProxy::restore);
    let checked = world.run_of(recorder).check().await;
    println!("{checked:?}");
    assert_enough(&checked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_linearizable_while_leaders_of_3_5_are_lost() {
    calls_are_linearizable_while_leaders_are_lost(EtcdVersion::V3_5, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_linearizable_while_leaders_of_3_7_are_lost() {
    calls_are_linearizable_while_leaders_are_lost(EtcdVersion::V3_7, 7).await;
}
