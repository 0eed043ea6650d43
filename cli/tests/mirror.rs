//! `etcd-watch mirror` against the embedded etcd, directly and through a proxy.

mod common;

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{PATIENCE, Running, World, bare, output, text};
use etcd_watch_testkit::{
    harness::wait_until,
    proxy::{Cut, FaultProxy},
};
use etcd_watch_tokio::proto::etcdserverpb::CompactionRequest;
use serde_json::Value;

/// What follows the lines, folded as the help text says.
#[derive(Default)]
struct Fold {
    keys: BTreeMap<String, String>,
    /// 0 while keys are listed.
    synced: i64,
    listings: Vec<String>,
}

impl Fold {
    fn line(&mut self, line: &str) {
        let event: Value = serde_json::from_str(line).expect("each line is an object");
        let field = |name: &str| {
            let bytes = STANDARD.decode(event[name].as_str().unwrap_or_default()).expect("base64");
            String::from_utf8(bytes).expect("the test writes text")
        };
        let revision = event["revision"].as_i64().expect("every event has a revision");
        match event["type"].as_str().expect("every event has a type") {
            "listing" => {
                self.synced = 0;
                self.listings.push(event["reason"].as_str().expect("a reason").to_owned());
            }
            "snapshot" | "put" => drop(self.keys.insert(field("key"), field("value"))),
            "delete" => drop(self.keys.remove(&field("key"))),
            "synced" => self.synced = revision,
            other => panic!("an event of type {other}"),
        }
    }

    async fn until(&mut self, tool: &mut Running, reached: impl Fn(&Self) -> bool) {
        while !reached(self) {
            self.line(&tool.line().await);
        }
    }

    fn is(&self, expected: &[(&str, &str)]) -> bool {
        self.keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).eq(expected.iter().copied())
    }
}

#[tokio::test]
async fn keys_are_printed_as_they_are_and_then_as_they_change() {
    let world = World::new().await;
    world.put("a/1", "x");
    world.put("b", "other");
    let mut tool = Running::start(world.tool(&["mirror", "--prefix", "a/", "-w", "json"]));
    assert_eq!(
        tool.lines(3).await,
        [
            r#"{"type":"listing","revision":3,"reason":"the first list"}"#,
            r#"{"type":"snapshot","revision":3,"key":"YS8x","value":"eA==","create_revision":2,"mod_revision":2,"version":1}"#,
            r#"{"type":"synced","revision":3}"#,
        ]
    );
    world.put("a/2", "y");
    world.delete("a/1");
    assert_eq!(
        tool.lines(2).await,
        [
            r#"{"type":"put","revision":4,"key":"YS8y","value":"eQ==","create_revision":4,"mod_revision":4,"version":1}"#,
            r#"{"type":"delete","revision":5,"key":"YS8x"}"#,
        ]
    );
}

#[tokio::test]
async fn until_a_revision_it_ends_by_itself() {
    let world = World::new().await;
    for value in ["1", "2"] {
        world.put("a", value);
        world.put("b", value);
    }
    let output = world.run(&["mirror", "a", "--until-rev", "5"]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stdout), "listing: 5 (the first list)\nSNAPSHOT\na\n2\nsynced: 5\n");

    let mut tool = Running::start(world.tool(&["mirror", "a", "--until-rev", "7", "--hex"]));
    tool.lines(5).await;
    world.delete("a");
    // What comes to 7 is another key's: progress tells.
    world.put("b", "3");
    let (status, lines, stderr) = tool.end().await;
    assert!(status.success(), "{stderr}");
    assert_eq!(lines, ["DELETE", r"\x61", "", "synced: 7"]);
}

