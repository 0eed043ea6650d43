//! Watches that end: by their consumer, at every moment, alone and in masses; and what the server is left with.

use std::time::Duration;

use etcd_watch_client::{CallError, CloseReason, Watch};
use etcd_watch_testkit::proxy::Cut;
use tokio::time::timeout;

use crate::{
    observer::{Ask, Observer},
    world::{Backend, DEADLINE, World, stats},
};

/// A cancelled watch ends without an error, after at most what it had received before.
async fn ends(watch: &mut Watch) {
    let end = async {
        while let Some(response) = watch.next().await {
            response.expect("no error");
        }
    };
    timeout(DEADLINE, end).await.expect("the watch ends");
    assert!(watch.next().await.is_none(), "it stays ended");
}

pub(crate) async fn a_watch_cancelled_at_once_leaves_nothing_behind(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut cancelled = Ask::key("k").open(&client);
    cancelled.watch.cancel();
    ends(&mut cancelled.watch).await;
    drop(Ask::key("k").from(1).open(&client));
    // The next one is served all the same.
    let mut next = Ask::key("k").from(1).open(&client);
    let last = world.put("k", "v").await;
    next.check_through(&world, last).await;
    world.watchers(1).await;
    drop(next);
    world.watchers(0).await;
}

pub(crate) async fn a_watch_cancelled_while_it_is_created_leaves_nothing_behind(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut stays = Ask::key("k").from(1).open(&client);
    stays.created(&world).await;
    for cut in [false, true] {
        world.proxy.hold();
        let creates = client.stats().creates;
        let mut cancelled = Ask::key("k").from(1).open(&client);
        stats(&client, "the create request is sent", |stats| stats.creates > creates).await;
        cancelled.watch.cancel();
        ends(&mut cancelled.watch).await;
        if cut {
            world.proxy.cut_all(Cut::Reset);
        }
        world.proxy.release();
        let last = world.put("k", "v").await;
        stays.check_through(&world, last).await;
        world.watchers(1).await;
    }
}

pub(crate) async fn a_running_watch_is_cancelled(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut stays = Ask::key("k").from(1).open(&client);
    let mut cancelled = Ask::key("k").from(1).open(&client);
    let revision = world.put("k", "1").await;
    cancelled.check_through(&world, revision).await;
    world.watchers(2).await;
    cancelled.watch.cancel();
    ends(&mut cancelled.watch).await;
    world.watchers(1).await;
    let last = world.put("k", "2").await;
    stays.check_through(&world, last).await;
}

pub(crate) async fn a_watch_cancelled_while_disconnected_is_not_resumed(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut observers: Vec<Observer> = (0..6).map(|_| Ask::key("k").from(1).open(&client)).collect();
    for observer in &mut observers {
        observer.created(&world).await;
    }
    world.disconnect();
    stats(&client, "the client notices", |stats| stats.reconnects > 0).await;
    let mut stay = observers.split_off(3);
    for observer in &mut observers {
        observer.watch.cancel();
        ends(&mut observer.watch).await;
    }
    world.watchers(0).await;
    let recreates = client.stats().recreates;
    world.reconnect();
    let last = world.put("k", "v").await;
    for observer in &mut stay {
        observer.check_through(&world, last).await;
    }
    world.watchers(3).await;
    assert_eq!(client.stats().recreates, recreates + 3);
}

pub(crate) async fn watches_are_cancelled_while_others_are_created(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut kept = Vec::new();
    let mut previous: Option<Observer> = None;
    for index in 0..300 {
        let observer = Ask::key("k").from(1).open(&client);
        if index % 10 == 0 {
            kept.push(observer);
        } else {
            // Dropped: cancelled while the next one is created.
            previous = Some(observer);
        }
        if index % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let last = world.put("k", "v").await;
    for observer in &mut kept {
        observer.check_through(&world, last).await;
    }
    drop(previous);
    world.watchers(kept.len() as u64).await;
    drop(kept);
    world.watchers(0).await;
    assert_eq!(client.stats().misbehaved, 0);
}

pub(crate) async fn a_consumer_dropped_at_any_moment_leaves_nothing_behind(backend: Backend) {
    let world = World::start(backend).await;
    world.put_many("k", 200, b"v").await;
    let client = world.client();
    for step in 0..60 {
        let mut observer = Ask::prefix("k").from(1).open(&client);
        // Not yet sent, sent, created, with a response on its way, with one waiting.
        let moment = Duration::from_micros(step * 150);
        let _ = timeout(moment, async { while observer.step().await.is_ok() {} }).await;
    }
    world.watchers(0).await;
    assert_eq!(client.stats().watches, 0);
    assert_eq!(client.stats().queued_bytes, 0);
    assert_eq!(client.stats().misbehaved, 0);
}

pub(crate) async fn a_client_that_is_dropped_or_closed_leaves_nothing_behind(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut observers: Vec<Observer> = (0..5).map(|_| Ask::key("k").from(1).open(&client)).collect();
    world.watchers(5).await;
    // Watches outlive the handle of their client.
    drop(client);
    let last = world.put("k", "v").await;
    for observer in &mut observers {
        observer.check_through(&world, last).await;
    }
    drop(observers);
    world.watchers(0).await;

    let client = world.client();
    let mut observer = Ask::key("k").from(1).open(&client);
    observer.through(last).await;
    client.close().await;
    assert_eq!(observer.end().await, CloseReason::ShutDown);
    assert!(client.watch("k").is_err());
    assert!(matches!(client.put("k", "v").await, Err(CallError::Closed { .. })));
    world.watchers(0).await;
}

pub(crate) async fn masses_are_created_resumed_cancelled_and_closed(backend: Backend) {
    const WATCHES: usize = 1_500;
    let world = World::start(backend).await;
    let client = world.client();
    let mut observers: Vec<Observer> =
        (0..WATCHES).map(|index| Ask::key(&format!("m/{index}")).open(&client)).collect();
    for observer in &mut observers {
        observer.created(&world).await;
    }
    assert_eq!(client.stats().creates, WATCHES as u64);
    world.watchers(WATCHES as u64).await;

    world.proxy.cut_all(Cut::Reset);
    let mut last = Vec::new();
    for index in 0..WATCHES {
        if index % 100 == 0 {
            last.push((index, world.put(format!("m/{index}"), "v").await));
        }
    }
    for (index, revision) in last {
        observers[index].check_through(&world, revision).await;
    }
    stats(&client, "all are resumed", |stats| stats.recreates == WATCHES as u64).await;
    world.watchers(WATCHES as u64).await;

    observers.truncate(WATCHES / 2);
    world.watchers(WATCHES as u64 / 2).await;
    client.close().await;
    world.watchers(0).await;
}
