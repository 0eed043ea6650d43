//! Members that end, hang and come back.

use std::time::{Duration, Instant};

use etcd_watch_testkit::harness::EtcdVersion;

use crate::{
    kinds,
    settings::Settings,
    world::{NOTICED, NOTICED_BY_PROBE, PATIENCE, SLACK, World, prober, secs},
};

/// A member that takes its leave in less time than this may do so between two writes.
const QUICK: Duration = Duration::from_secs(2);

pub(crate) async fn members_are_killed_one_after_the_other(version: EtcdVersion) {
    let mut world = World::busy(version).await;
    for number in world.all() {
        let who = who(&world, number).await;
        let since = Instant::now();
        world.cluster.member_mut(number).kill();
        let away = world.back(format!("kill {who}"), since, &world.cluster.all_but(number)).await;
        assert!(away.longest() < SLACK * 2, "an election and a reconnect take no longer");
        restart(&mut world, number).await;
    }
    // The one that leads now, so that a leader was killed for sure.
    let leader = world.cluster.wait_for_leader().await.expect("there is a leader");
    let since = Instant::now();
    world.cluster.member_mut(leader).kill();
    world.back(format!("kill member {leader} (leads)"), since, &world.cluster.all_but(leader)).await;
    restart(&mut world, leader).await;
    for (name, client) in &world.clients {
        let stats = client.stats();
        assert!(stats.reconnects > 0 && stats.recreates > 0, "{name}: watches had to be resumed");
        assert!(stats.overflows > 0, "{name}: the slow consumers were too slow");
        assert_eq!(stats.misbehaved, 0, "{name}: killed members are no misbehaving ones");
    }
    world.finish().await;
}

pub(crate) async fn members_freeze_one_after_the_other(version: EtcdVersion) {
    let world = World::busy(version).await;
    for number in world.all() {
        let who = who(&world, number).await;
        // So that each freeze hits someone: the client with several streams has one here.
        world.client("smol").spread_watches().await;
        let since = Instant::now();
        world.cluster.member(number).pause().expect("it freezes");
        let away = world.back(format!("freeze {who}"), since, &world.cluster.all_but(number)).await;
        assert!(away.longest() < NOTICED + SLACK, "a dead connection is noticed by keepalive");
        assert!(
            away.of("async-std") < NOTICED_BY_PROBE + SLACK,
            "or by a probe, where there is no keepalive"
        );
        let since = Instant::now();
        world.cluster.member(number).resume().expect("it thaws");
        world.back("thaw it", since, &world.all()).await;
    }
    world.finish().await;
}

pub(crate) async fn a_member_found_to_hang_is_the_last_choice(version: EtcdVersion) {
    let mut world = World::start(version).await;
    world.add_clients_with(|_, settings| Settings { dial_timeout: PATIENCE, ..prober(settings) });
    // One stream each, and no calls that would find out by themselves.
    world.watch_all(|| kinds::shared().into_iter().take(1).collect()).await;
    let clients = world.clients.len() as u64;
    // The first endpoint is the best.
    world.streams_on(0, clients).await;
    let since = Instant::now();
    world.cluster.member(0).pause().expect("it freezes");
    world.back("freeze member 0", since, &[1, 2]).await;
    world.streams_on(1, clients).await;
    let accepted = world.links[0].accepted();

    let since = Instant::now();
    world.unlink(1);
    world.back("member 1 refuses connections", since, &[1, 2]).await;
    world.streams_on(2, clients).await;
    assert_eq!(world.links[0].accepted(), accepted, "nobody went back to the member that hangs");
    world.cluster.member(0).resume().expect("it thaws");
    world.finish().await;
}

pub(crate) async fn members_are_restarted_one_after_the_other_twice(version: EtcdVersion) {
    let mut world = World::busy(version).await;
    for _round in 0..2 {
        for number in world.all() {
            let who = who(&world, number).await;
            let since = Instant::now();
            // It takes its leave of its clients first, for as long as their streams are open.
            let stopped = tokio::task::block_in_place(|| world.cluster.member_mut(number).stop());
            stopped.expect("it ends");
            let left = Instant::now();
            let everything = world.observers.iter().filter(|observer| observer.kind == "everything");
            let silence = everything.map(|observer| observer.longest_silence(since, left)).max();
            let silence = silence.expect("everything is watched");
            let took = left - since;
            println!("  stop {who}: it took {:.1} s, silence for {:.1} s", secs(took), secs(silence));
            assert!(took < QUICK || silence < took, "while it takes its leave, its watches go on");
            let away = world.back("without it", left, &world.cluster.all_but(number)).await;
            assert!(away.longest() < SLACK * 2, "an election and a reconnect take no longer");
            restart(&mut world, number).await;
        }
    }
    world.finish().await;
}

async fn restart(world: &mut World, number: usize) {
    let since = Instant::now();
    world.cluster.member_mut(number).restart_async().await.expect("it starts again");
    world.cluster.member(number).wait_until_healthy().await.expect("it serves");
    world.back(format!("start member {number}"), since, &world.all()).await;
}

/// A member, in words.
async fn who(world: &World, number: usize) -> String {
    let leads = world.cluster.wait_for_leader().await.expect("there is a leader") == number;
    format!("member {number} ({})", if leads { "leads" } else { "follows" })
}
