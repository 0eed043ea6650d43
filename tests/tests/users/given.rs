//! Auth tokens that the application gives, and credentials that change on a live client.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use etcd_watch_client::{
    CallError, CallOptions, Client, CloseReason, Code, Credentials, KeyRange, Put, StartError,
};
use etcd_watch_testkit::harness::{Keys, wait_until};
use tokio::time::timeout;

use crate::{
    SHORT,
    world::{DEADLINE, Observer, PASSWORD, Setup, World},
};

fn denied(error: &CallError) -> bool {
    matches!(error, CallError::Refused { code: Code::PermissionDenied, .. })
}

pub(crate) async fn a_given_token_serves_calls_and_watches_without_a_password_check(setup: Setup) {
    let world = World::start(setup).await;
    let token = world.token_of("alice", PASSWORD).await;
    world.put("a/1", "root has a token now").await;
    let before = world.password_checks();
    let client = world.builder().token(token).connect().await.expect("the token is good");
    let mut observer = Observer::running(&client, "a/").await;
    let put = client.put("a/by alice", "x").await.expect("it is hers");
    world.note_other("a/by alice", "x", put.revision());
    assert!(denied(&client.get("b/1").await.expect_err("it is not hers")));
    let reason = Observer::open(&client, "b/", 1).end().await;
    assert!(matches!(reason, CloseReason::PermissionDenied { .. }), "{reason}");
    world.cut();
    let last = world.put("a/1", "after the cut").await;
    observer.check_through(&world, last).await;
    assert_eq!(world.password_checks(), before);
}

/// A changed password makes simple tokens unknown, and any change of users makes signed ones useless.
async fn spoil_tokens(world: &World) {
    world.auth.change_password("alice", PASSWORD).await.expect("it is set again");
}

pub(crate) async fn after_a_refused_token_calls_end_and_watches_go_on_with_the_next_one(setup: Setup) {
    let world = World::start(setup).await;
    let client = world.builder().token(world.token_of("alice", PASSWORD).await);
    let client = client.connect_lazy().expect("valid settings");
    let mut observer = Observer::running(&client, "a/").await;
    let mut mirror = Fold::open(&client).await;
    spoil_tokens(&world).await;
    for error in [
        client.put("a/1", "x").await.expect_err("it is refused"),
        client.get("a/1").await.expect_err("it is refused"),
    ] {
        assert!(matches!(error, CallError::TokenRefused { .. }) && !error.may_have_executed(), "{error}");
    }
    let lazy = world.builder().token("no.such.token").connect().await.expect_err("it is refused");
    assert!(matches!(lazy, StartError::TokenRefused { .. }), "{lazy}");
    world.cut();
    let mut from_now_on = Observer::open(&client, "a/", 1);
    world.put("a/1", "nobody hears of it yet").await;
    // A watch that waits tries the token again now and then.
    let tried = || client.stats().opens >= 4;
    wait_until("the watches have been refused twice", DEADLINE, tried).await;

    let next = world.token_of("alice", PASSWORD).await;
    client.set_credentials(Credentials::token(next)).expect("it is valid");
    let last = world.put("a/2", "with the next token").await;
    observer.check_through(&world, last).await;
    from_now_on.check_through(&world, last).await;
    mirror.reach(last).await;
    assert_eq!(mirror.pairs, world.store("a/"));
    let put = client.put("a/by alice", "x").await.expect("with the next token");
    world.note_other("a/by alice", "x", put.revision());
    observer.check_through(&world, put.revision()).await;
}

/// What a mirror has handed out of `a/`.
struct Fold {
    mirror: etcd_watch_client::Mirror,
    pairs: BTreeMap<String, String>,
}

impl Fold {
    /// Listed, and watched from then on.
    async fn open(client: &Client) -> Self {
        let mirror = client.mirror(KeyRange::prefix("a/")).expect("a lawful request");
        let mut fold = Self { mirror, pairs: BTreeMap::new() };
        fold.reach(0).await;
        fold
    }

    /// Takes events until the fold is the store at this revision or a later one.
    async fn reach(&mut self, revision: i64) {
        while self.mirror.synced_revision().is_none_or(|synced| synced < revision) {
            let event = timeout(DEADLINE, self.mirror.try_next()).await.expect("in time");
            let event = event.expect("it goes on").expect("it has no end");
            for (key, value) in event.updates() {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                match value {
                    Some(value) => self.pairs.insert(text(key), text(value)),
                    None => self.pairs.remove(&text(key)),
                };
            }
        }
    }
}

