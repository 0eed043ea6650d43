//! `etcd-watch watch` on a real etcd 3.5, through a proxy that cuts the connection every 200 ms: it prints
//! exactly the store's history.

#![allow(clippy::print_stdout, reason = "a test says what it has seen")]

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion, wait_until},
    proxy::{Cut, FaultProxy},
};
use etcd_watch_tokio::{Client, Delete, Put, Txn};
use serde_json::Value;
use tokio::{process::Command, task::JoinSet, time::timeout};

const KEYS: usize = 5_000;
const WRITERS: usize = 8;
/// Every so many keys, a transaction over several.
const TXN_EVERY: usize = 50;
const TXN_KEYS: usize = 10;
const CUT_EVERY: Duration = Duration::from_millis(200);
const DEADLINE: Duration = Duration::from_secs(120);

/// One change, as the writer knows it: revision, key, and the value if it was a put.
type Change = (i64, String, Option<String>);

/// Writes this writer's share of the keys, and returns what it did.
async fn write(client: Client, writer: usize) -> Vec<Change> {
    let mut changes = Vec::new();
    for index in (writer..KEYS).step_by(WRITERS) {
        let (key, value) = (format!("k{index:04}"), format!("value {index}"));
        let put = client.put(key.clone(), value.clone()).await.expect("it is put");
        changes.push((put.revision(), key, Some(value)));
        if index % TXN_EVERY == 0 {
            let keys = (0..TXN_KEYS).map(|part| format!("kt{writer}/{part}"));
            let txn =
                keys.clone().fold(Txn::new(), |txn, key| txn.and_then(Put::new(key, index.to_string())));
            let txn = txn.and_then(Delete::key(format!("k{index:04}")));
            let done = client.txn(txn).await.expect("the transaction is made");
            let revision = done.revision();
            changes.extend(keys.map(|key| (revision, key, Some(index.to_string()))));
            changes.push((revision, format!("k{index:04}"), None));
        }
    }
    changes
}

fn text(value: &Value) -> String {
    let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).expect("bytes are in base64");
    String::from_utf8(bytes).expect("the test writes text")
}

/// The changes that were printed, one response a line.
fn printed(output: &Output) -> Vec<Vec<Change>> {
    let lines = str::from_utf8(&output.stdout).expect("JSON is text").lines();
    let response = |line: &str| -> Vec<Change> {
        let response: Value = serde_json::from_str(line).expect("each line is a JSON object");
        let events = response["Events"].as_array().cloned().unwrap_or_default();
        let change = |event: &Value| {
            let kv = &event["kv"];
            let is_delete = event["type"].as_i64() == Some(1);
            let revision = kv["mod_revision"].as_i64().expect("every event has a revision");
            (revision, text(&kv["key"]), (!is_delete).then(|| text(&kv["value"])))
        };
        events.iter().map(change).collect()
    };
    lines.map(response).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_prints_exactly_the_stores_history_through_a_cut_every_200_ms() {
    let server = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let proxy = FaultProxy::start(server.endpoint()).await.expect("the proxy starts");
    let client = etcd_watch_tokio::connect([server.endpoint()]).await.expect("a client");

    let first = client.put("other", "").await.expect("it is put").revision();
    // Known beforehand: each key is a revision, each transaction another, and one more at the end.
    let until = first + i64::try_from(KEYS + KEYS / TXN_EVERY).expect("small") + 1;
    let child = Command::new(env!("CARGO_BIN_EXE_etcd-watch"))
        .args(["watch", "--prefix", "k", "--rev", "1", "-w", "json"])
        .args(["--endpoints", &proxy.endpoint(), "--until-rev", &until.to_string()])
        .env_remove("ETCDCTL_ENDPOINTS")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let watching = || server.watcher_count().is_ok_and(|count| count > 0);
    wait_until("the command watches", DEADLINE, watching).await;

    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(client.clone(), writer));
    }
    let mut expected: Vec<Change> = Vec::new();
    let mut cut = tokio::time::interval(CUT_EVERY);
    loop {
        tokio::select! {
            written = writers.join_next() => match written {
                Some(changes) => expected.extend(changes.expect("the writer writes")),
                None => break,
            },
            _ = cut.tick() => { proxy.cut_all(Cut::Reset); }
        }
    }
    // By revision; within one, as the transaction made them.
    expected.sort_by_key(|&(revision, ..)| revision);
    let last = client.put("k/end", "").await.expect("it is put").revision();
    assert_eq!(last, until);
    expected.push((last, "k/end".to_owned(), Some(String::new())));

    let mut output = Box::pin(child.wait_with_output());
    let output = loop {
        tokio::select! {
            output = timeout(DEADLINE, &mut output) => break output.expect("it ends in time").expect("it ran"),
            _ = cut.tick() => { proxy.cut_all(Cut::Reset); }
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let responses = printed(&output);
    println!("{} events in {} responses through {} cuts", expected.len(), responses.len(), proxy.cuts());
    assert!(proxy.cuts() >= 5, "only {} cuts", proxy.cuts());
    let split = responses.windows(2).find(|pair| {
        let revision = |change: Option<&Change>| change.map(|&(revision, ..)| revision);
        let (before, after) = (revision(pair[0].last()), revision(pair[1].first()));
        before.is_some() && before == after
    });
    assert_eq!(split, None, "a revision is split over two responses");
    let received: Vec<Change> = responses.into_iter().flatten().collect();
    assert_eq!(received.len(), expected.len());
    assert_eq!(received, expected);
}
