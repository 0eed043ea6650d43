//! Waiting through a network that fails.

use std::{cell::Cell, time::Duration};

use etcd_watch_client::concurrency::Session;
use etcd_watch_testkit::proxy::Cut;

use crate::world::{World, joined, locking, mutex, opened, session, within};

pub(crate) async fn a_key_deleted_while_disconnected_wakes_its_successor(world: World) {
    let remote = world.remote().await;
    let (one, two) = (session(&world.direct).await, session(&remote.client).await);
    let guard = within(mutex(&one, "a").lock()).await.expect("it locks");
    let waiter = locking(&two, "a");
    world.queued("a", 2).await;
    remote.disconnect();
    within(guard.unlock()).await.expect("it unlocks");
    assert!(!waiter.is_finished());
    remote.reconnect();
    let guard = joined(waiter).await.expect("it locks");
    assert!(guard.is_held());
}

pub(crate) async fn a_compaction_while_waiting_loses_no_wake_up(world: World) {
    let remote = world.remote().await;
    let (one, two) = (session(&world.direct).await, session(&remote.client).await);
    let guard = within(mutex(&one, "a").lock()).await.expect("it locks");
    let waiter = locking(&two, "a");
    world.queued("a", 2).await;

    // The one before it is still there afterwards.
    remote.disconnect();
    world.compact().await;
    remote.reconnect();
    within(remote.client.get("any")).await.expect("it is connected");
    assert!(!waiter.is_finished());

    // It is gone, and so is the history that says so.
    remote.disconnect();
    within(guard.unlock()).await.expect("it unlocks");
    world.compact().await;
    remote.reconnect();
    let guard = joined(waiter).await.expect("it locks");

    // A holder's own key is watched through it, too.
    remote.disconnect();
    world.compact().await;
    remote.reconnect();
    within(remote.client.get("any")).await.expect("it is connected");
    assert!(guard.is_held(), "{:?}", guard.lost_reason());
    world.delete(guard.key().clone()).await;
    within(guard.lost()).await;
}

pub(crate) async fn an_answer_that_was_lost_is_no_second_key(world: World) {
    const LOCKS: usize = 3;
    let mut late = Vec::new();
    for number in 0..LOCKS {
        let name = format!("lock{number}");
        let remote = world.remote().await;
        let session = opened(Session::builder(&remote.client).ttl(Duration::from_secs(6))).await;
        // Right after a renewal, so that none comes for 2 s: what comes next is the answer to the transaction that
        // enters.
        let last = Cell::new(session.remaining());
        let renewed = async || last.replace(session.remaining()) < last.get();
        world.until("the lease is renewed", renewed).await;
        remote.proxy.cut_next_after_bytes(0, Cut::Reset);
        let guard = within(mutex(&session, &name).lock()).await.expect("it locks");
        assert_eq!(remote.proxy.cuts(), 1);
        let key = String::from_utf8_lossy(guard.key()).into_owned();
        assert_eq!(world.keys(&name).await, [&key[..]]);
        within(guard.unlock()).await.expect("it unlocks");
        assert!(world.keys(&name).await.is_empty());
        late.push((name, key, remote, session));
    }

    // An attempt that a server executes only now: nobody else would ever remove its key.
    for (_, key, ..) in &late {
        world.put(key, "").await;
    }
    let left = async || {
        let mut left = 0;
        for (name, ..) in &late {
            left += world.keys(name).await.len();
        }
        left
    };
    world.until("late keys are removed", async || left().await == 0).await;
}
