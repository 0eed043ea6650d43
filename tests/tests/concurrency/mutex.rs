//! Who gets a lock, in which order, and what is left behind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use etcd_watch_client::{Get, Put, Txn};
use tokio::task::JoinSet;

use crate::world::{World, joined, locking, mutex, session, within};

pub(crate) async fn a_lock_is_held_by_one_and_given_back(world: World) {
    let (one, two) = (session(&world.direct).await, session(&world.client()).await);
    let guard = within(mutex(&one, "locks/a").lock()).await.expect("it locks");
    assert_eq!(guard.key(), &format!("locks/a/{:x}", one.id()));
    let kvs = world.direct.get(Get::key(guard.key().clone())).await.expect("it is read").into_kvs();
    assert_eq!((kvs.len(), kvs[0].lease), (1, one.id()));
    assert_eq!((&kvs[0].value[..], kvs[0].create_revision), (&b""[..], guard.fencing_token()));
    assert!(guard.is_held());

    let other = mutex(&two, "locks/a");
    assert!(within(other.try_lock()).await.expect("it is told").is_none());
    assert_eq!(world.keys("locks/a").await.len(), 1, "what was tried leaves nothing");
    let limited = other.lock_within(Duration::from_millis(300));
    assert!(within(limited).await.expect("it is told").is_none());
    world.queued("locks/a", 1).await;

    let fenced = |value: &'static str, compare| Txn::new().when(compare).and_then(Put::new("fenced", value));
    let (token, was_owner) = (guard.fencing_token(), guard.is_owner());
    assert!(world.direct.txn(fenced("one", was_owner.clone())).await.expect("it is made").succeeded());
    within(guard.unlock()).await.expect("it unlocks");
    assert!(world.keys("locks/a").await.is_empty());
    assert!(!world.direct.txn(fenced("late", was_owner)).await.expect("it is made").succeeded());

    let guard = within(other.try_lock()).await.expect("it is told").expect("it is free");
    assert!(guard.fencing_token() > token);
    assert!(world.direct.txn(fenced("two", guard.is_owner())).await.expect("it is made").succeeded());
    drop(guard);
    world.queued("locks/a", 0).await;
}

pub(crate) async fn waiters_get_it_in_the_order_they_came(world: World) {
    const WAITERS: usize = 6;
    let holder = session(&world.direct).await;
    let guard = within(mutex(&holder, "a").lock()).await.expect("it locks");
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut waiters = JoinSet::new();
    for number in 0..WAITERS {
        let session = session(&world.client()).await;
        let (mutex, order) = (mutex(&session, "a"), order.clone());
        waiters.spawn(async move {
            let guard = mutex.lock().await.expect("it locks");
            order.lock().expect("no panic").push((number, guard.fencing_token()));
            guard.unlock().await.expect("it unlocks");
        });
        world.queued("a", number + 2).await;
    }
    within(guard.unlock()).await.expect("it unlocks");
    within(waiters.join_all()).await;
    let order = order.lock().expect("no panic");
    assert!(order.iter().map(|(number, _)| *number).eq(0..WAITERS), "{order:?}");
    assert!(order.is_sorted_by_key(|(_, token)| token), "{order:?}");
}

pub(crate) async fn a_waiter_given_up_in_the_middle_blocks_nobody(world: World) {
    let (one, two, three) =
        (session(&world.direct).await, session(&world.client()).await, session(&world.client()).await);
    let guard = within(mutex(&one, "a").lock()).await.expect("it locks");
    let second = locking(&two, "a");
    world.queued("a", 2).await;
    let third = locking(&three, "a");
    world.queued("a", 3).await;
    second.abort();
    world.queued("a", 2).await;
    assert!(!third.is_finished(), "the first still has it");
    within(guard.unlock()).await.expect("it unlocks");
    joined(third).await.expect("it locks").unlock().await.expect("it unlocks");
    // The one that gave up may come again.
    within(mutex(&two, "a").lock()).await.expect("it locks").unlock().await.expect("it unlocks");
}

