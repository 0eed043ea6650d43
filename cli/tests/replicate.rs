//! `etcd-watch mirror --to`, from a real etcd 3.5.30 to a real 3.4.23.

#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "a test says what it has seen")]

mod common;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{PATIENCE, Running, bare, output, text};
use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};
use etcd_watch_tokio::{Client, Delete, Get, KeyRange, Put, Txn};
use rustix::process::Signal;
use serde_json::Value;
use tokio::{process::Command, task::JoinSet, time::timeout};

const CHECKPOINT: &str = "etcd-watch/mirror/prefix/k/";

/// Two clusters, of different versions.
struct World {
    from: EtcdServer,
    to: EtcdServer,
    source: Client,
    destination: Client,
}

impl World {
    async fn start() -> Self {
        let from = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
        let to = EtcdServer::builder(EtcdVersion::V3_4).start_async().await.expect("etcd starts");
        let source = Client::connect([from.endpoint()]).await.expect("a client");
        let destination = Client::connect([to.endpoint()]).await.expect("a client");
        Self { from, to, source, destination }
    }

    fn tool(&self, flags: &[&str]) -> Command {
        let mut command = bare(&["mirror", "--prefix", "k/", "--to", &self.to.endpoint()]);
        command.args(flags).env("ETCDCTL_ENDPOINTS", self.from.endpoint());
        command
    }

    /// Mirrors up to the source's present revision, and returns the statistics.
    async fn copy(&self, flags: &[&str]) -> Value {
        let until = self.source.get("k/").await.expect("a read").header.expect("a header").revision;
        let mut tool = self.tool(&["--until-rev", &until.to_string(), "-w", "json"]);
        tool.args(flags);
        let output = output(tool).await;
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("an object")
    }

    async fn put(&self, key: &str, value: &str) -> i64 {
        let put = self.source.put((key.to_owned(), value.to_owned())).await.expect("it is put");
        put.header.expect("a header").revision
    }

    async fn delete(&self, key: &str) {
        self.source.delete(key).await.expect("it is deleted");
    }

    async fn put_there(&self, key: &str, value: &str) {
        self.destination.put((key.to_owned(), value.to_owned())).await.expect("it is put");
    }

    async fn checkpoint(&self) -> Option<Value> {
        let found = self.destination.get(CHECKPOINT).await.expect("a read");
        found.kvs.first().map(|kv| serde_json::from_slice(&kv.value).expect("JSON"))
    }

