//! Links between clients and members that are lost, with and without a word.

use std::time::{Duration, Instant};

use etcd_watch_client::{Get, Put};
use etcd_watch_testkit::{harness::EtcdVersion, proxy::Cut};

use crate::{
    party::{KEEPALIVE, Settings},
    world::{NOTICED, NOTICED_BY_PROBE, SLACK, World},
};
use tokio::time::timeout;

/// How long nobody can be reached.
const OUTAGE: Duration = Duration::from_secs(3);

/// How long a call is waited for that can't be answered.
const GIVEN_UP: Duration = Duration::from_millis(300);

pub(crate) async fn links_are_lost_in_every_way(version: EtcdVersion) {
    let world = World::busy(version).await;
    let all = world.all();

    let since = Instant::now();
    world.links[0].black_hole();
    let away = world.back("a black hole before member 0", since, &all).await;
    assert!(away.longest() < NOTICED + SLACK, "a dead connection is noticed by keepalive");
    assert!(away.of("async-std") < NOTICED_BY_PROBE + SLACK, "and sooner by a probe");
    world.links[0].restore();
    world.links[0].cut_all(Cut::Reset);
    for (_, party) in &world.parties {
        party.spread_watches().await;
    }
    world.back("the link is there again", Instant::now(), &all).await;

    for number in world.all() {
        let since = Instant::now();
        world.unlink(number);
        let away = world.back(format!("member {number} refuses connections"), since, &all).await;
        assert!(away.longest() < SLACK, "what is told is noticed at once");
        world.links[number].restore();
    }

    for number in world.all() {
        world.unlink(number);
    }
    let before: Vec<u64> = world.links.iter().map(|link| link.refused()).collect();
    let mark = world.mark(&all).await;
    tokio::time::sleep(OUTAGE).await;
    for (number, link) in world.links.iter().enumerate() {
        assert!(link.refused() > before[number], "all clients go on trying everywhere");
    }
    for observer in &world.observers {
        assert!(observer.reached(mark).is_none(), "{observer}: it can't know of the mark");
    }
    let since = Instant::now();
    world.links.iter().for_each(|link| link.restore());
    let away = world.back(format!("all members are back after {OUTAGE:?}"), since, &all).await;
    assert!(away.longest() < SLACK, "the longest backoff is far shorter");
    world.finish().await;
}

pub(crate) async fn a_call_that_was_given_up_leaves_its_connection_of_use(version: EtcdVersion) {
    let mut world = World::start(version).await;
    let only = vec![world.links[0].endpoint()];
    world.add_clients_with(|_, settings| Settings { endpoints: only.clone(), ..settings });
    let link = &world.links[0];
    link.hold();
    for (name, party) in &world.parties {
        let given_up = timeout(GIVEN_UP, party.get(Get::key("k"))).await;
        assert!(given_up.is_err(), "{name}: nothing arrives");
    }
    let accepted = link.accepted();
    assert_eq!(accepted, world.parties.len() as u64, "each has a connection");
    // Past the time for a ping, of which there is none on a connection without streams.
    tokio::time::sleep(KEEPALIVE.interval + KEEPALIVE.timeout).await;
    link.release();
    for (name, party) in &world.parties {
        party.put(Put::new("k", "after a rest")).await.expect(name);
        party.get(Get::key("k")).await.expect(name);
    }
    assert_eq!(link.accepted(), accepted, "no connection was lost meanwhile");
}
