//! Transactions that are code. Where a scenario wants another client to come in between, the closure is that client,
//! too, in its first attempt.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use etcd_watch_client::{
    BoxError, CallError, Client, Put, Txn,
    concurrency::{Isolation, Stm, StmError, StmTxn},
};
use etcd_watch_testkit::proxy::Cut;
use tokio::{task::JoinSet, time::timeout};

use crate::world::{DEADLINE, World};

const LEVELS: [Isolation; 4] = [
    Isolation::SerializableSnapshot,
    Isolation::Serializable,
    Isolation::RepeatableReads,
    Isolation::ReadCommitted,
];

fn stm(client: &Client, isolation: Isolation) -> Stm {
    Stm::new(client).isolation(isolation).time_limit(DEADLINE)
}

/// Reads a number; 0 for a key that doesn't exist.
async fn number(txn: &StmTxn, key: &str) -> Result<u64, BoxError> {
    let Some(value) = txn.get(key).await? else { return Ok(0) };
    Ok(std::str::from_utf8(&value)?.parse()?)
}

pub(crate) async fn counters_lose_nothing_where_reads_are_checked(world: World) {
    const TASKS: u64 = 6;
    const ROUNDS: u64 = 8;
    for isolation in LEVELS.into_iter().filter(|level| *level != Isolation::ReadCommitted) {
        let keys = [format!("{isolation:?}/one"), format!("{isolation:?}/other")];
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let (client, keys) = (world.client(), keys.clone());
            tasks.spawn(async move {
                let mut attempts = 0;
                for round in 0..ROUNDS {
                    let transfer = async |txn: StmTxn| {
                        let (one, other) = (number(&txn, &keys[0]).await?, number(&txn, &keys[1]).await?);
                        // Of one revision, but for the level that reads each key when it comes to it.
                        if isolation != Isolation::RepeatableReads {
                            assert_eq!(one, other);
                        }
                        txn.put(&keys[0], (one + 1).to_string());
                        txn.put(&keys[1], (other + 1).to_string());
                        Ok::<_, BoxError>(one)
                    };
                    let stm = stm(&client, isolation);
                    let stm = if (task + round) % 2 == 0 { stm } else { stm.prefetch(&keys) };
                    attempts += u64::from(stm.run(transfer).await.expect("it is committed").attempts());
                }
                attempts
            });
        }
        let mut attempts = 0;
        while let Some(ended) = tasks.join_next().await {
            attempts += ended.expect("no panic");
        }
        for key in &keys {
            assert_eq!(world.value(key).await, (TASKS * ROUNDS).to_string(), "{isolation:?}");
        }
        assert!(attempts > TASKS * ROUNDS, "they were in each other's way: {attempts}");
    }
}

/// Adds one to a counter. While the first attempt is under way somebody else adds ten.
async fn interrupted_count(world: &World, isolation: Isolation) -> (String, u32) {
    let key = format!("{isolation:?}");
    world.put(&key, "0").await;
    let is_first = Cell::new(true);
    let count = async |txn: StmTxn| {
        let count = number(&txn, &key).await?;
        if is_first.take() {
            world.put(&key, "10").await;
        }
        txn.put(&key, (count + 1).to_string());
        Ok::<_, BoxError>(())
    };
    let committed = stm(&world.client, isolation).run(count).await.expect("it is committed");
    (world.value(&key).await, committed.attempts())
}

pub(crate) async fn an_update_is_lost_only_if_reads_are_not_checked(world: World) {
    for isolation in LEVELS {
        let expected = if isolation == Isolation::ReadCommitted { ("1", 1) } else { ("11", 2) };
        let (value, attempts) = interrupted_count(&world, isolation).await;
        assert_eq!((&*value, attempts), expected, "{isolation:?}");
    }
}

pub(crate) async fn writes_do_not_skew_if_reads_are_checked(world: World) {
    for isolation in LEVELS {
        // One of two must be on duty. Each may leave if the other stays, and both want to.
        let [one, other] = ["one", "other"].map(|name| format!("{isolation:?}/{name}"));
        world.put(&one, "1").await;
        world.put(&other, "1").await;
        let is_first = Cell::new(true);
        let leave = async |txn: StmTxn| {
            let on_duty = number(&txn, &one).await? + number(&txn, &other).await?;
            if is_first.take() {
                assert_eq!(on_duty, 2);
                let leave = async |txn: StmTxn| {
                    let on_duty = number(&txn, &one).await? + number(&txn, &other).await?;
                    txn.put(&other, if on_duty == 2 { "0" } else { "1" });
                    Ok::<_, BoxError>(())
                };
                stm(&world.client, isolation).run(leave).await.expect("it is committed");
            }
            txn.put(&one, if on_duty == 2 { "0" } else { "1" });
            Ok::<_, BoxError>(())
        };
        stm(&world.client, isolation).run(leave).await.expect("it is committed");
        let on_duty = (world.value(&one).await, world.value(&other).await);
        let expected = if isolation == Isolation::ReadCommitted { ("0", "0") } else { ("1", "0") };
        assert_eq!((&*on_duty.0, &*on_duty.1), expected, "{isolation:?}");
    }
}

