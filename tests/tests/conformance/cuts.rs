//! Connections lost, at every moment there is.

use std::time::Duration;

use etcd_watch_client::{Delete, KeyRange, Put, Txn};
use etcd_watch_testkit::proxy::Cut;

use crate::{
    basics::{check_all, every_kind, last_words},
    observer::{Ask, Observer},
    workload::Workload,
    world::{Backend, DEADLINE, Setup, World, stats},
};

pub(crate) async fn every_kind_of_watch_keeps_the_nine_rules_through_cuts(backend: Backend) {
    const CUTS: u64 = 12;
    let world = World::start(backend).await;
    let client = world.client();
    let mut observers: Vec<Observer> =
        every_kind(0).into_iter().chain(every_kind(1)).map(|ask| ask.open(&client)).collect();
    for observer in &mut observers {
        observer.created(&world).await;
    }
    let workload = Workload::start(&world.direct, 2, usize::MAX);
    let mut tick = tokio::time::interval(Duration::from_millis(40));
    while world.proxy.cuts() < CUTS {
        tick.tick().await;
        world.proxy.cut_all(if world.proxy.cuts() % 2 == 0 { Cut::Reset } else { Cut::Close });
    }
    workload.stop().await;
    let last = last_words(&world).await;
    check_all(&world, &mut observers, last).await;
    assert!(client.stats().reconnects > 0);
    assert_eq!(client.stats().misbehaved, 0);
}

pub(crate) async fn a_cut_at_any_byte_of_the_first_exchange_loses_nothing(backend: Backend) {
    let world = World::start(backend).await;
    for count in 0..8 {
        world.put(format!("c/{count}"), "some value").await;
    }
    let last = world.txn(Txn::new().and_then(Put::new("c/a", "1")).and_then(Put::new("c/b", "2"))).await;
    // Settings, the member's version, the Created reply, the backlog; then past them all.
    let mut cuts = 0;
    for bytes in (0..1_400).step_by(35) {
        world.proxy.cut_next_after_bytes(bytes, Cut::Reset);
        let client = world.client();
        let mut observer = Ask::prefix("c/").from(1).open(&client);
        observer.check_through(&world, last).await;
        assert_eq!(observer.created, 1, "cut after {bytes} bytes");
        assert_eq!(observer.events(), 10);
        cuts += client.stats().reconnects;
        client.close().await;
        world.proxy.restore();
    }
    assert!(cuts > 0 && world.proxy.cuts() > 5, "{} cuts, {cuts} of open streams", world.proxy.cuts());
}

pub(crate) async fn a_connection_lost_while_creating_loses_nothing(backend: Backend) {
    let world = World::start(backend).await;
    let last = world.put("k", "before").await;
    let client = world.client();
    world.proxy.hold();
    let mut now = Ask::key("k").open(&client);
    let mut past = Ask::key("k").from(1).open(&client);
    etcd_watch_testkit::harness::wait_until("the client connects", DEADLINE, || {
        world.proxy.connections() > 0
    })
    .await;
    world.proxy.cut_all(Cut::Reset);
    world.proxy.restore();
    past.check_through(&world, last).await;
    now.created(&world).await;

    // On a stream that is open: the request has gone out, the reply is held.
    world.proxy.hold();
    let creates = client.stats().creates;
    let mut another = Ask::key("k").from(1).open(&client);
    stats(&client, "the request is sent", |stats| stats.creates > creates).await;
    world.proxy.cut_all(Cut::Reset);
    world.proxy.restore();
    let last = world.put("k", "after").await;
    for observer in [&mut now, &mut past, &mut another] {
        observer.check_through(&world, last).await;
        assert_eq!(observer.created, 1);
    }
}

pub(crate) async fn a_connection_lost_before_and_after_data_loses_nothing(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut observer = Ask::prefix("d/").open(&client);
    observer.created(&world).await;
    for round in 0..4 {
        world.proxy.cut_all(Cut::Reset);
        let revision = world.put("d/a", format!("{round} after the cut")).await;
        observer.through(revision).await;
        let revision = world.put("d/b", format!("{round} before the cut")).await;
        if round % 2 == 0 {
            observer.through(revision).await;
        }
    }
    let last = world.put("d/a", "last").await;
    observer.check_through(&world, last).await;
    assert_eq!((observer.events(), observer.created), (9, 1));
}