pub(crate) async fn a_lock_given_up_at_any_moment_leaves_no_key(world: World) {
    let (one, two) = (session(&world.direct).await, session(&world.client()).await);
    let guard = within(mutex(&one, "a").lock()).await.expect("it locks");
    let waiter = mutex(&two, "a");
    for step in 0..60 {
        let limit = Duration::from_micros(step * 150);
        assert!(tokio::time::timeout(limit, waiter.lock()).await.is_err(), "it is held");
    }
    world.queued("a", 1).await;
    within(guard.unlock()).await.expect("it unlocks");
    // Given up while it is free: it may come just in time.
    for step in 0..60 {
        let limit = Duration::from_micros(step * 150);
        drop(tokio::time::timeout(limit, waiter.lock()).await);
    }
    // The last one may yet enter, and leave again. The next one of the same session waits until it has left for good.
    within(waiter.lock()).await.expect("it locks").unlock().await.expect("it unlocks");
    world.queued("a", 0).await;
    assert!(within(mutex(&one, "a").try_lock()).await.expect("it is told").is_some());
}

pub(crate) async fn lockers_of_one_session_exclude_each_other(world: World) {
    let session = session(&world.direct).await;
    let (busy, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut lockers = JoinSet::new();
    for _ in 0..8 {
        let (mutex, busy, turns) = (mutex(&session, "a"), busy.clone(), turns.clone());
        lockers.spawn(async move {
            for _ in 0..3 {
                let guard = mutex.lock().await.expect("it locks");
                assert!(!busy.swap(true, Ordering::SeqCst), "one at a time");
                assert!(mutex.try_lock().await.expect("it is told").is_none());
                turns.fetch_add(1, Ordering::SeqCst);
                busy.store(false, Ordering::SeqCst);
                guard.unlock().await.expect("it unlocks");
            }
        });
    }
    within(lockers.join_all()).await;
    assert_eq!(turns.load(Ordering::SeqCst), 24);
    assert!(world.keys("a").await.is_empty());
}

pub(crate) async fn keys_of_others_are_honoured(world: World) {
    let session = session(&world.direct).await;
    world.put("a/deadbeef", "").await;
    world.put("a/not hex", "whatever").await;
    let waiter = locking(&session, "a");
    world.queued("a", 3).await;
    world.delete("a/deadbeef").await;
    assert!(within(mutex(&session, "b").lock()).await.is_ok(), "another name is another lock");
    assert!(!waiter.is_finished(), "there is another before it");
    // One that comes later doesn't matter.
    world.put("a/0", "").await;
    world.delete("a/not hex").await;
    joined(waiter).await.expect("it locks").unlock().await.expect("it unlocks");
    assert_eq!(world.keys("a").await, ["a/0"]);
}

pub(crate) async fn a_lock_in_a_namespace_is_the_one_with_the_whole_name(world: World) {
    let within_it = world.direct.namespaced("space/").expect("a prefix");
    let (one, two) = (session(&within_it).await, session(&world.client()).await);
    let guard = within(mutex(&one, "a").lock()).await.expect("it locks");
    assert_eq!(world.keys("space/a").await, [format!("space/a/{:x}", one.id())]);
    assert_eq!(guard.key(), &format!("a/{:x}", one.id()));
    let fenced = Txn::new().when(guard.is_owner()).and_then(Put::new("fenced", ""));
    assert!(within_it.txn(fenced).await.expect("it is made").succeeded());
    let waiter = locking(&two, "space/a");
    world.queued("space/a", 2).await;
    assert!(guard.is_held() && !waiter.is_finished());
    within(guard.unlock()).await.expect("it unlocks");
    let guard = joined(waiter).await.expect("it locks");
    assert!(within(mutex(&one, "a").try_lock()).await.expect("it is told").is_none());
    within(guard.unlock()).await.expect("it unlocks");
}

pub(crate) async fn a_lock_given_back_is_free_at_once(world: World) {
    let session = session(&world.direct).await;
    let mutex = mutex(&session, "a");
    for _ in 0..50 {
        let guard = within(mutex.try_lock()).await.expect("it is told").expect("it is free");
        within(guard.unlock()).await.expect("it unlocks");
    }
}
