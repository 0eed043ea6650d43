//! Tokens that servers know no more.

use std::time::{Duration, Instant};

use etcd_watch_client::{Get, Put};

use crate::{
    SHORT,
    world::{Observer, Setup, World, sleep_until},
};

/// When a token that is used now has expired for sure: etcd looks for those once a second.
pub(crate) fn expired() -> Instant {
    Instant::now() + SHORT + Duration::from_millis(1_500)
}

/// The most password checks that so many clients need in this time, if each fetches a token when one has expired and
/// at no other time: one that spins needs hundreds.
fn most_checks(clients: u64, since: Instant) -> u64 {
    clients * (since.elapsed().as_secs() / SHORT.as_secs() + 2)
}

pub(crate) async fn watches_go_on_through_cuts_with_tokens_that_expire(setup: Setup) {
    const ROUNDS: u64 = 3;
    let world = World::start(setup).await;
    let client = world.alice();
    let mut observers = [Observer::running(&client, "a/").await, Observer::running(&client, "a/1").await];
    let (before, since) = (world.password_checks(), Instant::now());
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
    // Root's client needs some too. A stream is opened after a cut, and again if the token is refused then.
    let most = most_checks(2, since);
    assert!(stats.reconnects <= ROUNDS * 2 + most && checks <= ROUNDS + most, "{checks} checks, {stats:?}");
}

pub(crate) async fn calls_go_on_after_their_token_has_expired(setup: Setup) {
    let world = World::start(setup).await;
    let client = world.alice();
    let (before, since) = (world.password_checks(), Instant::now());
    for round in 1..=3 {
        client.put("a/1", round.to_string()).await.expect("it is put");
        let read = client.get(Get::key("a/1")).await.expect("it is read");
        assert_eq!(read.kvs()[0].version, round, "a write with an expired token is made once");
        let checks = world.password_checks() - before;
        assert!(checks >= round.unsigned_abs(), "{checks} checks: the token did expire");
        assert!(checks <= most_checks(1, since), "{checks} checks in round {round}");
        sleep_until(expired()).await;
    }
}

pub(crate) async fn a_lease_is_kept_alive_past_the_end_of_a_token(setup: Setup) {
    let world = World::start(setup).await;
    let client = world.alice();
    // Renewed every 2 s, which is about when the token has expired.
    let lease = client.lease_grant(Duration::from_secs(6)).await.expect("it is granted");
    let keeper = lease.keep_alive();
    client.put_with(Put::new("a/leased", "x").lease(lease.id())).await.expect("it is put");
    let (before, since) = (world.password_checks(), Instant::now());
    let end = since + Duration::from_secs(11);
    tokio::select! {
        lost = keeper.lost() => panic!("{lost}"),
        () = sleep_until(end) => {}
    }
    let checks = world.password_checks() - before;
    println!("{checks} password checks in {:?}", since.elapsed());
    assert!(checks <= most_checks(1, since), "{checks} password checks");
    assert_eq!(client.get(Get::key("a/leased")).await.expect("it is read").count(), 1);
}

/// A member knows the simple tokens that are in the part of the log it replays: what is before its last snapshot
/// is forgotten.
pub(crate) async fn watches_go_on_after_a_restart_that_forgot_the_tokens(setup: Setup) {
    let mut world = World::start(setup).await;
    let client = world.alice();
    let mut observer = Observer::running(&client, "a/").await;
    client.get(Get::key("a/1")).await.expect("it is read");
    for number in 0..40 {
        world.put("a/1", &number.to_string()).await;
    }
    world.server.restart_async().await.expect("etcd starts again");
    client.put("a/by alice", "x").await.expect("with a new token");
    let read = client.get(Get::key("a/by alice")).await.expect("it is read");
    assert_eq!(read.kvs()[0].version, 1);
    // Since the restart nobody but alice has done anything.
    let checks = world.password_checks();
    println!("{checks} password checks after the restart");
    assert!((1..=6).contains(&checks), "{checks} password checks");
    world.note_other("a/by alice", "x", read.kvs()[0].mod_revision);
    let last = world.put("a/2", "afterwards").await;
    observer.check_through(&world, last).await;
}