    /// Returns once the checkpoint is exact and at the revision, or past it.
    async fn until_exact(&self, revision: i64) {
        let reached = async {
            loop {
                let checkpoint = self.checkpoint().await.unwrap_or_default();
                if checkpoint["exact"] == true && checkpoint["revision"].as_i64() >= Some(revision) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("the mirror gets there");
    }
}

/// Keys without the prefix, values, and the revisions of the last changes.
async fn keys(client: &Client, prefix: &str) -> BTreeMap<String, (String, i64)> {
    let found = client.get(Get::new(KeyRange::prefix(prefix.to_owned()))).await.expect("a read");
    let pair = |kv: etcd_watch_tokio::proto::mvccpb::KeyValue| {
        (text(&kv.key[prefix.len()..]), (text(&kv.value), kv.mod_revision))
    };
    found.kvs.into_iter().map(pair).collect()
}

/// Keys without the prefix, and values.
async fn values(client: &Client, prefix: &str) -> BTreeMap<String, String> {
    keys(client, prefix).await.into_iter().map(|(key, (value, _))| (key, value)).collect()
}

fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn put_all(keys: Range<usize>, value: &str) -> Txn {
    keys.fold(Txn::new(), |txn, key| txn.and_then(Put::new(format!("k/{key:03}"), value.to_owned())))
}

/// Writes until it is told to stop: puts, deletes, and transactions that give several keys the same value.
async fn write(client: Client, writer: u64, stop: Arc<AtomicBool>) -> u64 {
    let mut rng = fastrand::Rng::with_seed(writer);
    let mut writes = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("k/{writer}/{}", rng.u32(..200));
        match rng.u32(..10) {
            0..6 => drop(client.put((key, writes.to_string())).await.expect("it is put")),
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
        if kill == 4 {
            // This history is gone: the next list has the difference.
            let now = world.put("k/compacted", "").await;
            world.source.compact(now, false).await.expect("it is compacted");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut writes = 0;
    while let Some(written) = writers.join_next().await {
        writes += written.expect("the writer writes");
    }
    let statistics = world.copy(&[]).await;
    println!("{writes} writes through {KILLS} kills; at the end {statistics}");
    assert!(writes > 1000, "only {writes} writes");
    let (here, there) = (values(&world.source, "k/").await, values(&world.destination, "k/").await);
    assert!(here.len() > 2000);
    assert_eq!(here, there);
}

#[tokio::test]
async fn a_restart_goes_on_by_a_watch_and_after_compaction_by_the_difference() {
    let world = World::start().await;
    for key in ["k/1", "k/2", "k/3"] {
        world.put(key, "a").await;
    }
    world.put("other", "a").await;
    let first = world.copy(&[]).await;
    assert_eq!((&first["lists"], &first["puts"]), (&1.into(), &3.into()), "{first}");
    let before = keys(&world.destination, "k/").await;

    world.put("k/1", "b").await;
    world.delete("k/2").await;
    let second = world.copy(&[]).await;
    let counts = |statistics: &Value| {
        ["lists", "puts", "deletes"].map(|name| statistics[name].as_u64().expect("a number"))
    };
    assert_eq!(counts(&second), [0, 1, 1], "{second}");
    assert_eq!(values(&world.destination, "k/").await, expected(&[("1", "b"), ("3", "a")]));

    world.delete("k/1").await;
    let revision = world.put("k/4", "a").await;
    world.source.compact(revision, false).await.expect("it is compacted");
    let third = world.copy(&[]).await;
    assert_eq!(counts(&third), [1, 1, 1], "{third}");
    let after = keys(&world.destination, "k/").await;
    assert_eq!(values(&world.destination, "k/").await, expected(&[("3", "a"), ("4", "a")]));
    assert_eq!(before["3"], after["3"], "an equal key was written again");
    assert_eq!(values(&world.destination, "other").await, expected(&[]));
}

#[tokio::test]
async fn extra_keys_stay_unless_they_are_to_go() {
    let world = World::start().await;
    world.put("k/same", "a").await;
    world.put("k/1", "a").await;
    for key in ["k/0", "k/extra", "k/same"] {
        world.put_there(key, "a").await;
    }
    world.put_there("other", "a").await;
    let first = world.copy(&[]).await;
    assert_eq!(first["left_alone"], 2, "{first}");
    let all = expected(&[("0", "a"), ("1", "a"), ("extra", "a"), ("same", "a")]);
    assert_eq!(values(&world.destination, "k/").await, all);

    // What the source had is the mirror's, also where the destination had the same before.
    world.delete("k/same").await;
    let revision = world.put("k/2", "a").await;
    world.source.compact(revision, false).await.expect("it is compacted");
    world.copy(&[]).await;
    let all = expected(&[("0", "a"), ("1", "a"), ("2", "a"), ("extra", "a")]);
    assert_eq!(values(&world.destination, "k/").await, all);

    world.destination.delete(CHECKPOINT).await.expect("it is deleted");
    let again = world.copy(&["--delete-extra"]).await;
    assert_eq!((&again["deletes"], &again["puts"]), (&2.into(), &0.into()), "{again}");
    assert_eq!(values(&world.destination, "k/").await, expected(&[("1", "a"), ("2", "a")]));
    assert_eq!(values(&world.destination, "other").await, expected(&[("", "a")]));
}

#[tokio::test]
async fn a_prefix_becomes_another_or_none() {
    let world = World::start().await;
    world.put("k/k/1", "a").await;
    world.put("k/2", "a").await;
    world.copy(&["--dest-prefix", "copies/k/"]).await;
    let there = expected(&[("k/1", "a"), ("2", "a")]);
    assert_eq!(values(&world.destination, "copies/k/").await, there);
    world.delete("k/2").await;
    world.copy(&["--dest-prefix", "copies/k/"]).await;
    assert_eq!(values(&world.destination, "copies/k/").await, expected(&[("k/1", "a")]));

    world.copy(&["--no-dest-prefix"]).await;
    assert_eq!(values(&world.destination, "k/").await, expected(&[("1", "a")]));
    // Within its own cluster, as long as it is not over itself.
    let to_itself = |flags: &[&str]| {
        let mut tool =
            bare(&["mirror", "--prefix", "k/", "--until-rev", "2", "--to", &world.from.endpoint()]);
        tool.args(flags).env("ETCDCTL_ENDPOINTS", world.from.endpoint());
        output(tool)
    };
    let copied = to_itself(&["--dest-prefix", "l/"]).await;
    assert!(copied.status.success(), "{copied:?}");
    assert_eq!(values(&world.source, "l/").await, expected(&[("k/1", "a")]));
    let refused = to_itself(&["--dest-prefix", "k/l/"]).await;
    assert!(text(&refused.stderr).contains("same keys of the same cluster"), "{refused:?}");
}

#[tokio::test]
async fn revisions_stay_whole_up_to_what_a_transaction_holds() {
    let world = World::start().await;
    let revision = world.put("k/first", "").await;
    let mut tool = Running::start(world.tool(&[]));
    world.until_exact(revision).await;
    // As many as a transaction may have, without the checkpoint.
    let done = world.source.txn(put_all(0..128, "a")).await.expect("it is made");
    let revision = done.header.expect("a header").revision;
    world.until_exact(revision).await;
    let there = keys(&world.destination, "k/").await;
    let revisions: std::collections::BTreeSet<i64> =
        there.iter().filter(|(key, _)| *key != "first").map(|(_, &(_, revision))| revision).collect();
    assert_eq!((there.len(), revisions.len()), (129, 1), "{revisions:?}");

    for part in 1..4 {
        world.source.txn(put_all(part * 100..(part + 1) * 100, "b")).await.expect("it is made");
    }
    let gone = world.source.delete(Delete::prefix("k/")).await.expect("they are deleted");
    let revision = gone.header.expect("a header").revision;
    world.until_exact(revision).await;
    assert_eq!(values(&world.destination, "k/").await, expected(&[]));
    tool.signal(Signal::INT);
    let line = tool.line().await;
    assert!(line.starts_with(&format!("mirrored up to revision {revision}: ")), "{line}");
    let (status, _, stderr) = tool.end().await;
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert_eq!(stderr, format!("warning: revision {revision} is split over 4 transactions: 401 changes\n"),);
}

#[tokio::test]
async fn values_as_large_as_etcd_takes_them_are_copied() {
    let world = World::start().await;
    let large = "x".repeat(1 << 20);
    for key in ["k/1", "k/2", "k/3"] {
        world.put(key, &large).await;
    }
    world.copy(&[]).await;
    let txn = ["k/4", "k/5"].into_iter();
    let txn = txn.fold(Txn::new(), |txn, key| txn.and_then(Put::new(key, large[..700 << 10].to_owned())));
    world.source.txn(txn).await.expect("it is made");
    world.put("k/1", &large[1..]).await;
    let second = world.copy(&[]).await;
    assert_eq!((&second["puts"], &second["transactions"]), (&3.into(), &2.into()), "{second}");
    let (here, there) = (values(&world.source, "k/").await, values(&world.destination, "k/").await);
    assert!(here == there && here.len() == 5);
}

#[tokio::test]
async fn of_two_mirrors_the_one_that_started_last_goes_on() {
    let world = World::start().await;
    let revision = world.put("k/1", "a").await;
    let first = Running::start(world.tool(&[]));
    world.until_exact(revision).await;
    let second = Running::start(world.tool(&[]));
    let writer = world.checkpoint().await.expect("a checkpoint")["writer"].clone();
    let replaced = async {
        while world.checkpoint().await.expect("a checkpoint")["writer"] == writer {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, replaced).await.expect("the second takes over");
    let revision = world.put("k/1", "b").await;
    let (status, _, stderr) = first.end().await;
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("another mirror writes here"), "{stderr}");
    world.until_exact(revision).await;
    assert_eq!(values(&world.destination, "k/").await, expected(&[("1", "b")]));
    second.signal(Signal::TERM);
    assert_eq!(second.end().await.0.code(), Some(0));
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
    assert_eq!(tool.end().await.0.code(), Some(0));
}

#[tokio::test]
async fn everything_there_is_can_be_mirrored_and_etcdctl_can_go_before() {
    let world = World::start().await;
    for key in ["a", "b", "c"] {
        world.put(key, "1").await;
    }
    // etcdctl's own mirror, up to now.
    let etcdctl = world.from.etcdctl().expect("its etcdctl");
    let to = world.to.address().to_string();
    let theirs = etcdctl.spawn(["make-mirror", "--dest-insecure-transport", &to]).expect("it runs");
    let copied = async {
        while values(&world.destination, "").await.len() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, copied).await.expect("etcdctl mirrors");
    theirs.kill().await.expect("it is killed");
    world.delete("b").await;
    let revision = world.put("d", "1").await.to_string();
    for _ in 0..2 {
        let mut tool = bare(&["mirror", "--prefix", "", "--delete-extra", "--until-rev", &revision]);
        tool.env("ETCDCTL_ENDPOINTS", world.from.endpoint()).args(["--to", &to]);
        let copied = output(tool).await;
        assert!(copied.status.success(), "{copied:?}");
    }
    let mut there = values(&world.destination, "").await;
    there.retain(|key, _| !key.starts_with("etcd-watch/mirror/"));
    assert_eq!(there, expected(&[("a", "1"), ("c", "1"), ("d", "1")]));
}
