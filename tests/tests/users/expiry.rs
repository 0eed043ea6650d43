//! Tokens that servers know no more.

use std::time::{Duration, Instant};

use etcd_watch_testkit::harness::EtcdServerBuilder;
use etcd_watch_tokio::{Get, Put};

use crate::{
    SHORT,
    world::{Observer, World, sleep_until},
};

/// When a token that is used now has expired for sure: etcd looks for those once a second.
fn expired() -> Instant {
    Instant::now() + SHORT + Duration::from_millis(1_500)
}

pub(crate) async fn watches_go_on_through_cuts_with_tokens_that_expire(server: EtcdServerBuilder) {
    const ROUNDS: u64 = 3;
    let world = World::start(server).await;
    let client = world.alice();
    let mut observers = [Observer::running(&client, "a/").await, Observer::running(&client, "a/1").await];
    let before = world.password_checks();
    for round in 0..ROUNDS {
        let expired = expired();
        let mut number = 0;
        while Instant::now() < expired {
            world.put(&format!("a/{}", number % 3), &format!("{round} {number}")).await;
            number += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let last = world.put("a/1", "before the cut").await;
        for observer in &mut observers {
            observer.check_through(&world, last).await;
        }
        world.cut();
        world.put("a/2", "meanwhile").await;
        let last = world.put("a/1", "after the cut").await;
        for observer in &mut observers {
            observer.check_through(&world, last).await;
        }
    }
    let checks = world.password_checks() - before;
    let stats = client.stats();
    println!("{checks} password checks, {} reconnects in {ROUNDS} rounds", stats.reconnects);
    assert!(stats.reconnects >= ROUNDS && checks >= ROUNDS, "tokens did expire");
    // Root's client needs some too.
    assert!(stats.reconnects <= ROUNDS * 3 && checks <= ROUNDS * 5, "{checks} checks, {stats:?}");
}

pub(crate) async fn calls_go_on_after_their_token_has_expired(server: EtcdServerBuilder) {
    let world = World::start(server).await;
    let client = world.alice();
    let before = world.password_checks();
    for round in 1..=3 {
        client.put(Put::new("a/1", round.to_string())).await.expect("it is put");
        let read = client.get(Get::key("a/1")).await.expect("it is read");
        assert_eq!(read.kvs[0].version, round, "a write with an expired token is made once");
        assert_eq!(world.password_checks() - before, round.unsigned_abs());
        sleep_until(expired()).await;
    }
}

pub(crate) async fn a_lease_is_kept_alive_past_the_end_of_a_token(server: EtcdServerBuilder) {
    let world = World::start(server).await;
    let client = world.alice();
    let lease = client.lease_grant(3, 0).await.expect("it is granted");
    let keeper = client.lease_keep_alive(lease.id, lease.ttl).expect("a lease");
    client.put(Put::new("a/leased", "x").lease(lease.id)).await.expect("it is put");
    let before = world.password_checks();
    let end = Instant::now() + Duration::from_secs(8);
    tokio::select! {
        lost = keeper.lost() => panic!("{lost}"),
        () = sleep_until(end) => {}
    }
    let checks = world.password_checks() - before;
    println!("{checks} password checks in 8 s");
    assert!(checks <= 6, "{checks} password checks");
    assert_eq!(client.get(Get::key("a/leased")).await.expect("it is read").count, 1);
}

/// A member knows the simple tokens that are in the part of the log it replays: what is before its last snapshot
/// is forgotten.
pub(crate) async fn watches_go_on_after_a_restart_that_forgot_the_tokens(server: EtcdServerBuilder) {
    let mut world = World::start(server).await;
    let client = world.alice();
    let mut observer = Observer::running(&client, "a/").await;
    client.get(Get::key("a/1")).await.expect("it is read");
    for number in 0..40 {
        world.put("a/1", &number.to_string()).await;
    }
    world.server.restart_async().await.expect("etcd starts again");
    client.put(Put::new("a/by alice", "x")).await.expect("with a new token");
    let read = client.get(Get::key("a/by alice")).await.expect("it is read");
    assert_eq!(read.kvs[0].version, 1);
    // Since the restart nobody but alice has done anything.
    let checks = world.password_checks();
    println!("{checks} password checks after the restart");
    assert!((1..=3).contains(&checks), "{checks} password checks");
    world.note_other("a/by alice", "x", read.kvs[0].mod_revision);
    let last = world.put("a/2", "afterwards").await;
    observer.check_through(&world, last).await;
}