pub(crate) async fn a_watch_from_now_that_saw_nothing_misses_nothing_written_during_the_cut(
    backend: Backend,
) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut observers: Vec<Observer> = (0..10).map(|_| Ask::prefix("n/").open(&client)).collect();
    for observer in &mut observers {
        observer.created(&world).await;
    }
    world.disconnect();
    for count in 0..20 {
        world.put(format!("n/{count}"), "while away").await;
    }
    world.reconnect();
    let last = world.put("n/last", "back").await;
    for observer in &mut observers {
        observer.check_through(&world, last).await;
        assert_eq!((observer.events(), observer.created), (21, 1));
    }
}

pub(crate) async fn a_cut_in_the_middle_of_a_catch_up_loses_nothing(backend: Backend) {
    const REVISIONS: usize = 2_600;
    let world = World::start(backend).await;
    let last = world.put_many("c/", REVISIONS, &[b'v'; 100]).await;
    // A batch of 1,000 revisions is some 130 KB.
    for bytes in [20_000, 100_000, 180_000, 230_000, 290_000] {
        let cuts = world.proxy.cuts();
        world.proxy.cut_next_after_bytes(bytes, Cut::Reset);
        let client = world.client();
        let mut observer = Ask::prefix("c/").from(1).open(&client);
        observer.check_through(&world, last).await;
        assert_eq!((observer.events(), world.proxy.cuts()), (REVISIONS, cuts + 1));
        world.proxy.restore();
    }
}

pub(crate) async fn cuts_in_the_middle_of_fragments_lose_nothing(backend: Backend) {
    let world = World::with(backend, Setup { max_request_bytes: Some(64 << 10), ..Setup::default() }).await;
    // Eight megabytes in fragments of some 600 KB.
    let last = world.put_many("f/", 200, &[b'v'; 40 << 10]).await;
    let client = world.client();
    world.proxy.cut_each_after_bytes(1_500_000, Cut::Reset);
    let mut observer = Ask::prefix("f/").from(1).open(&client);
    observer.check_through(&world, last).await;
    world.proxy.restore();
    let cuts = world.proxy.cuts();
    assert!(cuts >= 4, "{cuts} cuts");
    assert_eq!(observer.events(), 200);
    assert_eq!(client.stats().events, 200, "what was released isn't received again");
}

pub(crate) async fn a_revision_cut_in_the_middle_arrives_whole(backend: Backend) {
    const KEYS: usize = 100;
    let world = World::with(backend, Setup { max_request_bytes: Some(64 << 10), ..Setup::default() }).await;
    let written = world.put_many("r/", KEYS, &[b'v'; 40 << 10]).await;
    // One revision of four megabytes, since the previous values come along.
    let last = world.delete(KeyRange::prefix("r/")).await;
    for bytes in [300_000, 900_000, 2_500_000] {
        let cuts = world.proxy.cuts();
        world.proxy.cut_next_after_bytes(bytes, Cut::Reset);
        let client = world.client();
        let mut observer = Ask::prefix("r/").prev_kv().from(written + 1).open(&client);
        observer.check_through(&world, last).await;
        assert_eq!((observer.events(), world.proxy.cuts()), (KEYS, cuts + 1));
        world.proxy.restore();
    }
}

pub(crate) async fn a_server_killed_and_restarted_goes_on_where_it_was(backend: Backend) {
    let mut world = World::start(backend).await;
    let client = world.client();
    let mut quiet = Ask::prefix("quiet/").open(&client);
    let mut busy = Ask::prefix("busy/").from(1).open(&client);
    quiet.created(&world).await;
    let revision = world.put_many("busy/", 30, b"before").await;
    busy.through(revision).await;
    for round in 0..2 {
        world.kill().await;
        world.restart().await;
        let revision = world.put_many("busy/", 30, b"after").await;
        if round == 0 {
            busy.through(revision).await;
        }
    }
    let last =
        world.txn(Txn::new().and_then(Put::new("quiet/a", "1")).and_then(Delete::prefix("busy/"))).await;
    quiet.check_through(&world, last).await;
    busy.check_through(&world, last).await;
    assert_eq!((quiet.created, busy.created), (1, 1));
}
