//! Mirrors in both directions.

use rustix::process::Signal;
use tokio::process::Command;

use crate::{
    common::{Running, bare, output, signal_of, text},
    world::{CHECKPOINT, World, expected, values},
};

/// A mirror from the world's destination to its source.
fn back(world: &World, prefix: &str, flags: &[&str]) -> Command {
    let mut command = bare(&["mirror", "--prefix", prefix, "--to", &world.from.endpoint()]);
    command.args(flags).env("ETCDCTL_ENDPOINTS", world.to.endpoint());
    command
}

#[tokio::test]
async fn what_another_mirror_copies_is_not_copied_back() {
    let world = World::start().await;
    world.put("k/1", "a").await;
    world.copy(&[]).await;
    let running = world.take_over().await;
    for prefix in ["k/", "k/1", "", "k"] {
        let refused = output(back(&world, prefix, &[])).await;
        let stderr = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{prefix}: {stderr}");
        for part in ["back to the source", CHECKPOINT, "--dest-prefix", "delete that key"] {
            assert!(stderr.contains(part), "{prefix}: {stderr}");
        }
    }
    // Nothing was left that would refuse the first one.
    let there = values(&world.source, "etcd-watch/mirror/").await;
    assert_eq!(there, expected(&[]));

    let apart = ["--until-rev", "2", "--dest-prefix", "copies/"];
    for (prefix, flags) in [("k/", &apart[..]), ("l/", &apart[..2])] {
        let copied = output(back(&world, prefix, flags)).await;
        assert!(copied.status.success(), "{prefix}: {copied:?}");
    }
    assert_eq!(values(&world.source, "copies/").await, expected(&[("1", "a")]));
    running.signal(Signal::INT);
    assert_eq!(signal_of(running.end().await.0), Some(Signal::INT));
    world.copy(&[]).await;

    // Once the first one is over for good, the other way round is as good as any.
    world.destination.delete(CHECKPOINT).await.expect("it is deleted");
    world.put_there("k/2", "b").await;
    let copied = output(back(&world, "k/", &["--until-rev", "2"])).await;
    assert!(copied.status.success(), "{copied:?}");
    assert_eq!(values(&world.source, "k/").await, expected(&[("1", "a"), ("2", "b")]));
    let refused = output(world.tool(&[])).await;
    assert!(text(&refused.stderr).contains("back to the source"), "{refused:?}");
}

#[tokio::test]
async fn of_two_mirrors_in_both_directions_that_start_at_once_one_goes_on_at_most() {
    let world = World::start().await;
    for _ in 0..5 {
        let mut one = Running::start(world.tool(&[]));
        let mut other = Running::start(back(&world, "k/", &[]));
        let (ended, rest) = tokio::select! {
            _ = one.child.wait() => (one, other),
            _ = other.child.wait() => (other, one),
        };
        let (status, _, stderr) = ended.end().await;
        assert_eq!(status.code(), Some(1));
        assert!(stderr.contains("back to the source"), "{stderr}");
        drop(rest);
        world.destination.delete(CHECKPOINT).await.expect("it is deleted");
        world.source.delete(CHECKPOINT).await.expect("it is deleted");
    }
}

#[tokio::test]
async fn two_prefixes_of_one_cluster_are_not_copied_into_each_other() {
    let world = World::start().await;
    world.put("k/1", "a").await;
    let within = |from: &str, to: &str| {
        let mut tool = bare(&["mirror", "--prefix", from, "--dest-prefix", to, "--until-rev", "2"]);
        tool.args(["--to", &world.from.endpoint()]).env("ETCDCTL_ENDPOINTS", world.from.endpoint());
        output(tool)
    };
    for _ in 0..2 {
        let copied = within("k/", "l/").await;
        assert!(copied.status.success(), "{copied:?}");
    }
    let refused = within("l/", "k/").await;
    assert!(text(&refused.stderr).contains("back to the source"), "{refused:?}");
    let copied = within("l/", "m/").await;
    assert!(copied.status.success(), "{copied:?}");
}
