//! The same locks and elections, with etcd's own client in Go on the other side.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use etcd_watch_client::{
    Put, Txn,
    concurrency::{Election, leader, observe},
};
use etcd_watch_testkit::harness::{Go, GoProcess};
use tokio::task::JoinSet;

use crate::world::{World, joined, locking, mutex, name, session, within};

/// What must not happen gets so long to happen.
const UNLIKELY: Duration = Duration::from_millis(200);

fn go(world: &World) -> Go {
    Go::interop(world.endpoint()).expect("it has been built")
}

async fn line(process: &mut GoProcess) -> String {
    process.line().await.expect("it goes on")
}

/// The key and the fencing token of what it has got.
async fn got(process: &mut GoProcess, what: &str) -> (String, i64) {
    let line = line(process).await;
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some(what), "{line}");
    let mut word = || words.next().expect("it tells key and revision").to_owned();
    (word(), word().parse().expect("a revision"))
}

pub(crate) async fn go_and_rust_lock_in_turn(world: World) {
    let (one, two) = (session(&world.direct).await, session(&world.client()).await);
    let mut first = go(&world).spawn(["lock", "a"]).expect("it starts");
    let (key, first_token) = got(&mut first, "locked").await;
    assert_eq!(world.keys("a").await, [key]);
    assert!(within(mutex(&one, "a").try_lock()).await.expect("it is told").is_none());
    let second = locking(&one, "a");
    world.queued("a", 2).await;
    let mut third = go(&world).spawn(["lock", "a", "--ttl", "8"]).expect("it starts");
    world.queued("a", 3).await;
    let fourth = locking(&two, "a");
    world.queued("a", 4).await;
    assert!(!second.is_finished(), "Go's key is before it");

    first.send("unlock").await.expect("it listens");
    assert_eq!(first.end().await.expect("it ends well"), ["unlocked"]);
    let second = joined(second).await.expect("it locks");
    assert!(second.fencing_token() > first_token);
    assert_eq!(go(&world).run(["trylock", "a"]).await.expect("it is told"), ["busy"]);
    assert_eq!(third.line_within(UNLIKELY).await.expect("it waits"), None, "Rust's key is before it");
    let second_token = second.fencing_token();
    within(second.unlock()).await.expect("it unlocks");

    let (key, third_token) = got(&mut third, "locked").await;
    assert!(third_token > second_token && world.keys("a").await.contains(&key));
    assert!(!fourth.is_finished());
    // Its lease is over some seconds later.
    third.kill().await.expect("it is killed");
    let fourth = joined(fourth).await.expect("it locks");
    assert!(fourth.fencing_token() > third_token && fourth.is_held());
    drop(fourth);
    let mut last = go(&world).spawn(["trylock", "a"]).expect("it starts");
    // The key is removed in the background.
    if line(&mut last).await == "busy" {
        world.queued("a", 0).await;
        last = go(&world).spawn(["trylock", "a"]).expect("it starts");
        got(&mut last, "locked").await;
    }
    assert_eq!(last.end().await.expect("it ends well"), ["unlocked"]);
}

pub(crate) async fn waiters_in_go_and_rust_that_give_up_block_nobody(world: World) {
    let (one, two) = (session(&world.direct).await, session(&world.client()).await);
    let guard = within(mutex(&one, "a").lock()).await.expect("it locks");
    let mut second = go(&world).spawn(["lock", "a"]).expect("it starts");
    world.queued("a", 2).await;
    let third = locking(&two, "a");
    world.queued("a", 3).await;
    let mut fourth = go(&world).spawn(["lock", "a"]).expect("it starts");
    world.queued("a", 4).await;
    second.send("cancel").await.expect("it listens");
    assert_eq!(second.end().await.expect("it ends well"), ["cancelled"]);
    third.abort();
    world.queued("a", 2).await;
    within(guard.unlock()).await.expect("it unlocks");
    got(&mut fourth, "locked").await;
    assert_eq!(fourth.end().await.expect("it ends well"), ["unlocked"]);
}