#[tokio::test]
async fn history_that_is_lost_behind_a_cut_is_made_up_for_by_a_list() {
    let world = World::new().await;
    for key in ["k1", "k2", "k3"] {
        world.put(key, "1");
    }
    let proxy = FaultProxy::start(world.etcd.endpoint()).await.expect("a proxy");
    let arguments = ["mirror", "--prefix", "k", "-w", "json", "--endpoints", &proxy.endpoint()];
    let mut tool = Running::start(bare(&arguments));
    let mut fold = Fold::default();
    fold.until(&mut tool, |fold| fold.synced == 4).await;
    assert!(fold.is(&[("k1", "1"), ("k2", "1"), ("k3", "1")]), "{:?}", fold.keys);

    // A cut alone is not seen.
    world.until_watchers(1).await;
    proxy.cut_all(Cut::Reset);
    world.put("k4", "1");
    fold.until(&mut tool, |fold| fold.keys.contains_key("k4")).await;
    assert_eq!(fold.listings.len(), 1);

    proxy.refuse();
    proxy.cut_all(Cut::Reset);
    wait_until("the watch is gone", PATIENCE, || world.watchers() == 0).await;
    world.put("k1", "2");
    world.delete("k2");
    let revision = world.put("k5", "1");
    let compact = CompactionRequest { revision, physical: false };
    world.etcd.with_model(|model| model.compact(&compact).expect("it is compacted"));
    proxy.restore();
    fold.until(&mut tool, |fold| fold.synced >= revision).await;
    assert_eq!(fold.listings, ["the first list", "history was compacted"]);
    assert!(fold.is(&[("k1", "2"), ("k3", "1"), ("k4", "1"), ("k5", "1")]), "{:?}", fold.keys);

    let last = world.put("k3", "3");
    fold.until(&mut tool, |fold| fold.keys.get("k3").is_some_and(|value| value == "3")).await;
    assert!(last > revision);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_real_etcd_what_is_printed_leads_to_the_store_through_cuts_and_compaction() {
    use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};
    use etcd_watch_tokio::Get;
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
        let client = etcd_watch_tokio::connect([server.endpoint()]).await.expect("a client");
        let proxy = FaultProxy::start(server.endpoint()).await.expect("a proxy");
        let arguments = ["mirror", "--prefix", "k", "-w", "json", "--endpoints", &proxy.endpoint()];
        let mut tool = Running::start(bare(&arguments));
        let mut fold = Fold::default();
        fold.until(&mut tool, |fold| fold.synced > 0).await;
        let mut rng = fastrand::Rng::with_seed(5);
        for step in 0..1000 {
            let key = format!("k{}", rng.u32(..100));
            if rng.u32(..4) == 0 {
                client.delete(key).await.expect("it is deleted");
            } else {
                client.put(key, step.to_string()).await.expect("it is put");
            }
            match step {
                // Away for a while, in which its history goes.
                500 => {
                    wait_until("it is connected", PATIENCE, || proxy.connections() > 0).await;
                    proxy.refuse();
                    proxy.cut_all(Cut::Reset);
                }
                600 => {
                    let now = client.put("k", "600").await.expect("it is put");
                    let revision = now.revision();
                    client.compact(revision).await.expect("it is compacted");
                    proxy.restore();
                }
                // Once it is back from the cut before.
                _ if step % 50 == 0 && step != 550 => {
                    wait_until("it is connected", PATIENCE, || proxy.connections() > 0).await;
                    proxy.cut_all(Cut::Reset);
                }
                _ => {}
            }
        }
        client.put("k/end", "1").await.expect("it is put");
        fold.until(&mut tool, |fold| fold.synced > 0 && fold.keys.contains_key("k/end")).await;
        let there = client.get(Get::prefix("k")).await.expect("a read").into_kvs();
        let there: BTreeMap<_, _> = there.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect();
        assert_eq!(fold.keys, there);
        assert_eq!(fold.listings, ["the first list", "history was compacted"]);
        assert!(proxy.cuts() >= 18, "only {} cuts", proxy.cuts());
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_killed_costs_it_nothing() {
    use etcd_watch_testkit::harness::{EtcdCluster, EtcdVersion};
    use etcd_watch_tokio::{CallError, Get};
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let mut cluster = EtcdCluster::builder(version).start_async().await.expect("the cluster starts");
        let client = etcd_watch_tokio::connect(cluster.endpoints()).await.expect("a client");
        let put = async |key: String, value: &str| {
            while let Err(error) = client.put(key.clone(), value.to_owned()).await {
                // Without a leader for a moment, it isn't known what became of it.
                let may_pass = matches!(error, CallError::MaybeExecuted { .. } | CallError::Timeout { .. });
                assert!(may_pass, "{error}");
            }
        };
        for index in 0..100 {
            put(format!("k{index:02}"), "before").await;
        }
        let endpoints = cluster.endpoints().join(",");
        let arguments = ["mirror", "--prefix", "k", "-w", "json", "--endpoints", &endpoints];
        let mut tool = Running::start(bare(&arguments));
        let mut fold = Fold::default();
        fold.until(&mut tool, |fold| fold.synced > 0).await;

        let follows =
            |member: &usize| cluster.member(*member).watch_stream_count().is_ok_and(|count| count > 0);
        let mut followed = None;
        wait_until("a member has its watch", PATIENCE, || {
            followed = (0..cluster.size()).find(follows);
            followed.is_some()
        })
        .await;
        cluster.member_mut(followed.expect("there is one")).kill();
        for index in (0..100).step_by(3) {
            put(format!("k{index:02}"), "after").await;
        }
        client.delete("k01").await.expect("it is deleted");
        put("k/end".into(), "1").await;
        fold.until(&mut tool, |fold| fold.keys.contains_key("k/end")).await;
        let there = client.get(Get::prefix("k")).await.expect("a read").into_kvs();
        let there: BTreeMap<_, _> = there.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect();
        assert_eq!(fold.keys, there);
        assert_eq!(fold.listings, ["the first list"]);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_ends_it_cleanly() {
    use rustix::process::Signal;
    for until in [false, true] {
        let world = World::new().await;
        world.put("a", "1");
        let mut arguments = vec!["mirror", "a"];
        if until {
            arguments.extend(["--until-rev", "100"]);
        }
        let mut tool = Running::start(world.tool(&arguments));
        assert_eq!(tool.lines(5).await.last().map(String::as_str), Some("synced: 2"));
        tool.signal(Signal::INT);
        let (status, _, stderr) = tool.end().await;
        assert_eq!((common::signal_of(status), stderr.as_str()), (Some(Signal::INT), ""));
        world.until_watchers(0).await;
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let to = ["--to", "127.0.0.1:1"];
    let cases: [(&[&str], &str); 9] = [
        (&["mirror"], "<KEY>"),
        (&["mirror", "a", "-w", "fields"], "no output format fields"),
        (&["mirror", "b", "a"], "must be above"),
        (&["mirror", "a", "--until-rev", "0"], "--until-rev"),
        (&["mirror", "a", "--prefix", "--dest-prefix", "b"], "--to"),
        (&["mirror", "a", "--dest-prefix", "b"], "--prefix"),
        (&["mirror", "a", "--delete-extra"], "--to"),
        (&["mirror", "a", "--max-txn-ops", "1"], "--max-txn-ops"),
        (&["mirror", "a", "--prefix", "--dest-prefix", "b", "--no-dest-prefix"], "cannot be used with"),
    ];
    for (arguments, expected) in cases {
        let output = output(bare(arguments)).await;
        assert!(!output.status.success(), "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{arguments:?}: {}", text(&output.stderr));
    }
    let world = World::new().await;
    let cases: [(&[&str], &str); 3] = [
        (&["--checkpoint", "a/b"], "give another with --checkpoint"),
        (&["--dest-cert", "x"], "--dest-cert is given without --dest-key"),
        (&["--dest-password", "x"], "--dest-password is given without --dest-user"),
    ];
    for (flags, expected) in cases {
        let output = world.run(&[&["mirror", "--prefix", "a"][..], &to, flags].concat()).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(expected), "{flags:?}: {}", text(&output.stderr));
    }
}
