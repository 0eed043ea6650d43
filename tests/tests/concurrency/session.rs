//! A session's life and end.

use std::time::Duration;

use etcd_watch_client::{
    CallError,
    concurrency::{Lost, Session, SessionError, SessionLost},
};

use crate::world::{KEPT, World, mutex, opened, renewed, session, within};

pub(crate) async fn a_session_ends_with_its_lease_and_its_lease_with_it(world: World) {
    // Closed: the lease is gone when that returns.
    let closed = session(&world.direct).await;
    let guard = within(mutex(&closed, "a").lock()).await.expect("it locks");
    assert!(world.has_lease(closed.id()).await && !closed.is_lost());
    within(closed.close()).await.expect("it closes");
    assert!(!world.has_lease(closed.id()).await);
    assert_eq!(closed.lost_reason(), Some(SessionLost::Closed));
    assert_eq!(within(closed.lost()).await, SessionLost::Closed);
    assert!(!guard.is_held());
    assert!(world.keys("a").await.is_empty());
    within(closed.close()).await.expect("closing twice is closing");

    // Dropped: so it is soon, once nothing stands on it any more.
    let dropped = session(&world.direct).await;
    let id = dropped.id();
    let guard = within(mutex(&dropped, "a").lock()).await.expect("it locks");
    drop(dropped);
    assert!(guard.is_held() && world.has_lease(id).await, "the guard keeps it");
    drop(guard);
    world.until("the lease is revoked", async || !world.has_lease(id).await).await;

    // Ended on the server: noticed with the next renewal.
    let revoked = opened(Session::builder(&world.direct).ttl(KEPT)).await;
    world.direct.lease_revoke(revoked.id()).await.expect("it is revoked");
    assert!(matches!(within(revoked.lost()).await, SessionLost::Lease(_)));
    assert!(revoked.is_lost() && revoked.remaining().is_zero());
    within(revoked.close()).await.expect("there is nothing left to revoke");
}

pub(crate) async fn a_session_takes_over_a_lease_that_another_has_orphaned(world: World) {
    let first = session(&world.direct).await;
    let guard = within(mutex(&first, "a").lock()).await.expect("it locks");
    let id = first.orphan();
    assert_eq!(id, first.id());
    assert_eq!(guard.lost_reason(), Some(Lost::Session(SessionLost::Orphaned)));
    assert!(world.has_lease(id).await);
    drop(first);

    let second = opened(Session::builder(&world.direct).lease(id)).await;
    assert_eq!((second.id(), second.is_lost()), (id, false));
    assert!(second.ttl() > Duration::from_secs(100), "the lease's own time");
    let token = guard.fencing_token();
    let taken = within(mutex(&second, "a").lock()).await.expect("its key is there already");
    assert_eq!(taken.fencing_token(), token);
    // The old guard's way out takes the key it made, as dropping a guard does.
    drop(guard);
    within(taken.lost()).await;
    within(second.close()).await.expect("it closes");
    assert!(!world.has_lease(id).await);
}

pub(crate) async fn what_no_session_can_be_is_refused(world: World) {
    let none = Session::builder(&world.direct).ttl(Duration::ZERO).open().await;
    assert!(
        matches!(&none, Err(SessionError::Call(CallError::InvalidArgument { field: "ttl", .. }))),
        "{none:?}"
    );
    let unknown = Session::builder(&world.direct).lease(0x1234).open().await;
    assert_eq!(unknown.err(), Some(SessionError::NoSuchLease { id: 0x1234 }));
    // The server's least is a second or two.
    let rounded = opened(Session::builder(&world.direct).ttl(Duration::from_millis(4001))).await;
    assert_eq!(rounded.ttl(), Duration::from_secs(5));
}

pub(crate) async fn a_session_outlives_a_restart_and_lost_connections(mut world: World) {
    let remote = world.remote().await;
    let session = opened(Session::builder(&remote.client).ttl(KEPT)).await;
    let guard = within(mutex(&session, "a").lock()).await.expect("it locks");
    let token = guard.fencing_token();
    world.stop().await;
    world.restart().await;
    remote.disconnect();
    remote.reconnect();
    renewed(&session).await;
    assert!(world.has_lease(session.id()).await);
    assert!(guard.is_held() && !session.is_lost(), "{:?}", guard.lost_reason());
    assert_eq!(guard.fencing_token(), token);
    within(guard.unlock()).await.expect("it unlocks");
    assert!(world.keys("a").await.is_empty());
}
