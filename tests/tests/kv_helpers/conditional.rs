//! Writes of one key under a condition on it.

use std::time::Duration;

use etcd_watch_client::{CallError, Conditional, Put};
use etcd_watch_testkit::proxy::Cut;
use tokio::task::JoinSet;

use crate::world::World;

pub(crate) async fn of_many_who_create_a_key_one_does(world: World) {
    let mut tasks = JoinSet::new();
    for contender in 0..16 {
        let client = world.client();
        tasks.spawn(async move { (contender, client.create("lock", format!("{contender}")).await) });
    }
    let (mut winners, mut found) = (Vec::new(), Vec::new());
    while let Some(ended) = tasks.join_next().await {
        let (contender, answer) = ended.expect("no panic");
        match answer.expect("it is answered") {
            Conditional::Done(put) => winners.push((contender.to_string(), put.revision())),
            Conditional::Conflict(conflict) => {
                let revision = conflict.revision();
                let kv = conflict.into_found().expect("it is there");
                assert!(revision >= kv.mod_revision);
                found.push((kv.value_str().expect("text").to_owned(), kv.mod_revision));
            }
        }
    }
    assert_eq!((winners.len(), found.len()), (1, 15));
    assert!(found.iter().all(|found| *found == winners[0]), "{winners:?} {found:?}");
    assert_eq!(world.value("lock").await, winners[0].0);
}

pub(crate) async fn a_key_is_changed_only_as_it_was_seen(world: World) {
    let client = &world.client;
    let first = client.update_if("k", "1", 0).await.expect("it is answered").done().expect("it was missing");
    let again = client.update_if("k", "x", 0).await.expect("it is answered").conflict().expect("it exists");
    assert_eq!(again.found().map(|kv| kv.mod_revision), Some(first.revision()));

    let put = Put::new("k", "2").prev_kv(true);
    let second = client.update_if_with(put, first.revision()).await.expect("it is answered");
    let second = second.into_result().expect("nobody has changed it");
    assert_eq!(second.prev().and_then(|kv| kv.value_str().ok()), Some("1"));
    let late = client.update_if("k", "x", first.revision()).await.expect("it is answered");
    let late = late.into_result().expect_err("it was changed");
    assert_eq!(late.found().and_then(|kv| kv.value_str().ok()), Some("2"));
    assert_eq!(world.value("k").await, "2");

    let late = client.delete_if("k", first.revision()).await.expect("it is answered");
    assert!(!late.is_done());
    let delete = client.delete_if("k", second.revision()).await.expect("it is answered").done();
    let delete = delete.expect("nobody has changed it");
    let was: Vec<_> = delete.prevs().iter().map(|kv| &kv.value[..]).collect();
    assert_eq!((delete.deleted(), was), (1, vec![&b"2"[..]]));
    assert!(delete.revision() > second.revision());

    let gone = client.update_if("k", "x", second.revision()).await.expect("it is answered").conflict();
    assert_eq!(gone.expect("it is gone").into_found(), None);
    let gone = client.delete_if("k", second.revision()).await.expect("it is answered").conflict();
    assert_eq!(gone.expect("it is gone").into_found(), None);

    let lease = client.lease_grant(Duration::from_secs(600)).await.expect("it is granted");
    let created = client.create_with(Put::new("k", "3").lease(lease.id())).await.expect("it is answered");
    assert!(created.is_done());
    assert_eq!(client.get("k").await.expect("it is read").first().map(|kv| kv.lease), Some(lease.id()));
    let refused = client.create_with(Put::new("new", "3").lease(77)).await.expect_err("no such lease");
    assert!(refused.is_lease_not_found(), "{refused}");
}

pub(crate) async fn conditions_hold_within_a_namespace(world: World) {
    let within = world.client.namespaced("app/").expect("a prefix");
    let outside = world.put("k", "outside").await;
    let created = within.create("k", "inside").await.expect("it is answered").done().expect("it is missing");
    let conflict = within.create("k", "again").await.expect("it is answered").conflict().expect("it exists");
    let found = conflict.into_found().expect("it is there");
    assert_eq!((&found.key[..], &found.value[..]), (&b"k"[..], &b"inside"[..]));
    assert!(!within.update_if("k", "x", outside).await.expect("it is answered").is_done());
    assert!(within.delete_if("k", created.revision()).await.expect("it is answered").is_done());
    assert_eq!(world.value("k").await, "outside");
}

pub(crate) async fn a_write_whose_answer_was_lost_is_made_again_with_the_same_condition(world: World) {
    let (proxy, client) = world.remote().await;
    let seen = world.put("k", "seen").await;
    proxy.cut_next_after_bytes(0, Cut::Reset);
    let lost = client.update_if("k", "ours", seen).await.expect_err("its answer is lost");
    assert!(matches!(lost, CallError::MaybeExecuted { .. }), "{lost}");
    assert_eq!(proxy.cuts(), 1);
    let again = client.update_if("k", "ours", seen).await.expect("it is answered");
    // Whichever of the two it was, it was one of them.
    match again {
        Conditional::Done(put) => assert!(put.revision() > seen),
        Conditional::Conflict(conflict) => {
            assert_eq!(conflict.found().and_then(|kv| kv.value_str().ok()), Some("ours"));
        }
    }
    let read = client.get("k").await.expect("it is read").into_first().expect("it is there");
    assert_eq!((&read.value[..], read.version), (&b"ours"[..], 2));
}