pub(crate) async fn go_and_rust_never_hold_it_at_once(world: World) {
    const EACH: usize = 4;
    let busy = Arc::new(AtomicBool::new(false));
    let mut contenders = JoinSet::new();
    for number in 0..EACH {
        let session = session(&world.client()).await;
        let (client, is_busy) = (world.direct.clone(), busy.clone());
        contenders.spawn(async move {
            let mut tokens = Vec::new();
            for _ in 0..3 {
                let guard = mutex(&session, "a").lock().await.expect("it locks");
                assert!(!is_busy.swap(true, Ordering::SeqCst), "one at a time");
                let line = Put::new("log", format!("rust {number}"));
                let txn = Txn::new().when(guard.is_owner()).and_then(line);
                assert!(client.txn(txn).await.expect("it is made").succeeded(), "it is the holder");
                tokens.push(guard.fencing_token());
                is_busy.store(false, Ordering::SeqCst);
                guard.unlock().await.expect("it unlocks");
            }
            tokens
        });
        let (go, is_busy) = (go(&world), busy.clone());
        contenders.spawn(async move {
            let mut tokens = Vec::new();
            for _ in 0..3 {
                let mut holder = go.spawn(["lock", "a"]).expect("it starts");
                tokens.push(got(&mut holder, "locked").await.1);
                assert!(!is_busy.swap(true, Ordering::SeqCst), "one at a time");
                tokio::task::yield_now().await;
                is_busy.store(false, Ordering::SeqCst);
                assert_eq!(holder.end().await.expect("it ends well"), ["unlocked"]);
            }
            tokens
        });
    }
    let tokens: Vec<i64> = contenders.join_all().await.into_iter().flatten().collect();
    assert_eq!(tokens.len(), EACH * 6, "every contender got it");
    assert!(world.keys("a").await.is_empty());
}

pub(crate) async fn go_and_rust_elect_and_observe_each_other(world: World) {
    let (one, two) = (session(&world.direct).await, session(&world.client()).await);
    assert_eq!(go(&world).run(["leader", "e"]).await.expect("it is told"), ["none"]);
    let mut theirs = go(&world).spawn(["observe", "e"]).expect("it starts");
    let mut ours = observe(&world.direct, &name("e"));
    // Both see the same key, revision and value.
    let mut all_see = async |value: &str| {
        let leader = within(ours.next()).await.expect("it goes on").expect("it goes well");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(&leader.value), value);
        let seen = format!("leader {} {} {value}", text(&leader.key), leader.mod_revision);
        assert_eq!(line(&mut theirs).await, seen);
        assert_eq!(go(&world).run(["leader", "e"]).await.expect("it is told"), [seen]);
        let now = within(leader_of(&world)).await;
        assert_eq!(now, text(&leader.key));
    };

    let election = Election::new(&one, name("e"));
    let first = within(election.campaign("rust 1")).await.expect("it is elected");
    all_see("rust 1").await;
    let mut second = go(&world).spawn(["elect", "e", "go 1"]).expect("it starts");
    world.queued("e", 2).await;
    let election = Election::new(&two, name("e"));
    let third = tokio::spawn(async move { election.campaign("rust 3").await });
    world.queued("e", 3).await;
    within(first.proclaim("rust 2")).await.expect("it is the leader");
    all_see("rust 2").await;
    assert_eq!(second.line_within(UNLIKELY).await.expect("it waits"), None, "there is a leader");
    let first_token = first.fencing_token();
    within(first.resign()).await.expect("it resigns");

    let (key, second_token) = got(&mut second, "elected").await;
    assert!(second_token > first_token);
    assert_eq!(leader_of(&world).await, key);
    all_see("go 1").await;
    second.send("proclaim go 2").await.expect("it listens");
    assert!(line(&mut second).await.starts_with("proclaimed "));
    all_see("go 2").await;
    assert!(!third.is_finished(), "there is a leader");
    second.send("resign").await.expect("it listens");
    assert_eq!(second.end().await.expect("it ends well"), ["resigned"]);

    let third = within(third).await.expect("no panic").expect("it is elected");
    assert!(third.fencing_token() > second_token && third.is_held());
    all_see("rust 3").await;
    theirs.end().await.expect("it ends well");
}

/// The leader's key.
async fn leader_of(world: &World) -> String {
    let leader = leader(&world.direct, &name("e")).await.expect("it is told").expect("there is one");
    String::from_utf8_lossy(&leader.key).into_owned()
}
