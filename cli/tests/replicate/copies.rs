//! What is at the destination afterwards.

use std::{collections::BTreeSet, time::Duration};

use etcd_watch_tokio::{Delete, Put, Txn};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    common::{PATIENCE, Running, bare, output, signal_of, text},
    world::{CHECKPOINT, World, expected, keys, put_all, values},
};

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
    world.source.compact(revision).await.expect("it is compacted");
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
    world.source.compact(revision).await.expect("it is compacted");
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
    let revision = done.revision();
    world.until_exact(revision).await;
    let there = keys(&world.destination, "k/").await;
    let revisions: BTreeSet<i64> =
        there.iter().filter(|(key, _)| *key != "first").map(|(_, &(_, revision))| revision).collect();
    assert_eq!((there.len(), revisions.len()), (129, 1), "{revisions:?}");

    for part in 1..4 {
        world.source.txn(put_all(part * 100..(part + 1) * 100, "b")).await.expect("it is made");
    }
    let gone = world.source.delete(Delete::prefix("k/")).await.expect("they are deleted");
    let revision = gone.revision();
    world.until_exact(revision).await;
    assert_eq!(values(&world.destination, "k/").await, expected(&[]));
    tool.signal(Signal::INT);
    let line = tool.line().await;
    assert!(line.starts_with(&format!("mirrored up to revision {revision}: ")), "{line}");
    let (status, _, stderr) = tool.end().await;
    assert_eq!(signal_of(status), Some(Signal::INT), "{stderr}");
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

#[tokio::test]
async fn a_transaction_too_long_for_the_destination_is_an_error_with_a_remedy() {
    let world = World::start().await;
    for part in 0..2 {
        world.source.txn(put_all(part * 100..(part + 1) * 100, "a")).await.expect("it is made");
    }
    let refused = output(world.tool(&["--until-rev", "3", "--max-txn-ops", "1000"])).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("lower --max-txn-ops"), "{refused:?}");
    // What it had come to is told all the same.
    assert!(
        text(&refused.stdout).starts_with("in the middle of a copy of revision 3: 0 puts"),
        "{refused:?}"
    );
    let copied = world.copy(&["--max-txn-ops", "11"]).await;
    // The list's first page has 128 keys, and its second the rest.
    assert_eq!((&copied["puts"], &copied["transactions"]), (&200.into(), &23.into()), "{copied}");
}
