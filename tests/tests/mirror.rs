//! A mirror's fold is the store's state at every revision it announces, whatever happens to connections, history
//! and the store.

#[path = "conformance/runtime.rs"]
mod runtime;

use std::time::Duration;

use etcd_watch_client::{
    Client, CloseReason, Compact, Delete, Get, KeyRange, ListReason, MirrorEvent, MirrorRequest, Put, Txn,
    WatchConfig,
};
use etcd_watch_testkit::{
    folding::{Folding, Held},
    harness::{EtcdServer, EtcdVersion, wait_until_blocking},
    model::ModelConfig,
    proxy::{Cut, FaultProxy},
    server::EmbeddedEtcd,
};
use runtime::On;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

fn folding(client: &Client, request: MirrorRequest) -> Folding {
    Folding::open(client, request, DEADLINE)
}

/// Folds until it is at some revision, and compares with the store at that revision.
async fn check(fold: &mut Folding, direct: &Client, through: i64) {
    let at = fold.through(through).await;
    let now = direct.get(Get::prefix("m/").revision(at)).await.expect("it is read");
    let stored: Held =
        now.kvs().iter().map(|kv| (kv.key[..].into(), (kv.value[..].into(), kv.mod_revision))).collect();
    assert_eq!(fold.held, stored, "at revision {at}");
}

async fn put(client: &Client, key: String, value: &str) -> i64 {
    client.put(key, value.to_owned()).await.expect("it is put").revision()
}

/// Some hundred keys come, change and go; the last revision.
async fn write(client: &Client, round: usize) -> i64 {
    for index in 0..60 {
        put(client, format!("m/{:03}", (round * 37 + index * 7) % 200), &format!("{round}.{index}")).await;
    }
    let range = KeyRange::range(format!("m/{:03}", round * 20), format!("m/{:03}", round * 20 + 9));
    let mut txn = Txn::new().and_then(Delete::new(range.expect("a range")));
    for index in 0..5 {
        txn = txn.and_then(Put::new(format!("m/{:03}", 300 + round * 5 + index), "at once"));
    }
    client.txn(txn).await.expect("it is made");
    put(client, "other".into(), "not mirrored").await;
    put(client, "m/last".into(), &round.to_string()).await
}

async fn a_mirror_follows_through_everything(on: On, endpoint: String) {
    let proxy = FaultProxy::start(endpoint.clone()).await.expect("it starts");
    let config = WatchConfig::default().backoff(
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(100),
    );
    let client =
        on.builder().endpoints([proxy.endpoint()]).watch_config(config).connect_lazy().expect("valid");
    let direct = on.builder().endpoints([endpoint]).connect_lazy().expect("valid");

    let last = write(&direct, 0).await;
    // Every connection is cut within the list: 1,500 bytes are less than it.
    proxy.cut_each_after_bytes(1_500, Cut::Reset);
    let mut fold = folding(&client, MirrorRequest::new(KeyRange::prefix("m/")).page_bytes(300));
    check(&mut fold, &direct, last).await;
    assert!(proxy.cuts() > 0);
    // And the watch again and again, though not before it has brought what it has to catch up with.
    proxy.cut_each_after_bytes(20_000, Cut::Reset);
    for round in 1..4 {
        proxy.cut_all(Cut::Close);
        let last = write(&direct, round).await;
        check(&mut fold, &direct, last).await;
    }
    proxy.restore();
    assert_eq!(fold.reasons, [ListReason::First], "cuts alone are no reason to list again");

    // What it needs is compacted while it can't be reached; keys are deleted meanwhile.
    for round in 4..7 {
        proxy.refuse();
        proxy.cut_all(Cut::Close);
        direct.delete(Delete::prefix("m/1")).await.expect("they are deleted");
        let last = write(&direct, round).await;
        direct.compact(Compact::before(last).physical()).await.expect("it is compacted");
        put(&direct, "m/last".into(), "after the compaction").await;
        let deletes = fold.deletes;
        proxy.restore();
        check(&mut fold, &direct, last + 1).await;
        assert!(fold.deletes > deletes, "deletes that are not in history any more are handed out");
        assert_eq!(fold.reasons.last(), Some(&ListReason::Compacted));
    }

    // Another one, on the same keys from a client that sees nothing else.
    let within = client.namespaced("m/").expect("a prefix");
    let mut inner = folding(&within, MirrorRequest::new(KeyRange::all()).keep_index(true));
    let last = put(&direct, "m/last".into(), "for both").await;
    inner.through(last).await;
    check(&mut fold, &direct, last).await;
    let stripped: Held = fold.held.iter().map(|(key, value)| (key[2..].into(), value.clone())).collect();
    assert_eq!(inner.held, stripped);

    client.close().await;
    let end = loop {
        match timeout(DEADLINE, fold.mirror.next()).await.expect("in time") {
            Some(Ok(_)) => {}
            Some(Err(end)) => break end.into_reason(),
            None => panic!("it says why"),
        }
    };
    assert_eq!(end, CloseReason::ShutDown);
    assert!(fold.mirror.next().await.is_none());
}

