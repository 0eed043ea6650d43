//! Consumers that don't keep up: by each policy nothing is lost in silence, and neighbours go on.

use etcd_watch_client::{CloseReason, Overflow, WatchRequest};
use etcd_watch_testkit::proxy::Cut;

use crate::{
    observer::{Ask, Observer},
    world::{Backend, World, stats},
};

const BUFFER: usize = 64 << 10;

fn small(policy: Overflow) -> impl FnOnce(WatchRequest) -> WatchRequest {
    move |request| request.overflow(policy).buffer_bytes(BUFFER)
}

/// Writes about a megabyte while a neighbour keeps up; returns the last revision.
async fn write_a_lot(world: &World, neighbour: &mut Observer) -> i64 {
    let mut last = 0;
    for _ in 0..10 {
        last = world.put_many("s/", 50, &[b'v'; 2_000]).await;
        neighbour.through(last).await;
    }
    last
}

pub(crate) async fn replay_loses_nothing_and_holds_up_nobody(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut slow: Vec<Observer> = (0..3)
        .map(|_| Ask::prefix("s/").from(1).prev_kv().with(small(Overflow::Replay)).open(&client))
        .collect();
    let mut neighbour = Ask::prefix("s/").from(1).open(&client);
    for round in 0..3 {
        let overflows = client.stats().overflows;
        let last = write_a_lot(&world, &mut neighbour).await;
        // After the first round only one of them has taken anything.
        let more = if round == 0 { 3 } else { 1 };
        stats(&client, "the buffers are full", |stats| stats.overflows >= overflows + more).await;
        if round == 0 {
            // Later on a replayed response, which arrives whole, may come on top.
            assert!(client.stats().queued_bytes < 3 * 4 * BUFFER, "{:?}", client.stats());
        }
        if round == 1 {
            world.proxy.cut_all(Cut::Reset);
        }
        if round < 2 {
            slow[0].through(last).await;
        }
    }
    let last = world.put("s/0", "last").await;
    for observer in slow.iter_mut().chain([&mut neighbour]) {
        observer.check_through(&world, last).await;
    }
    world.watchers(4).await;
}

pub(crate) async fn pause_loses_nothing(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let pausing = |request| small(Overflow::Pause)(request).own_stream(true);
    let mut slow = Ask::prefix("s/").from(1).prev_kv().with(pausing).open(&client);
    let mut neighbour = Ask::prefix("s/").from(1).open(&client);
    for cut in [false, true] {
        let overflows = client.stats().overflows;
        let last = write_a_lot(&world, &mut neighbour).await;
        stats(&client, "the buffer is full", |stats| stats.overflows > overflows).await;
        if cut {
            world.proxy.cut_all(Cut::Reset);
        }
        slow.check_through(&world, last).await;
        neighbour.check_through(&world, last).await;
    }
    assert_eq!(client.stats().streams, 2);
}

pub(crate) async fn fail_says_where_to_go_on(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut slow = Ask::prefix("s/").from(1).with(small(Overflow::Fail)).open(&client);
    slow.created(&world).await;
    let mut neighbour = Ask::prefix("s/").from(1).open(&client);
    let last = write_a_lot(&world, &mut neighbour).await;
    let CloseReason::Lagged { next_revision, queued_bytes } = slow.end().await else {
        panic!("it is the lag that ends it")
    };
    assert!(queued_bytes > BUFFER);
    assert!(slow.events() > 0, "what was buffered comes first");
    slow.check(&world, next_revision - 1).await;
    let mut next = Ask::prefix("s/").from(next_revision).open(&client);
    next.check_through(&world, last).await;
    neighbour.check(&world, last).await;
    world.watchers(2).await;
}
