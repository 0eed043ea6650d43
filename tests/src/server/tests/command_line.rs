//! etcd's own `etcdctl` against the embedded server.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use etcd_watch_binaries::{Binaries, Line};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::*;

/// Debian's, which is of the 3.4 line.
fn etcdctl() -> PathBuf {
    let binary = Binaries::from_env().find(Line::V3_4).expect("an etcd of the 3.4 line");
    binary.etcdctl().expect("its etcdctl").to_owned()
}

fn command(etcd: &EmbeddedEtcd, arguments: &[&str]) -> Command {
    let mut command = Command::new(etcdctl());
    command
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", etcd.endpoint().trim_start_matches("http://")])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn finished(etcd: &EmbeddedEtcd, arguments: &[&str], input: &str) -> Output {
    let mut child = command(etcd, arguments).spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.expect("takes its input");
    drop(stdin);
    tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("in time").expect("ends")
}

/// What it prints, having succeeded.
async fn run_with(etcd: &EmbeddedEtcd, arguments: &[&str], input: &str) -> String {
    let output = finished(etcd, arguments, input).await;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "etcdctl {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

async fn run(etcd: &EmbeddedEtcd, arguments: &[&str]) -> String {
    run_with(etcd, arguments, "").await
}

/// What it complains about, having failed.
async fn complaint(etcd: &EmbeddedEtcd, arguments: &[&str]) -> String {
    let output = finished(etcd, arguments, "").await;
    assert!(!output.status.success(), "etcdctl {arguments:?} succeeds");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn etcdctl_puts_gets_and_deletes() {
    let etcd = start().await;
    assert_eq!(run(&etcd, &["put", "a", "1"]).await, "OK\n");
    assert_eq!(run(&etcd, &["put", "b", "2"]).await, "OK\n");
    assert_eq!(run(&etcd, &["put", "--prev-kv", "a", "3"]).await, "OK\na\n1\n");
    assert_eq!(run(&etcd, &["get", "a"]).await, "a\n3\n");
    assert_eq!(run(&etcd, &["get", "--rev", "2", "a"]).await, "a\n1\n");
    assert_eq!(run(&etcd, &["get", "--prefix", "", "--keys-only"]).await, "a\n\nb\n\n");
    let sorted = ["get", "--from-key", "a", "--sort-by", "MODIFY", "--order", "ASCEND", "--limit", "1"];
    assert_eq!(run(&etcd, &sorted).await, "b\n2\n");
    assert_eq!(run(&etcd, &["del", "--prefix", "", "--prev-kv"]).await, "2\na\n3\nb\n2\n");
    assert_eq!(run(&etcd, &["get", "a"]).await, "");
}

#[tokio::test]
async fn etcdctl_does_transactions() {
    let etcd = start().await;
    let request = "create(\"a\") = \"0\"\n\nput a first\n\nget a\n\n";
    assert_eq!(run_with(&etcd, &["txn"], request).await, "SUCCESS\n\nOK\n");
    assert_eq!(run_with(&etcd, &["txn"], request).await, "FAILURE\n\na\nfirst\n");
}

#[tokio::test]
async fn etcdctl_watches_the_past_and_the_present() {
    let etcd = start().await;
    run(&etcd, &["put", "k1", "old"]).await;
    let mut child =
        command(&etcd, &["watch", "--prefix", "k", "--rev", "2", "--prev-kv"]).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = async || {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time");
        line.expect("text").expect("not the end")
    };
    for expected in ["PUT", "k1", "old"] {
        assert_eq!(next().await, expected);
    }
    run(&etcd, &["put", "k1", "new"]).await;
    run(&etcd, &["del", "k1"]).await;
    for expected in ["PUT", "k1", "old", "k1", "new", "DELETE", "k1", "new", "k1", ""] {
        assert_eq!(next().await, expected);
    }
    child.kill().await.expect("ends");
    until("the watch is gone", || etcd.with_model(|model| model.watcher_count()) == 0).await;
}

#[tokio::test]
async fn etcdctl_hears_that_the_past_is_compacted() {
    let etcd = start().await;
    for value in ["1", "2", "3"] {
        run(&etcd, &["put", "a", value]).await;
    }
    assert_eq!(run(&etcd, &["compaction", "4"]).await, "compacted revision 4\n");
    let text = "etcdserver: mvcc: required revision has been compacted";
    assert!(complaint(&etcd, &["get", "--rev", "3", "a"]).await.contains(text));
    assert!(complaint(&etcd, &["watch", "--rev", "3", "a"]).await.contains(text));
    assert!(complaint(&etcd, &["compaction", "4"]).await.contains(text));
}

#[tokio::test]
async fn etcdctl_grants_lists_renews_and_revokes_leases() {
    let etcd = start().await;
    let granted = run(&etcd, &["lease", "grant", "60"]).await;
    let id = granted.split_whitespace().nth(1).expect("an id").to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL(60s)\n"));
    run(&etcd, &["put", "--lease", &id, "a", "1"]).await;
    assert_eq!(run(&etcd, &["lease", "list"]).await, format!("found 1 leases\n{id}\n"));
    let left = run(&etcd, &["lease", "timetolive", "--keys", &id]).await;
    assert!(left.contains("granted with TTL(60s)") && left.contains("attached keys([a])"), "{left}");
    let renewed = run(&etcd, &["lease", "keep-alive", "--once", &id]).await;
    assert_eq!(renewed, format!("lease {id} keepalived with TTL(60)\n"));
    assert_eq!(run(&etcd, &["lease", "revoke", &id]).await, format!("lease {id} revoked\n"));
    assert_eq!(run(&etcd, &["get", "a"]).await, "");
    let text = "requested lease not found";
    assert!(complaint(&etcd, &["lease", "revoke", &id]).await.contains(text));
}

#[tokio::test]
async fn etcdctl_asks_after_the_member() {
    let etcd = start().await;
    assert!(run(&etcd, &["endpoint", "status"]).await.contains("3.5.30"));
    assert!(complaint_or_output(&etcd, &["endpoint", "health"]).await.contains("is healthy"));
    assert!(run(&etcd, &["member", "list"]).await.contains(&etcd.endpoint()));
}

/// 3.4 prints the health on stderr.
async fn complaint_or_output(etcd: &EmbeddedEtcd, arguments: &[&str]) -> String {
    let output = finished(etcd, arguments, "").await;
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}
