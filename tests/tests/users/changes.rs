//! Users, passwords and authentication itself, changed under running clients.

use etcd_watch_client::{CallError, Client, CloseReason, Get, Put};

use crate::world::{Observer, Setup, World};

/// Signed tokens are bound to the revision of the users, and useless after any change of them.
pub(crate) async fn a_change_of_users_moves_watches_without_a_loss(setup: Setup) {
    const CHANGES: u64 = 4;
    let world = World::start(setup).await;
    let client = world.alice();
    let mut old = Observer::running(&client, "a/").await;
    let before = world.password_checks();
    for number in 0..CHANGES {
        world.auth.add_user(&format!("user{number}"), "pw").await.expect("a user is added");
        world.put("a/1", &number.to_string()).await;
        client.put(Put::new(format!("other/{number}"), "x")).await.expect_err("it is refused");
        client.get(Get::key("a/1")).await.expect("it is read");
        let mut new = Observer::open(&client, "a/", 1);
        new.step().await.expect("it is created, on the same stream or another");
        let last = world.put("a/2", &number.to_string()).await;
        old.check_through(&world, last).await;
        new.check_through(&world, last).await;
    }
    let checks = world.password_checks() - before;
    println!("{checks} password checks for {CHANGES} changes");
    // etcdctl needs one for each, root's client and alice's too; hers may need a second for one change, and any may
    // be waited for in vain on a busy machine.
    assert!((CHANGES..=CHANGES * 8).contains(&checks), "{checks} password checks");
}

async fn ends_as_unknown(client: &Client, observer: &mut Observer, world: &World) {
    let last = world.put("a/1", "while it runs").await;
    observer.check_through(world, last).await;
    let before = world.password_checks();
    let error = client.put(Put::new("a/1", "x")).await.expect_err("it is refused");
    assert!(matches!(error, CallError::AuthenticationFailed { .. }), "{error}");
    world.cut();
    let reason = observer.end().await;
    assert!(matches!(reason, CloseReason::AuthenticationFailed { .. }), "{reason}");
    let checks = world.password_checks() - before;
    assert!((1..=10).contains(&checks), "{checks} password checks");
}

pub(crate) async fn a_changed_password_is_told_apart_from_a_denial(setup: Setup) {
    let world = World::start(setup).await;
    let client = world.alice();
    let mut observer = Observer::running(&client, "a/").await;
    world.auth.change_password("alice", "her-new-one").await.expect("it is changed");
    ends_as_unknown(&client, &mut observer, &world).await;
    let client = world.builder().user("alice", "her-new-one").build().expect("valid settings");
    client.put(Put::new("a/1", "x")).await.expect("the new password is good");
}

pub(crate) async fn a_deleted_user_is_told_apart_from_a_denial(setup: Setup) {
    let world = World::start(setup).await;
    let client = world.alice();
    let mut observer = Observer::running(&client, "a/").await;
    world.auth.delete_user("alice").await.expect("she is deleted");
    ends_as_unknown(&client, &mut observer, &world).await;
}

pub(crate) async fn authentication_turned_on_and_off_under_a_client_with_a_user(setup: Setup) {
    let world = World::start(setup).await;
    world.auth.disable().await.expect("it is turned off");
    let client = world.alice();
    let mut observer = Observer::running(&client, "a/").await;
    client.put(Put::new("b/1", "x")).await.expect("there are no rights yet");
    for round in 0..2 {
        let before = world.password_checks();
        world.auth.enable_again().await.expect("it is turned on");
        client.put(Put::new("b/1", "x")).await.expect_err("there are rights now");
        client.get(Get::key("a/1")).await.expect("it is hers");
        let last = world.put("a/1", &format!("on {round}")).await;
        observer.check_through(&world, last).await;
        world.cut();
        let last = world.put("a/2", &format!("on {round}")).await;
        observer.check_through(&world, last).await;

        world.auth.disable().await.expect("it is turned off");
        client.put(Put::new("b/1", "x")).await.expect("there are no rights any more");
        world.cut();
        let last = world.put("a/3", &format!("off {round}")).await;
        observer.check_through(&world, last).await;
        let checks = world.password_checks() - before;
        println!("{checks} password checks in round {round}");
        assert!(checks <= 24, "{checks} password checks");
    }
}

pub(crate) async fn authentication_turned_on_under_a_client_without_a_user(setup: Setup) {
    let world = World::start(setup).await;
    world.auth.disable().await.expect("it is turned off");
    let client = world.builder().build().expect("valid settings");
    let mut observer = Observer::running(&client, "a/").await;
    world.auth.enable_again().await.expect("it is turned on");
    let last = world.put("a/1", "while it runs").await;
    observer.check_through(&world, last).await;
    let error = client.put(Put::new("a/1", "x")).await.expect_err("it is refused");
    assert!(
        matches!(&error, CallError::Refused { message, .. } if message.contains("user name is empty")),
        "{error}"
    );
    world.cut();
    let reason = observer.end().await;
    assert!(matches!(reason, CloseReason::TokenRefused { .. }), "{reason}");
}
