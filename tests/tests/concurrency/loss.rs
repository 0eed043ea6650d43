//! Losing what is held or waited for.

use std::{sync::Arc, time::Instant};

use etcd_watch_client::{
    Put, Txn,
    concurrency::{ContendError, Lost, Session},
};

use crate::world::{SHORT, World, joined, locking, mutex, opened, renewed, session, within};

pub(crate) async fn a_revoked_lease_ends_waiting_and_holding(world: World) {
    let (one, two, three) =
        (session(&world.direct).await, session(&world.client()).await, session(&world.client()).await);
    let guard = within(mutex(&one, "a").lock()).await.expect("it locks");
    let second = locking(&two, "a");
    world.queued("a", 2).await;
    let third = locking(&three, "a");
    world.queued("a", 3).await;

    world.direct.lease_revoke(two.id()).await.expect("it is revoked");
    let error = joined(second).await.expect_err("its session is lost");
    assert!(matches!(error, ContendError::Lost(_)), "{error}");
    // Its lease would have lasted for minutes: the deleted key made it ask.
    within(two.lost()).await;
    let again = within(mutex(&two, "a").lock()).await.expect_err("the session stays lost");
    assert!(matches!(again, ContendError::Lost(Lost::Session(_))), "{again}");

    let was_owner = guard.is_owner();
    world.direct.lease_revoke(one.id()).await.expect("it is revoked");
    within(guard.lost()).await;
    assert!(!guard.is_held());
    let late = Txn::new().when(was_owner).and_then(Put::new("fenced", "late"));
    assert!(!world.direct.txn(late).await.expect("it is made").succeeded());
    let next = joined(third).await.expect("it locks");
    assert!(next.fencing_token() > guard.fencing_token());
    let error = within(guard.unlock()).await.expect_err("it was lost");
    assert!(matches!(error, ContendError::Lost(_)), "{error}");
    assert!(next.is_held(), "unlocking what was lost takes nothing from others");
    assert_eq!(world.keys("a").await.len(), 1);
}

pub(crate) async fn a_key_deleted_by_somebody_is_lost(world: World) {
    let (one, two, three) =
        (session(&world.direct).await, session(&world.client()).await, session(&world.client()).await);
    let guard = within(mutex(&one, "a").lock()).await.expect("it locks");
    let second = locking(&two, "a");
    world.queued("a", 2).await;
    world.delete(format!("a/{:x}", two.id())).await;
    let key = format!("a/{:x}", two.id()).into();
    assert_eq!(joined(second).await.err(), Some(ContendError::Lost(Lost::KeyDeleted { key })));
    assert!(!two.is_lost(), "its lease is there");

    let third = locking(&three, "a");
    world.queued("a", 2).await;
    world.delete(guard.key().clone()).await;
    assert_eq!(within(guard.lost()).await, Lost::KeyDeleted { key: guard.key().clone() });
    assert!(!guard.is_held());
    let next = joined(third).await.expect("it locks");
    // The one who lost it may contend again with the same session, once it has let go.
    drop(guard);
    let again = locking(&one, "a");
    world.queued("a", 2).await;
    within(next.unlock()).await.expect("it unlocks");
    assert!(joined(again).await.expect("it locks").is_held());
}

pub(crate) async fn a_partition_is_noticed_before_the_next_holder(world: World) {
    let remote = world.remote().await;
    let one = opened(Session::builder(&remote.client).ttl(SHORT)).await;
    let two = session(&world.direct).await;
    let guard = Arc::new(within(mutex(&one, "a").lock()).await.expect("it locks"));
    let next = locking(&two, "a");
    world.queued("a", 2).await;
    renewed(&one).await;
    assert!(guard.is_held());

    remote.proxy.black_hole();
    let started = Instant::now();
    let before = guard.clone();
    let next = tokio::spawn(async move {
        let guard = joined(next).await.expect("it locks");
        assert!(!before.is_held(), "there are never two who believe to hold it");
        (guard, Instant::now())
    });
    let lost = within(guard.lost()).await;
    let noticed = Instant::now();
    assert!(!guard.is_held());
    let (next, acquired) = within(next).await.expect("no panic");
    println!(
        "ttl {:?}: lost after {:?} ({lost}), taken over after {:?}",
        one.ttl(),
        noticed - started,
        acquired - started
    );

    // Back again, the old holder changes nothing any more.
    remote.proxy.restore();
    let late = Txn::new().when(guard.is_owner()).and_then(Put::new("fenced", "late"));
    assert!(!within(remote.client.txn(late)).await.expect("it is connected").succeeded());
    let guard = Arc::into_inner(guard).expect("nobody else has it any more");
    within(guard.unlock()).await.expect_err("it was lost");
    assert!(next.is_held());
    assert_eq!(world.keys("a").await, [String::from_utf8_lossy(next.key())]);
}

pub(crate) async fn a_closed_client_holds_nothing(world: World) {
    let client = world.client();
    let one = opened(Session::builder(&client).ttl(SHORT)).await;
    let two = session(&world.direct).await;
    let guard = within(mutex(&one, "a").lock()).await.expect("it locks");
    let waiting = locking(&two, "a");
    world.queued("a", 2).await;
    within(client.close()).await;
    let lost = within(guard.lost()).await;
    assert!(!guard.is_held(), "{lost}");
    let error = within(mutex(&one, "b").lock()).await.expect_err("nothing can be locked with it");
    println!("{error}");
    drop((guard, one));
    // Nobody was left to revoke its lease.
    assert!(joined(waiting).await.expect("it locks once that is over").is_held());
}
