//! `etcd-watch lock` and `elect`, among themselves and with etcdctl.

#![cfg(unix)]

mod common;

use std::{path::Path, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{PATIENCE, Running, World, output, signal_of, text, tool_for};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion, wait_until},
    model::ModelConfig,
    server::EmbeddedEtcd,
};
use etcd_watch_tokio::{Client, Get};
use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::Value;
use tokio::process::Command;

/// Returns once so many keys begin with the prefix.
async fn until_keys(client: &Client, prefix: &str, count: i64) {
    let reached = async {
        while client.get(Get::prefix(prefix.to_owned()).count_only(true)).await.expect("a read").count()
            != count
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the number of keys");
}

async fn client(endpoint: &str) -> Client {
    etcd_watch_tokio::connect([endpoint]).await.expect("a client")
}

/// Takes the lease of the only key with the prefix away.
async fn revoke(client: &Client, prefix: &str) {
    let found = client.get(Get::prefix(prefix.to_owned())).await.expect("a read");
    client.lease_revoke(found.kvs()[0].lease).await.expect("it is revoked");
}

async fn read(path: &Path) -> String {
    wait_until("the command has written", PATIENCE, || {
        std::fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    std::fs::read_to_string(path).expect("it is there")
}

#[tokio::test]
async fn a_lock_is_held_by_one_until_ctrl_c_and_then_by_the_next() {
    let world = World::new().await;
    let mut first = Running::start(world.tool(&["lock", "l"]));
    let key = first.line().await;
    assert!(key.starts_with("l/"), "{key}");
    let mut second = Running::start(world.tool(&["lock", "l", "-w", "json"]));
    until_keys(&client(&world.etcd.endpoint()).await, "l/", 2).await;
    first.signal(Signal::INT);
    let (status, rest, stderr) = first.end().await;
    // As etcdctl prints a key, with its empty value.
    assert_eq!((signal_of(status), stderr.as_str(), rest), (Some(Signal::INT), "", vec![String::new()]));
    let response: Value = serde_json::from_str(&second.line().await).expect("an object");
    let kv = &response["kvs"][0];
    let second_key = STANDARD.decode(kv["key"].as_str().expect("a key")).expect("base64");
    assert!(second_key.starts_with(b"l/") && second_key != key.as_bytes());
    assert!(kv["create_revision"].as_i64().is_some_and(|revision| revision > 2), "{kv}");
    second.signal(Signal::TERM);
    assert_eq!(signal_of(second.end().await.0), Some(Signal::TERM));
    until_keys(&client(&world.etcd.endpoint()).await, "l/", 0).await;
}

#[tokio::test]
async fn who_is_stopped_while_waiting_leaves_the_queue() {
    let world = World::new().await;
    let mut first = Running::start(world.tool(&["lock", "l", "--ttl", "600"]));
    first.line().await;
    let client = client(&world.etcd.endpoint()).await;
    let second = Running::start(world.tool(&["lock", "l", "--ttl", "600"]));
    until_keys(&client, "l/", 2).await;
    second.signal(Signal::INT);
    let (status, lines, _) = second.end().await;
    assert_eq!((signal_of(status), lines), (Some(Signal::INT), Vec::new()));
    until_keys(&client, "l/", 1).await;
}

#[tokio::test]
async fn a_command_runs_while_the_lock_is_held_and_its_status_is_the_tools() {
    let world = World::new().await;
    let script = r#"printf '%s %s\n' "$ETCD_LOCK_KEY" "$ETCD_LOCK_REV"; exit 7"#;
    let ran = world.run(&["lock", "l", "--", "sh", "-c", script]).await;
    assert_eq!(ran.status.code(), Some(7), "{ran:?}");
    let stdout = text(&ran.stdout);
    assert!(stdout.starts_with("l/") && stdout.ends_with(" 2\n"), "{stdout}");
    until_keys(&client(&world.etcd.endpoint()).await, "l/", 0).await;

    let killed = world.run(&["lock", "l", "--", "sh", "-c", "kill -9 $$"]).await;
    assert_eq!(killed.status.code(), Some(137));
    let missing = world.run(&["lock", "l", "--ttl", "600", "--", "/nonexistent/program"]).await;
    assert_eq!(missing.status.code(), Some(1));
    until_keys(&client(&world.etcd.endpoint()).await, "l/", 0).await;
    assert!(text(&missing.stderr).contains("can't run"), "{missing:?}");
    let cases: [(&[&str], &str); 4] = [
        (&["lock", ""], "name is empty"),
        (&["lock", "l/"], "ends in a slash"),
        (&["lock", "l", "--ttl", "0"], "--ttl"),
        (&["elect", "e"], "<PROPOSAL>"),
    ];
    for (arguments, expected) in cases {
        let refused = world.run(arguments).await;
        assert!(!refused.status.success());
        assert!(text(&refused.stderr).contains(expected), "{refused:?}");
    }
}

#[tokio::test]
async fn a_signal_is_passed_on_and_the_lock_is_held_until_the_command_has_ended() {
    let world = World::new().await;
    let client = client(&world.etcd.endpoint()).await;
    let script = "trap 'read x < $0; exit 5' TERM; echo up; while :; do sleep 0.05; done";
    let directory = tempfile::tempdir().expect("a directory");
    let fifo = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().await.expect("mkfifo").success());
    let fifo = fifo.to_str().expect("text");
    let mut holder = Running::start(world.tool(&["lock", "l", "--", "sh", "-c", script, fifo]));
    assert_eq!(holder.line().await, "up");
    holder.signal(Signal::TERM);
    // Opens once the command, in its trap, reads; it holds the lock still.
    let written = tokio::task::spawn_blocking({
        let fifo = fifo.to_owned();
        move || std::fs::OpenOptions::new().write(true).open(fifo).expect("it is opened")
    });
    let writer = written.await.expect("it is opened");
    until_keys(&client, "l/", 1).await;
    drop(writer);
    assert_eq!(holder.end().await.0.code(), Some(5));
    until_keys(&client, "l/", 0).await;
}

#[tokio::test]
async fn a_command_that_ends_by_the_signal_passed_on_ends_the_tool_by_it() {
    let world = World::new().await;
    let client = client(&world.etcd.endpoint()).await;
    for signal in [Signal::INT, Signal::TERM] {
        let script = "echo up; exec sleep 600";
        let mut holder = Running::start(world.tool(&["lock", "l", "--ttl", "600", "--", "sh", "-c", script]));
        assert_eq!(holder.line().await, "up");
        holder.signal(signal);
        let (status, _, stderr) = holder.end().await;
        assert_eq!((signal_of(status), stderr.as_str()), (Some(signal), ""));
        until_keys(&client, "l/", 0).await;
    }
}

#[tokio::test]
async fn a_lock_that_is_lost_ends_the_tool_and_kills_all_of_the_command() {
    let world = World::new().await;
    let client = client(&world.etcd.endpoint()).await;
    let mut holder = Running::start(world.tool(&["lock", "l", "--ttl", "600"]));
    holder.lines(2).await;
    revoke(&client, "l/").await;
    let (status, _, stderr) = holder.end().await;
    assert_eq!(status.code(), Some(1));
    assert!(stderr.starts_with("error: the lock is lost: "), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "it is said once: {stderr}");

    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("pids");
    // Neither ends by SIGTERM.
    let script = r#"trap '' TERM; sh -c "sleep 600" & echo "$$ $!" > "$0"; wait; while :; do sleep 1; done"#;
    let name = file.to_str().expect("text");
    let holder = Running::start(world.tool(&["lock", "l", "--ttl", "600", "--", "sh", "-c", script, name]));
    let pids = read(&file).await;
    revoke(&client, "l/").await;
    let (status, _, stderr) = holder.end().await;
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("the lock is lost: \"sh\" was killed"), "{stderr}");
    for pid in pids.split_whitespace().map(|pid| pid.parse().ok().and_then(Pid::from_raw).expect("a pid")) {
        wait_until("the process is gone", PATIENCE, || is_gone(pid)).await;
    }
}

/// Whether it has ended; one that nobody waits for stays as a zombie.
fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    test_kill_process(pid).is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
}

