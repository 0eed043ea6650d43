//! Links between clients and members that are lost, with and without a word.

use std::time::{Duration, Instant};

use etcd_watch_client::{Get, Keepalive};
use etcd_watch_testkit::{
    harness::{EtcdVersion, wait_until},
    proxy::Cut,
};

use crate::{
    settings::Settings,
    world::{DEADLINE, NOTICED, NOTICED_BY_PROBE, PATIENCE, SLACK, World},
};

/// How long nobody can be reached.
const OUTAGE: Duration = Duration::from_secs(3);

/// How long a call is waited for that can't be answered, once it has a connection.
const GIVEN_UP: Duration = Duration::from_millis(300);

/// For a connection that is not to be lost, however busy the machine is.
const PATIENT: Keepalive = Keepalive { interval: Duration::from_secs(5), timeout: Duration::from_secs(4) };

pub(crate) async fn links_are_lost_in_every_way(version: EtcdVersion) {
    let world = World::busy(version).await;
    let all = world.all();

    let since = Instant::now();
    world.links[0].black_hole();
    let away = world.back("a black hole before member 0", since, &all).await;
    assert!(away.longest() < NOTICED + SLACK, "a dead connection is noticed by keepalive");
    assert!(away.of("async-std") < NOTICED_BY_PROBE + SLACK, "or by a probe, where there is no keepalive");
    world.links[0].restore();
    world.links[0].cut_all(Cut::Reset);
    for (_, client) in &world.clients {
        client.spread_watches().await;
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
        wait_until("clients go on trying everywhere", DEADLINE, || link.refused() > before[number]).await;
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
    world.add_clients_with(|_, settings| Settings {
        endpoints: only.clone(),
        keepalive: Some(PATIENT),
        dial_timeout: PATIENCE,
        request_timeout: PATIENCE,
        ..settings
    });
    let link = &world.links[0];
    for (name, client) in &world.clients {
        client.put("k", "before").await.expect(name);
    }
    let accepted = link.accepted();
    assert_eq!(accepted, world.clients.len() as u64, "each has a connection");
    link.hold();
    for (name, client) in &world.clients {
        tokio::select! {
            answer = client.get("k") => panic!("{name}: nothing arrives, and yet {answer:?}"),
            () = tokio::time::sleep(GIVEN_UP) => {}
        }
    }
    // Past the time for a ping, of which there is none on a connection without streams.
    tokio::time::sleep(PATIENT.interval + PATIENT.timeout).await;
    link.release();
    for (name, client) in &world.clients {
        client.put("k", "after a rest").await.expect(name);
        client.get(Get::key("k")).await.expect(name);
    }
    assert_eq!(link.accepted(), accepted, "no connection was lost meanwhile");
}
