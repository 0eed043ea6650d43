//! Passwords, right and wrong, and how often they are sent.

use std::time::{Duration, Instant};

use etcd_watch_testkit::harness::EtcdServerBuilder;
use etcd_watch_tokio::{CallError, CloseReason, Get, Put, StartError};
use tokio::task::JoinSet;

use crate::world::{Observer, PASSWORD, World};

pub(crate) async fn everything_a_client_does_at_once_costs_one_password_check(server: EtcdServerBuilder) {
    let world = World::start(server).await;
    let before = world.password_checks();
    let client = world.alice();
    let mut observers: Vec<_> = (0..20).map(|_| Observer::open(&client, "a/", 1)).collect();
    let mut calls = JoinSet::new();
    for number in 0..40 {
        let client = client.clone();
        calls.spawn(async move {
            client.put(Put::new(format!("a/{number}"), "x")).await.expect("it is put");
            client.get(Get::key(format!("a/{number}"))).await.expect("it is read");
        });
    }
    calls.join_all().await;
    for observer in &mut observers {
        observer.step().await.expect("it is created");
    }
    assert_eq!(world.password_checks() - before, 1);
}

pub(crate) async fn a_wrong_password_is_told_at_once_and_not_tried_again_and_again(
    server: EtcdServerBuilder,
) {
    let world = World::start(server).await;
    let before = world.password_checks();
    for (user, password) in [("alice", "not-hers"), ("nobody", PASSWORD)] {
        let client = world.builder().user(user, password).build().expect("valid settings");
        let started = Instant::now();
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let client = client.clone();
            calls.spawn(async move { client.put(Put::new("a/1", "x")).await.expect_err("it is refused") });
        }
        for error in calls.join_all().await {
            assert!(matches!(error, CallError::AuthenticationFailed { .. }), "{error}");
            assert!(error.to_string().contains("check the user and the password"), "{error}");
        }
        for from in [0, 1] {
            let reason = Observer::open(&client, "a/", from).end().await;
            assert!(matches!(reason, CloseReason::AuthenticationFailed { .. }), "{reason}");
        }
        assert!(started.elapsed() < Duration::from_secs(8), "at once, not after the request timeout");
    }
    let checks = world.password_checks() - before;
    // One each, and more if the machine is so busy that a second passes.
    println!("{checks} password checks for 40 calls and 4 watches");
    assert!((2..=16).contains(&checks), "{checks} password checks");
}

pub(crate) async fn a_client_that_waits_for_its_connection_hears_of_a_wrong_password_at_once(
    server: EtcdServerBuilder,
) {
    let world = World::start(server).await;
    let patient = || world.builder().connect_timeout(Duration::from_secs(60));
    let started = Instant::now();
    let error = patient().user("alice", "not-hers").connect().await.expect_err("it is refused");
    assert!(matches!(error, StartError::AuthenticationFailed { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));
    let client = patient().user("alice", PASSWORD).connect().await.expect("the right one");
    client.put(Put::new("a/1", "x")).await.expect("it is put");
}
