//! Connections that are dead and don't say so.

use std::time::Duration;

use etcd_watch_client::{Client, Keepalive};

use crate::{
    observer::{Ask, Observer},
    world::{Backend, DEADLINE, World, quick, stats},
};

/// Short, since the first attempts end in the silence, and long enough for a busy machine.
const DIAL: Duration = Duration::from_secs(2);

/// Goes silent in both directions; the client has to notice, and to resume once new connections work.
async fn a_dead_connection_is_noticed(world: &World, client: &Client) {
    let mut observers: Vec<Observer> =
        [Ask::key("k").from(1), Ask::key("k")].map(|ask| ask.open(client)).into();
    for observer in &mut observers {
        observer.created(world).await;
    }
    let revision = world.put("k", "before").await;
    for observer in &mut observers {
        observer.through(revision).await;
    }
    let reconnects = client.stats().reconnects;
    world.proxy.black_hole();
    world.put("k", "while nothing arrives").await;
    stats(client, "the silence is noticed", |stats| stats.reconnects > reconnects).await;
    world.reconnect();
    let last = world.put("k", "after").await;
    for observer in &mut observers {
        observer.check_through(world, last).await;
        assert_eq!((observer.events(), observer.created), (3, 1));
    }
}

pub(crate) async fn a_half_open_connection_is_noticed_by_a_probe(backend: Backend) {
    let world = World::start(backend).await;
    let config = quick().probe(Some(Duration::from_millis(300))).probe_timeout(Duration::from_secs(1));
    let client = world.builder().watch_config(config).dial_timeout(DIAL);
    let client = client.keepalive(None).build().expect("valid settings");
    a_dead_connection_is_noticed(&world, &client).await;
}

pub(crate) async fn a_half_open_connection_is_noticed_by_keepalive(backend: Backend) {
    let world = World::start(backend).await;
    let keepalive = Keepalive { interval: Duration::from_secs(5), timeout: Duration::from_secs(1) };
    let client = world.builder().dial_timeout(DIAL).keepalive(Some(keepalive));
    let client = client.build().expect("valid settings");
    a_dead_connection_is_noticed(&world, &client).await;
}

/// A silent connection isn't a dead one: nobody is disturbed as long as the server answers.
pub(crate) async fn a_probe_leaves_a_living_connection_alone(backend: Backend) {
    let world = World::start(backend).await;
    let config = quick().probe(Some(Duration::from_millis(250))).probe_timeout(DEADLINE);
    let client = world.client_with(config);
    let mut observer = Ask::key("k").from(1).open(&client);
    observer.created(&world).await;
    // A watch that begins in the future is what etcd answers no progress requests beside.
    let mut future = Ask::key("k").from(1_000_000).open(&client);
    future.created(&world).await;
    let frames = client.stats().frames;
    stats(&client, "probes are answered", |stats| stats.frames >= frames + 8).await;
    let last = world.put("k", "v").await;
    observer.check_through(&world, last).await;
    assert_eq!(client.stats().reconnects, 0);
}