#[tokio::test]
async fn an_etcd_that_is_gone_for_longer_than_the_lease_loses_the_lock() {
    let mut etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("an etcd");
    let arguments = ["lock", "l", "--ttl", "5", "--", "sh", "-c", "echo up; sleep 600"];
    let mut sleeper = Running::start(tool_for(&etcd.endpoint(), &arguments));
    assert_eq!(sleeper.line().await, "up");
    etcd.stop().await;
    let (status, _, stderr) = sleeper.end().await;
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("the lock is lost"), "{stderr}");
}

#[tokio::test]
async fn a_holder_that_was_stopped_for_longer_than_its_lease_gives_up_when_it_goes_on() {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
        let client = client(&server.endpoint()).await;
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("pid");
        let name = file.to_str().expect("text");
        let arguments = ["lock", "l", "--ttl", "5", "--", "sh", "-c", r#"echo $$ > "$0"; sleep 600"#, name];
        let holder = Running::start(tool_for(&server.endpoint(), &arguments));
        let pid = read(&file).await.trim().parse().ok().and_then(Pid::from_raw).expect("a pid");
        holder.signal(Signal::STOP);

        // The lock goes on to the next, while the command of the first still runs.
        let mut next = Running::start(tool_for(&server.endpoint(), &["lock", "l", "--ttl", "600"]));
        assert!(next.line().await.starts_with("l/"));
        until_keys(&client, "l/", 1).await;
        assert!(!is_gone(pid));

        holder.signal(Signal::CONT);
        let (status, _, stderr) = holder.end().await;
        assert_eq!(status.code(), Some(1));
        assert!(stderr.contains("the lock is lost: \"sh\" was killed"), "{stderr}");
        wait_until("the command is gone", PATIENCE, || is_gone(pid)).await;
        until_keys(&client, "l/", 1).await;
        next.signal(Signal::INT);
        assert_eq!(signal_of(next.end().await.0), Some(Signal::INT));
    }
}

