//! Copies that are interrupted, replaced and refused, while others write.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use etcd_watch_tokio::{Client, KeyRange, Put, Txn, WatchRequest};
use rustix::process::Signal;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    common::{PATIENCE, Running, output, signal_of, text},
    world::{CHECKPOINT, World, expected, put_all, values},
};

/// Writes until it is told to stop: puts, deletes, and transactions that give several keys the same value.
async fn write(client: Client, writer: u64, stop: Arc<AtomicBool>) -> u64 {
    let mut rng = fastrand::Rng::with_seed(writer);
    let mut writes = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("k/{writer}/{}", rng.u32(..200));
        match rng.u32(..10) {
            0..6 => drop(client.put(key, writes.to_string()).await.expect("it is put")),
            6..8 => drop(client.delete(key).await.expect("it is deleted")),
            _ => {
                let pair = (0..5).map(|part| format!("k/pair/{writer}/{part}"));
                let txn = pair.fold(Txn::new(), |txn, key| txn.and_then(Put::new(key, writes.to_string())));
                client.txn(txn).await.expect("the transaction is made");
            }
        }
        writes += 1;
    }
    writes
}

/// Looks through the whole history: the writers' values are numbers that go up, each key has one writer, and so
/// no value is below one that the key had before. Returns how many there were.
async fn no_value_goes_back(client: &Client) -> usize {
    let until = client.put("k/end", "").await.expect("it is put").revision();
    let request = WatchRequest::new(KeyRange::prefix("k/")).start_revision(1);
    let mut watch = client.watch(request).expect("a watch");
    let mut last: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut puts = 0;
    loop {
        let next = timeout(PATIENCE, watch.try_next()).await.expect("the history in time");
        let response = next.expect("the history").expect("more of it");
        for event in response.events() {
            let Ok(value) = text(event.value()).parse() else { continue };
            puts += 1;
            let before = last.insert(event.key().to_vec(), value);
            let (key, revision) = (text(event.key()), event.mod_revision());
            assert!(before <= Some(value), "{key}: {value} at {revision}, after {before:?}");
        }
        if response.revision() >= until {
            return puts;
        }
    }
}