pub(crate) async fn only_serializable_snapshot_minds_a_key_that_was_written_without_being_read(world: World) {
    for isolation in LEVELS {
        let [read, written] = ["read", "written"].map(|name| format!("{isolation:?}/{name}"));
        world.put(&read, "1").await;
        let attempts = Cell::new(0);
        let copy = async |txn: StmTxn| {
            attempts.set(attempts.get() + 1);
            let value = number(&txn, &read).await?;
            if attempts.get() == 1 {
                world.put(&written, "another's").await;
            }
            txn.put(&written, format!("{value}, at attempt {}", attempts.get()));
            Ok::<_, BoxError>(())
        };
        let committed = stm(&world.client, isolation).run(copy).await.expect("it is committed");
        let expected = if isolation == Isolation::SerializableSnapshot { 2 } else { 1 };
        assert_eq!(committed.attempts(), expected, "{isolation:?}");
        assert_eq!(world.value(&written).await, format!("1, at attempt {expected}"));
    }
    // Without a read there is no revision since when it could have been changed.
    let blind = async |txn: StmTxn| {
        world.put("blind", "another's").await;
        txn.put("blind", "ours");
        Ok::<_, BoxError>(())
    };
    let committed = stm(&world.client, Isolation::SerializableSnapshot).run(blind).await.expect("committed");
    assert_eq!((committed.attempts(), &*world.value("blind").await), (1, "ours"));
}

pub(crate) async fn reads_are_of_one_revision_or_each_of_its_own(world: World) {
    for isolation in LEVELS {
        let [one, other] = ["one", "other"].map(|name| format!("{isolation:?}/{name}"));
        let before = world.put(&one, "1").await;
        world.put(&other, "1").await;
        let seen = RefCell::new(Vec::new());
        let read = async |txn: StmTxn| {
            let first = number(&txn, &one).await?;
            if seen.borrow().is_empty() {
                world.put(&one, "2").await;
                world.put(&other, "2").await;
            }
            let second = number(&txn, &other).await?;
            seen.borrow_mut().push((first, second));
            assert_eq!(number(&txn, &one).await?, first, "what was read stays as it was");
            Ok::<_, BoxError>(txn.mod_revision(&one).await?)
        };
        let committed = stm(&world.client, isolation).run(read).await.expect("it is committed");
        let expected = match isolation {
            Isolation::SerializableSnapshot | Isolation::Serializable => vec![(1, 1), (2, 2)],
            // What it saw is a mix, and is not committed.
            Isolation::RepeatableReads => vec![(1, 2), (2, 2)],
            Isolation::ReadCommitted => vec![(1, 2)],
        };
        assert_eq!(seen.take(), expected, "{isolation:?}");
        let is_old = isolation == Isolation::ReadCommitted;
        assert_eq!(*committed.value() == before, is_old, "{isolation:?}");
        assert!(committed.revision() > before);
    }
}

pub(crate) async fn a_transaction_reads_its_own_writes(world: World) {
    let old = world.put("k", "old").await;
    let lease = world.client.lease_grant(Duration::from_secs(600)).await.expect("it is granted").id();
    let within = world.client.namespaced("app/").expect("a prefix");
    for client in [&world.client, &within] {
        let was = client.get("k").await.expect("it is read").first().map_or(0, |kv| kv.mod_revision);
        let stm = Stm::new(client);
        let run = stm.run(async |txn: StmTxn| {
            txn.put("k", "new");
            assert_eq!(txn.get("k").await?.as_deref(), Some(&b"new"[..]));
            assert_eq!(txn.mod_revision("k").await?, was);
            txn.delete("k");
            assert_eq!(txn.get("k").await?, None);
            txn.put_with_lease("k", "newer", lease);
            txn.delete("gone");
            assert_eq!(txn.get("none").await?, None);
            txn.mod_revision("none").await
        });
        let committed = run.await.expect("it is committed");
        assert_eq!((committed.attempts(), *committed.value()), (1, 0));
        let kv = client.get("k").await.expect("it is read").into_first().expect("it is there");
        assert_eq!((&kv.value[..], kv.lease, kv.mod_revision), (&b"newer"[..], lease, committed.revision()));
    }
    assert!(old > 0);
}