async fn on_the_model(on: On) {
    let server = EmbeddedEtcd::start(ModelConfig::default()).await.expect("it starts");
    a_mirror_follows_through_everything(on, server.endpoint()).await;
}

async fn on_real_servers(on: On) {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
        a_mirror_follows_through_everything(on, server.endpoint()).await;
    }
}

/// A client that is closed while the mirror has nobody to list from.
async fn a_mirror_without_a_server_ends_with_its_client(on: On) {
    let client = on.builder().endpoints(["http://127.0.0.1:1"]).connect_lazy().expect("valid");
    let mut mirror = client.mirror(MirrorRequest::new(KeyRange::all())).expect("it is opened");
    let early = timeout(Duration::from_millis(100), mirror.next()).await;
    assert!(early.is_err(), "{early:?}");
    client.close().await;
    let end = timeout(DEADLINE, mirror.next()).await.expect("in time").expect("the reason");
    assert_eq!(end.expect_err("it is over").into_reason(), CloseReason::ShutDown);
    assert!(client.mirror(MirrorRequest::new(KeyRange::all())).is_err());
}

macro_rules! on {
    ($($module:ident: $on:expr;)*) => {$(
        mod $module {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_the_model() {
                super::on_the_model($on).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_real_servers() {
                super::on_real_servers($on).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_mirror_without_a_server_ends_with_its_client() {
                super::a_mirror_without_a_server_ends_with_its_client($on).await;
            }
        }
    )*};
}

on! {
    tokio_runtime: crate::On::Tokio;
    smol_runtime: crate::On::Smol;
    async_std_runtime: crate::On::AsyncStd;
}

/// The server works on the next page while the consumer computes and lets no other task of its thread run.
#[tokio::test]
async fn the_next_page_has_been_asked_for_when_the_consumer_gets_one() {
    let etcd = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let client = etcd_watch_tokio::connect([etcd.endpoint()]).await.expect("it connects");
    for key in ["m/1", "m/2", "m/3"] {
        put(&client, key.into(), "value").await;
    }
    let asked = || etcd.calls_begun("Range").expect("etcd counts its calls");
    let before = asked();
    // A page of each key.
    let request = MirrorRequest::new(KeyRange::prefix("m/")).page_bytes(1);
    let mut mirror = client.mirror(request).expect("valid");
    let part = loop {
        match mirror.try_next().await.expect("it lists").expect("it goes on") {
            MirrorEvent::Snapshot(part) => break part,
            event => assert!(matches!(event, MirrorEvent::Listing { .. }), "{event:?}"),
        }
    };
    assert_eq!(part.puts().len(), 1);
    // Blocks the only thread that the client has.
    wait_until_blocking("the second page is asked for", DEADLINE, || asked() >= before + 2);
}