/// At one revision, keys that are always written together have one value.
async fn is_whole(client: &Client, writers: u64) -> bool {
    let pairs = values(client, "k/pair/").await;
    (0..writers).all(|writer| {
        let prefix = format!("{writer}/");
        let mut values = pairs.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, value)| value);
        let first = values.next();
        values.all(|value| Some(value) == first)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_is_killed_again_and_again_while_writers_write_ends_equal() {
    const WRITERS: u64 = 4;
    const KILLS: usize = 8;
    let world = World::start().await;
    for part in 0..20 {
        let value = "v".repeat(100);
        world.source.txn(put_all(part * 100..(part + 1) * 100, &value)).await.expect("it is made");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(world.source.clone(), writer, stop.clone()));
    }
    let mut rng = fastrand::Rng::with_seed(7);
    let mut copied = 0;
    for kill in 0..KILLS {
        let mut tool = Running::start(world.tool(&[]));
        if kill % 2 == 1 {
            // Once in a while it gets somewhere.
            let revision = world.put("k/mark", &kill.to_string()).await;
            world.until_exact(revision).await;
            assert!(is_whole(&world.destination, WRITERS).await, "a revision is split");
        } else {
            tokio::time::sleep(Duration::from_millis(rng.u64(20..200))).await;
        }
        tool.child.kill().await.expect("it is killed");
        let checkpoint = world.checkpoint().await.unwrap_or_default();
        let revision = checkpoint["revision"].as_i64().unwrap_or_default();
        assert!(revision >= copied, "the checkpoint went back from {copied} to {revision}");
        copied = revision;
        if kill == KILLS / 2 {
            // This history is gone: the next list has the difference.
            let now = world.put("k/compacted", "").await;
            world.source.compact(now).await.expect("it is compacted");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut writes = 0;
    while let Some(written) = writers.join_next().await {
        let written = written.expect("the writer writes");
        assert!(written > 0, "a writer has written nothing");
        writes += written;
    }
    let statistics = world.copy(&[]).await;
    println!("{writes} writes through {KILLS} kills; at the end {statistics}");
    let (here, there) = (values(&world.source, "k/").await, values(&world.destination, "k/").await);
    assert!(here.len() > 2000);
    assert_eq!(here, there);
    let puts = no_value_goes_back(&world.destination).await;
    println!("{puts} values at the destination, each as new as the one before or newer");
    let written = here.values().filter(|value| value.parse::<u64>().is_ok()).count();
    assert!(puts > written, "{puts} puts of {written} keys: what was copied on the way is in the history");
}

#[tokio::test]
async fn of_two_mirrors_the_one_that_started_last_goes_on() {
    let world = World::start().await;
    let revision = world.put("k/1", "a").await;
    let first = world.take_over().await;
    world.until_exact(revision).await;
    let second = world.take_over().await;
    let revision = world.put("k/1", "b").await;
    let (status, _, stderr) = first.end().await;
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("another mirror writes here"), "{stderr}");
    world.until_exact(revision).await;
    assert_eq!(values(&world.destination, "k/").await, expected(&[("1", "b")]));
    second.signal(Signal::TERM);
    assert_eq!(signal_of(second.end().await.0), Some(Signal::TERM));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_with_its_hands_full_is_replaced_all_the_same() {
    let world = World::start().await;
    let revision = world.put("k/1", "a").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..2 {
        writers.spawn(write(world.source.clone(), writer, stop.clone()));
    }
    let mut mirrors = Vec::new();
    for _ in 0..5 {
        mirrors.push(world.take_over().await);
        world.until_exact(revision).await;
    }
    let last = mirrors.pop().expect("five");
    for mirror in mirrors {
        let (status, _, stderr) = mirror.end().await;
        assert_eq!(status.code(), Some(1));
        assert!(stderr.contains("another mirror writes here"), "{stderr}");
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(written) = writers.join_next().await {
        written.expect("the writer writes");
    }
    let revision = world.put("k/1", "b").await;
    world.until_exact(revision).await;
    assert_eq!(values(&world.source, "k/").await, values(&world.destination, "k/").await);
    last.signal(Signal::INT);
    assert_eq!(signal_of(last.end().await.0), Some(Signal::INT));
}

#[tokio::test]
async fn what_would_replace_newer_by_older_is_refused() {
    let world = World::start().await;
    world.put("k/1", "a").await;
    world.copy(&[]).await;
    let refused = async |world: &World, expected: &str| {
        let output = output(world.tool(&[])).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(expected), "{output:?}");
    };
    let checkpoint = world.checkpoint().await.expect("a checkpoint");
    let mut changed = checkpoint.clone();
    changed["revision"] = 1_000_000.into();
    world.put_there(CHECKPOINT, &changed.to_string()).await;
    refused(&world, "was restored from a backup").await;
    let mut changed = checkpoint.clone();
    changed["source_cluster_id"] = "abc".into();
    world.put_there(CHECKPOINT, &changed.to_string()).await;
    refused(&world, "is of cluster abc").await;
    world.put_there(CHECKPOINT, "x").await;
    refused(&world, "is no checkpoint").await;
    let mut changed = checkpoint;
    changed["source_key"] = "YQ==".into();
    world.put_there(CHECKPOINT, &changed.to_string()).await;
    refused(&world, "is of other keys").await;
}

#[tokio::test]
async fn a_destination_that_is_away_is_waited_for() {
    let mut world = World::start().await;
    let revision = world.put("k/1", "a").await;
    let tool = Running::start(world.tool(&["--command-timeout", "500ms"]));
    world.until_exact(revision).await;
    world.to.kill();
    world.put("k/1", "b").await;
    let revision = world.put("k/2", "b").await;
    world.to.restart_async().await.expect("it starts again");
    world.until_exact(revision).await;
    assert_eq!(values(&world.destination, "k/").await, expected(&[("1", "b"), ("2", "b")]));
    tool.signal(Signal::INT);
    assert_eq!(signal_of(tool.end().await.0), Some(Signal::INT));
}