pub(crate) async fn an_error_of_the_closure_writes_nothing(world: World) {
    let aborted = Stm::new(&world.client)
        .run(async |txn: StmTxn| {
            txn.put("k", "v");
            number(&txn, "other").await?;
            Err::<(), BoxError>("not today".into())
        })
        .await
        .expect_err("it is aborted");
    assert!(matches!(&aborted, StmError::Aborted(error) if error.to_string() == "not today"), "{aborted}");
    assert_eq!(world.value("k").await, "");
    let refused = Stm::new(&world.client).run(async |txn: StmTxn| txn.get("").await).await;
    assert!(matches!(refused, Err(StmError::Aborted(CallError::InvalidArgument { .. }))), "{refused:?}");
    let stm = Stm::new(&world.client);
    let run = stm.run(async |txn: StmTxn| {
        txn.put("", "v");
        Ok::<_, CallError>(())
    });
    let refused = run.await.expect_err("no key");
    assert!(matches!(refused, StmError::Call(CallError::InvalidArgument { .. })), "{refused}");
}

pub(crate) async fn conflicts_end_at_a_limit(world: World) {
    let made = Cell::new(0);
    let disturbed = async |txn: StmTxn| {
        let count = number(&txn, "k").await?;
        made.set(made.get() + 1);
        world.put("k", &(count + 1).to_string()).await;
        txn.put("k", "never");
        Ok::<_, BoxError>(())
    };
    let stm = Stm::new(&world.client);
    let ended = stm.clone().max_attempts(3).run(&disturbed).await.expect_err("it conflicts");
    assert!(matches!(ended, StmError::Contended { attempts: 3, .. }), "{ended}");
    let stm = stm.time_limit(Duration::from_millis(200));
    let ended = timeout(DEADLINE, stm.run(&disturbed)).await.expect("in time").expect_err("it conflicts");
    assert!(matches!(ended, StmError::Contended { attempts: 1.., .. }), "{ended}");
    assert!(made.get() > 3);
    assert_eq!(world.value("k").await, made.get().to_string());
}

pub(crate) async fn a_snapshot_that_was_compacted_is_taken_again(world: World) {
    for isolation in [Isolation::SerializableSnapshot, Isolation::Serializable] {
        world.put("one", "1").await;
        world.put("other", "1").await;
        let seen = RefCell::new(Vec::new());
        let read = async |txn: StmTxn| {
            let one = number(&txn, "one").await?;
            if seen.borrow().is_empty() {
                seen.borrow_mut().push((one, 0));
                world.put("other", "2").await;
                world.compact().await;
            }
            let other = number(&txn, "other").await?;
            seen.borrow_mut().push((one, other));
            txn.put("sum", (one + other).to_string());
            Ok::<_, BoxError>(())
        };
        let committed = stm(&world.client, isolation).run(read).await.expect("it is committed");
        assert_eq!((committed.attempts(), &seen.borrow()[1..]), (2, &[(1, 2)][..]), "{isolation:?}");
        assert_eq!(world.value("sum").await, "3");
    }
}

pub(crate) async fn many_keys_are_prefetched_at_one_revision(world: World) {
    // More than a server takes in one transaction.
    let keys: Vec<String> = (0..300).map(|index| format!("many/{index:03}")).collect();
    for key in [&keys[0], &keys[299]] {
        world.put(key, "0").await;
    }
    let writing = world.client();
    let (first, last) = (keys[0].clone(), keys[299].clone());
    let writer = tokio::spawn(async move {
        for round in 1..=50_u32 {
            let put = |key: &str| Put::new(key, round.to_string());
            let both = Txn::new().and_then(put(&first)).and_then(put(&last));
            writing.txn(both).await.expect("it is made");
        }
    });
    let stm = stm(&world.client, Isolation::Serializable).prefetch(&keys);
    let mut rounds = Vec::new();
    while rounds.last() != Some(&50) {
        let run = stm.run(async |txn: StmTxn| {
            let round = number(&txn, &keys[0]).await?;
            assert_eq!(number(&txn, &keys[299]).await?, round, "both are of one revision");
            Ok::<_, BoxError>(round)
        });
        rounds.push(*run.await.expect("it is committed").value());
    }
    writer.await.expect("the writer writes");
    assert!(rounds.is_sorted(), "{rounds:?}");
}

pub(crate) async fn a_commit_whose_answer_was_lost_is_not_made_again(world: World) {
    world.put("count", "1").await;
    let (proxy, client) = world.remote().await;
    let runs = Cell::new(0);
    let count = async |txn: StmTxn| {
        runs.set(runs.get() + 1);
        let count = number(&txn, "count").await?;
        txn.put("count", (count + 1).to_string());
        txn.put("by", "this one");
        // The next byte is of the answer to the commit.
        proxy.cut_next_after_bytes(0, Cut::Reset);
        Ok::<_, BoxError>(())
    };
    let lost = stm(&client, Isolation::default()).run(count).await.expect_err("its answer is lost");
    assert!(matches!(lost, StmError::MaybeCommitted(CallError::MaybeExecuted { .. })), "{lost}");
    assert_eq!((runs.get(), proxy.cuts()), (1, 1));
    // A write that comes after it, if it was executed.
    world.put("barrier", "").await;
    let (by, count) = (world.value("by").await, world.value("count").await);
    assert!([("this one", "2"), ("", "1")].contains(&(&*by, &*count)), "{by} {count}");
}
