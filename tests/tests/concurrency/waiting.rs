//! Waiting through a network that fails.

use etcd_watch_testkit::proxy::Cut;

use crate::world::{World, joined, locking, mutex, session, within};

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
    const LOCKS: usize = 6;
    let remote = world.remote().await;
    let session = session(&remote.client).await;
    let mut late = Vec::new();
    for number in 0..LOCKS {
        let name = format!("lock{number}");
        within(remote.client.get("any")).await.expect("it is connected");
        // What comes next is the answer to the transaction that enters: it was executed.
        remote.proxy.cut_next_after_bytes(0, Cut::Reset);
        let guard = within(mutex(&session, &name).lock()).await.expect("it locks");
        let key = String::from_utf8_lossy(guard.key()).into_owned();
        assert_eq!(world.keys(&name).await, [&key[..]]);
        within(guard.unlock()).await.expect("it unlocks");
        assert!(world.keys(&name).await.is_empty());
        late.push((name, key));
    }
    assert_eq!(remote.proxy.cuts(), LOCKS as u64);

    // An attempt that a server executes only now: nobody else would ever remove its key.
    for (_, key) in &late {
        world.put(key, "").await;
    }
    let left = async || {
        let mut left = 0;
        for (name, _) in &late {
            left += world.keys(name).await.len();
        }
        left
    };
    world.until("late keys are removed", async || left().await < LOCKS).await;
    // The cut may have met another connection than the transaction's.
    println!("{} of {LOCKS} transactions were in doubt", LOCKS - left().await);
}
