//! Passwords, right and wrong, and how often they are sent.

use std::time::{Duration, Instant};

use etcd_watch_client::{CallError, CloseReason, Get, StartError};
use tokio::task::JoinSet;

use crate::world::{Observer, PASSWORD, Setup, World};

pub(crate) async fn everything_a_client_does_at_once_costs_one_password_check(setup: Setup) {
    let world = World::start(setup).await;
    let before = world.password_checks();
    let client = world.alice();
    let mut observers: Vec<_> = (0..20).map(|_| Observer::open(&client, "a/", 1)).collect();
    let mut calls = JoinSet::new();
    for number in 0..40 {
        let client = client.clone();
        calls.spawn(async move {
            client.put(format!("a/{number}"), "x").await.expect("it is put");
            client.get(Get::key(format!("a/{number}"))).await.expect("it is read");
        });
    }
    calls.join_all().await;
    for observer in &mut observers {
        observer.step().await.expect("it is created");
    }
    let checks = world.password_checks() - before;
    // On a busy machine the first may be waited for in vain.
    assert!((1..=2).contains(&checks), "{checks} password checks");
}

pub(crate) async fn a_wrong_password_is_told_at_once_and_not_tried_again_and_again(setup: Setup) {
    const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);
    let world = World::start(setup).await;
    let (before, began) = (world.password_checks(), Instant::now());
    for (user, password) in [("alice", "not-hers"), ("nobody", PASSWORD)] {
        let client = world.builder().user(user, password).request_timeout(REQUEST_TIMEOUT);
        let client = client.connect_lazy().expect("valid settings");
        let started = Instant::now();
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let client = client.clone();
            calls.spawn(async move { client.put("a/1", "x").await.expect_err("it is refused") });
        }
        for error in calls.join_all().await {
            assert!(matches!(error, CallError::AuthenticationFailed { .. }), "{error}");
            assert!(error.to_string().contains("check the user and the password"), "{error}");
        }
        for from in [0, 1] {
            let reason = Observer::open(&client, "a/", from).end().await;
            assert!(matches!(reason, CloseReason::AuthenticationFailed { .. }), "{reason}");
        }
        assert!(started.elapsed() < REQUEST_TIMEOUT / 2, "at once, not after the request timeout");
    }
    let checks = world.password_checks() - before;
    println!("{checks} password checks for 40 calls and 4 watches");
    // One each, and another for each second that passes meanwhile, on a busy machine.
    let most = 2 * (began.elapsed().as_secs() + 2);
    assert!((2..=most).contains(&checks), "{checks} password checks");
}

pub(crate) async fn a_client_that_waits_for_its_connection_hears_of_a_wrong_password_at_once(setup: Setup) {
    const PATIENCE: Duration = Duration::from_secs(120);
    let world = World::start(setup).await;
    let patient = || world.builder().connect_timeout(PATIENCE);
    let started = Instant::now();
    let error = patient().user("alice", "not-hers").connect().await.expect_err("it is refused");
    assert!(matches!(error, StartError::AuthenticationFailed { .. }), "{error}");
    assert!(started.elapsed() < PATIENCE / 2, "at once, not when its patience is over");
    let client = patient().user("alice", PASSWORD).connect().await.expect("the right one");
    client.put("a/1", "x").await.expect("it is put");
}
