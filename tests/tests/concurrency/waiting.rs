//! Waiting through a network that fails.

use std::time::Duration;

use etcd_watch_client::concurrency::Session;
use etcd_watch_testkit::proxy::Cut;

use crate::world::{Remote, World, joined, locking, mutex, opened, renewed, session, within};

/// Between two renewals of a session here: much longer than a lock takes.
const RENEWAL: Duration = Duration::from_secs(10);

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
    const NAMES: [&str; 3] = ["lock1", "lock2", "lock3"];
    let [one, two, three] = NAMES.map(|name| lock_whose_answer_is_lost(&world, name));
    let late = tokio::join!(one, two, three);
    let left = async || {
        let mut left = 0;
        for name in NAMES {
            left += world.keys(name).await.len();
        }
        left
    };
    world.until("late keys are removed", async || left().await == 0).await;
    drop(late);
}

/// Locks and unlocks through a connection that breaks under it, and leaves a key as a late attempt would. What it
/// returns has to stay until that is removed.
async fn lock_whose_answer_is_lost(world: &World, name: &str) -> (Remote, Session) {
    let remote = world.remote().await;
    let session = opened(Session::builder(&remote.client).ttl(3 * RENEWAL)).await;
    // Right after a renewal, so that none comes for a while: what comes next is the answer to the transaction that
    // enters.
    renewed(&session).await;
    remote.proxy.cut_next_after_bytes(0, Cut::Reset);
    let guard = within(mutex(&session, name).lock()).await.expect("it locks");
    assert_eq!(remote.proxy.cuts(), 1);
    let key = String::from_utf8_lossy(guard.key()).into_owned();
    assert_eq!(world.keys(name).await, [&key[..]]);
    within(guard.unlock()).await.expect("it unlocks");
    assert!(world.keys(name).await.is_empty());
    // An attempt that a server executes only now: nobody else would ever remove its key.
    world.put(&key, "").await;
    (remote, session)
}
