//! Keys that a user may not have.

use etcd_watch_client::{CallError, CloseReason, Code, Get, ServerVersion};

use crate::world::{Observer, Setup, World};

pub(crate) async fn denied_keys_end_only_their_own_watch(setup: Setup) {
    let world = World::start(setup).await;
    let client = world.alice();
    let mut allowed = Observer::running(&client, "a/").await;
    let before = world.password_checks();

    let mut from_now = Observer::open(&client, "b/", 0);
    let mut from_the_past = Observer::open(&client, "b/", 1);
    let mut everything = Observer::open(&client, "", 1);
    for denied in [&mut from_now, &mut from_the_past, &mut everything] {
        let reason = denied.end().await;
        assert!(matches!(reason, CloseReason::PermissionDenied { .. }), "{reason}");
    }
    for error in [
        client.get(Get::key("b/1")).await.expect_err("it is denied"),
        client.put("b/1", "x").await.expect_err("it is denied"),
    ] {
        assert!(matches!(error, CallError::Refused { code: Code::PermissionDenied, .. }), "{error}");
    }
    assert_eq!(world.password_checks(), before, "a denial is not taken for a token that has expired");

    client.put("a/by alice", "x").await.expect("it is hers");
    client.get(Get::key("a/by alice")).await.expect("it is hers");
    let last = world.put("a/1", "x").await;
    let reconnects = client.stats().reconnects;
    while allowed.step().await.is_ok() && allowed.watch().resume_revision() <= Some(last) {}
    assert_eq!(reconnects, 0, "the stream was not disturbed");
}

/// etcd looks at permissions when a watch is created, and never again.
pub(crate) async fn a_role_taken_away_ends_a_watch_when_it_is_resumed(setup: Setup) {
    let world = World::start(setup).await;
    let client = world.alice();
    let mut observer = Observer::running(&client, "a/").await;
    world.auth.take_role("alice", "team").await.expect("it is taken");
    let last = world.put("a/1", "while it runs").await;
    observer.check_through(&world, last).await;
    let error = client.get(Get::key("a/1")).await.expect_err("it is refused");
    assert!(matches!(error, CallError::Refused { code: Code::PermissionDenied, .. }), "{error}");

    world.cut();
    let reason = observer.end().await;
    assert!(matches!(reason, CloseReason::PermissionDenied { .. }), "{reason}");
}

pub(crate) async fn a_role_given_back_before_the_watch_is_resumed_changes_nothing(setup: Setup) {
    let world = World::start(setup).await;
    let client = world.alice();
    let mut observer = Observer::running(&client, "a/").await;
    world.proxy.refuse();
    world.cut();
    world.auth.take_role("alice", "team").await.expect("it is taken");
    world.put("a/1", "while nobody watches").await;
    world.auth.give_role("alice", "team").await.expect("it is given back");
    world.proxy.restore();
    let last = world.put("a/2", "afterwards").await;
    observer.check_through(&world, last).await;
}

/// 3.5.28 and some others keep their version from all but root; how progress is to be taken can still be told.
pub(crate) async fn progress_can_be_asked_for_by_those_who_are_not_root(setup: Setup) {
    let world = World::start(setup).await;
    let version: ServerVersion = world.server.version().to_string().parse().expect("a version");
    if !version.orders_manual_progress() {
        return;
    }
    let client = world.alice();
    let mut observer = Observer::running(&client, "a/").await;
    let last = world.put("b/1", "elsewhere").await;
    while observer.progress < last {
        observer.watch().request_progress();
        observer.step().await.expect("the watch goes on");
    }
}