pub(crate) async fn tokens_that_are_replaced_in_time_lose_nothing(setup: Setup) {
    const ROTATIONS: u64 = 8;
    let world = World::start(setup).await;
    let client = world.builder().token(world.token_of("alice", PASSWORD).await);
    let client = client.connect_lazy().expect("valid settings");
    let lease = client.lease_grant(Duration::from_secs(60)).await.expect("it is granted");
    let keeper = lease.keep_alive();
    client.put_with(Put::new("a/leased", "x").lease(lease.id())).await.expect("it is put");
    let mut observers = [Observer::running(&client, "a/").await, Observer::running(&client, "a/1").await];
    let mut mirror = Fold::open(&client).await;
    let began = Instant::now();
    for round in 0..ROTATIONS {
        // A token lasts 2 s; several expire meanwhile.
        let rotated = Instant::now();
        let mut number = 0;
        while rotated.elapsed() < SHORT / 4 {
            world.put(&format!("a/{}", number % 3), &format!("{round} {number}")).await;
            let put = client.put("a/by alice", format!("{round} {number}")).await.expect("it is put");
            world.note_other("a/by alice", &format!("{round} {number}"), put.revision());
            number += 1;
        }
        client
            .set_credentials(Credentials::token(world.token_of("alice", PASSWORD).await))
            .expect("it is valid");
        if round % 3 == 2 {
            world.cut();
        }
        let last = world.put("a/1", &format!("{round} rotated")).await;
        for observer in &mut observers {
            observer.check_through(&world, last).await;
        }
        mirror.reach(last).await;
    }
    let last = world.put("a/1", "the last").await;
    mirror.reach(last).await;
    mirror.pairs.remove("a/leased").expect("the lease is kept");
    assert_eq!(mirror.pairs, world.store("a/"));
    assert_eq!(keeper.lost_reason(), None);
    let stats = client.stats();
    println!("{ROTATIONS} rotations in {:?}, {} streams moved", began.elapsed(), stats.moves);
    assert!(began.elapsed() > SHORT, "tokens did expire");
    assert!(stats.moves >= ROTATIONS - 3, "streams move to the new token: {stats:?}");
}

pub(crate) async fn another_user_takes_over_a_live_client(setup: Setup) {
    let world = World::start(setup).await;
    let added = world.auth.add_user_in_role("bob", "password-of-bob", "others", Keys::Prefix("b/"));
    added.await.expect("bob is added");
    let client = world.alice();
    let mut of_alice = Observer::running(&client, "a/").await;
    let last = world.put("a/1", "hers").await;
    of_alice.check_through(&world, last).await;

    let before = world.password_checks();
    client.set_credentials(Credentials::user("bob", "password-of-bob")).expect("valid");
    client.set_credentials(Credentials::user("bob", "password-of-bob")).expect("the same, no change");
    assert!(denied(&client.get("a/1").await.expect_err("it is not his")));
    client.put("b/1", "x").await.expect("it is his");
    // What was written before is hers to have been told; a watch as bob is denied.
    let reason = of_alice.end().await;
    assert!(matches!(reason, CloseReason::PermissionDenied { .. }), "{reason}");
    let mut of_bob = Observer::running(&client, "b/").await;
    let last = world.put("b/1", "his").await;
    of_bob.check_through(&world, last).await;
    let checks = world.password_checks() - before;
    // A denial has a second token fetched, to see whether the first was at fault.
    assert!((1..=4).contains(&checks), "{checks} password checks");

    client.set_credentials(Credentials::user("bob", "not-his")).expect("valid, and wrong");
    let error = client.put("b/1", "x").await.expect_err("it is refused");
    assert!(matches!(error, CallError::AuthenticationFailed { .. }), "{error}");
    let token = world.token_of("alice", PASSWORD).await;
    client.set_credentials(Credentials::token(token)).expect("valid");
    client.put("a/1", "x").await.expect("she is back");
    client.set_credentials(Credentials::user("", "x")).expect_err("it has no name");
    client.set_credentials(Credentials::token("two\nlines")).expect_err("it is no header");
    client.put("a/1", "x").await.expect("nothing has changed");
}

pub(crate) async fn a_client_without_credentials_is_given_some(setup: Setup) {
    let world = World::start(setup).await;
    let client = world.builder().connect_lazy().expect("valid settings");
    let error = client.put("a/1", "x").await.expect_err("it is refused");
    assert!(matches!(error, CallError::Refused { .. }), "{error}");
    let mut waiting = Observer::open(&client, "a/", 1);
    client.set_credentials(Credentials::user("alice", PASSWORD)).expect("valid");
    client.get("a/1").await.expect("she is known now");
    let last = world.put("a/1", "hers").await;
    waiting.check_through(&world, last).await;
}

pub(crate) async fn a_view_with_a_token_acts_as_its_user(setup: Setup) {
    let world = World::start(setup).await;
    let client = world.on_root();
    let token = world.token_of("alice", PASSWORD).await;
    let view = client.with_options(CallOptions::new().token(token)).expect("valid");
    let mut of_alice = Observer::running(&view, "a/").await;
    let mut of_root = Observer::running(&client, "").await;
    assert!(denied(&view.put("b/1", "x").await.expect_err("it is not hers")));
    client.get("b/1").await.expect("root may do anything");
    let reason = Observer::open(&view, "b/", 1).end().await;
    assert!(matches!(reason, CloseReason::PermissionDenied { .. }), "{reason}");
    let mut mirror = Fold::open(&view).await;
    let put = view.put("a/by alice", "x").await.expect("it is hers");
    world.note_other("a/by alice", "x", put.revision());
    mirror.reach(put.revision()).await;
    assert_eq!(mirror.pairs, world.store("a/"));
    of_alice.check_through(&world, put.revision()).await;
    of_root.check_through(&world, put.revision()).await;

    spoil_tokens(&world).await;
    let error = view.put("a/1", "x").await.expect_err("it is refused");
    assert!(matches!(error, CallError::TokenRefused { .. }), "{error}");
    client.get("a/1").await.expect("root's is another");
    world.cut();
    let reason = of_alice.end().await;
    assert!(matches!(reason, CloseReason::TokenRefused { .. }), "{reason}");
    let last = world.put("a/1", "root's watch goes on").await;
    of_root.check_through(&world, last).await;
}