#[tokio::test]
async fn locks_are_etcdctls_locks() {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
        let client = client(&server.endpoint()).await;
        let etcdctl = server.etcdctl().expect("its etcdctl");

        let mut ours = Running::start(tool_for(&server.endpoint(), &["lock", "l"]));
        assert!(ours.line().await.starts_with("l/"));
        let theirs = etcdctl.spawn(["lock", "l", "--", "echo", "theirs"]).expect("it runs");
        until_keys(&client, "l/", 2).await;
        ours.signal(Signal::INT);
        assert_eq!(signal_of(ours.end().await.0), Some(Signal::INT));
        assert_eq!(theirs.finish().await.expect("it ends").stdout, "theirs\n");

        let mut theirs = etcdctl.spawn(["lock", "l"]).expect("it runs");
        let key = theirs.next_line().await.expect("a line").expect("the key");
        assert!(key.starts_with("l/"), "{key}");
        let ours = Running::start(tool_for(&server.endpoint(), &["lock", "l", "--", "echo", "ours"]));
        until_keys(&client, "l/", 2).await;
        // Killed, it leaves the lock to the time of its lease; that is ended here.
        theirs.kill().await.expect("it is killed");
        let holder = client.get(Get::key(key)).await.expect("a read").into_first().expect("a pair");
        client.lease_revoke(holder.lease).await.expect("it is revoked");
        let (status, lines, stderr) = ours.end().await;
        assert_eq!((status.code(), lines), (Some(0), vec!["ours".to_owned()]), "{stderr}");
    }
}

#[tokio::test]
async fn a_leader_that_resigns_or_is_lost_is_followed_by_the_next_and_everybody_sees_it() {
    let world = World::new().await;
    let client = client(&world.etcd.endpoint()).await;
    let mut listener = Running::start(world.tool(&["elect", "-l", "e"]));
    let mut first = Running::start(world.tool(&["elect", "e", "one"]));
    assert_eq!(first.lines(2).await[1], "one");
    let mut second = Running::start(world.tool(&["elect", "e", "two", "--ttl", "600"]));
    until_keys(&client, "e/", 2).await;
    let mut third = Running::start(world.tool(&["elect", "e", "three"]));
    until_keys(&client, "e/", 3).await;
    assert_eq!(listener.lines(2).await[1], "one");
    first.signal(Signal::INT);
    assert_eq!(signal_of(first.end().await.0), Some(Signal::INT));
    let key = second.line().await;
    assert_eq!(second.line().await, "two");
    assert_eq!(listener.lines(2).await, [key.clone(), "two".to_owned()]);
    let leader = client.get(Get::key(key)).await.expect("a read").into_first().expect("a pair");
    client.lease_revoke(leader.lease).await.expect("it is revoked");
    let (status, _, stderr) = second.end().await;
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("the leadership is lost"), "{stderr}");
    assert_eq!(listener.lines(2).await[1], "three");
    // Not before it knows itself: a candidate that is ended has another status.
    assert_eq!(third.lines(2).await[1], "three");
    third.signal(Signal::TERM);
    assert_eq!(signal_of(third.end().await.0), Some(Signal::TERM));
    until_keys(&client, "e/", 0).await;
    listener.signal(Signal::INT);
    assert_eq!(signal_of(listener.end().await.0), Some(Signal::INT));
}

#[tokio::test]
async fn elections_are_etcdctls_elections() {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
        let etcdctl = server.etcdctl().expect("its etcdctl");
        let mut theirs = etcdctl.spawn(["elect", "e", "theirs"]).expect("it runs");
        let key = theirs.next_line().await.expect("a line").expect("the key");
        let listening = tool_for(&server.endpoint(), &["elect", "e", "--listen", "-w", "json"]);
        let mut listener = Running::start(listening);
        let seen: Value = serde_json::from_str(&listener.line().await).expect("an object");
        assert_eq!(seen["kvs"][0]["key"], STANDARD.encode(&key));
        assert_eq!(seen["kvs"][0]["value"], STANDARD.encode("theirs"));

        let mut their_listener = etcdctl.spawn(["elect", "-l", "e"]).expect("it runs");
        assert_eq!(their_listener.next_line().await.expect("a line"), Some(key.clone()));
        let mut ours = Running::start(tool_for(&server.endpoint(), &["elect", "e", "ours"]));
        let client = client(&server.endpoint()).await;
        until_keys(&client, "e/", 2).await;
        theirs.kill().await.expect("it is killed");
        let leader = client.get(Get::key(key)).await.expect("a read").into_first().expect("a pair");
        client.lease_revoke(leader.lease).await.expect("it is revoked");
        let key = ours.line().await;
        let told = async {
            while their_listener.next_line().await.expect("a line").expect("another line") != key {}
        };
        tokio::time::timeout(PATIENCE, told).await.expect("etcdctl sees it");
        let listened = output(tool_for(&server.endpoint(), &["get", &key])).await;
        assert_eq!(text(&listened.stdout), format!("{key}\nours\n"));
    }
}
