//! Configuration that follows etcd: always there, and never worse than the last good one.

#[path = "conformance/runtime.rs"]
mod runtime;

use std::time::Duration;

use etcd_watch_client::{
    Client, CloseReason, Compact, Delete, Put, WatchConfig,
    config::{Config, ConfigBuilder, Ended, FollowError, Tree, json, json_tree},
};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion, wait_until},
    model::ModelConfig,
    proxy::{Cut, FaultProxy},
    server::EmbeddedEtcd,
};
use runtime::On;
use serde::Deserialize;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Limits {
    requests: u32,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Database {
    host: String,
    port: u16,
}

#[derive(Debug, Deserialize, PartialEq)]
struct App {
    db: Database,
    #[serde(default)]
    verbose: bool,
}

async fn put(client: &Client, key: &'static str, value: &'static str) {
    client.put(key, value).await.expect("it is put");
}

async fn changed<T>(config: &mut Config<T>) {
    timeout(DEADLINE, config.changed()).await.expect("in time").expect("it goes on");
}

async fn a_configuration_follows(on: On, endpoint: String) {
    let proxy = FaultProxy::start(endpoint.clone()).await.expect("it starts");
    let quick = WatchConfig::default().backoff(
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(100),
    );
    let client =
        on.builder().endpoints([proxy.endpoint()]).watch_config(quick).connect_lazy().expect("valid");
    let direct = on.builder().endpoints([endpoint]).connect_lazy().expect("valid");

    let mut limits: Config<Limits> = Config::value(&client, "limits", json).expect("it is followed");
    assert_eq!((limits.current(), limits.revision()), (None, None), "nothing is known yet");
    timeout(DEADLINE, limits.ready()).await.expect("in time").expect("it goes on");
    assert_eq!(limits.current(), None, "there is none");
    changed(&mut limits).await;

    put(&direct, "limits", r#"{"requests": 5}"#).await;
    put(&direct, "limits/not-it", r#"{"requests": 6}"#).await;
    changed(&mut limits).await;
    assert_eq!(*limits.current().expect("a value"), Limits { requests: 5 });

    // What does not decode changes nothing, and is told.
    put(&direct, "limits", "nonsense").await;
    changed(&mut limits).await;
    assert_eq!(*limits.current().expect("the last good one"), Limits { requests: 5 });
    let error = limits.error().expect("it doesn't decode");
    assert!(error.key == "limits" && Some(error.revision) == limits.revision(), "{error}");
    assert_eq!(limits.decode_errors(), 1);

    // Missed while there was no connection, and compacted: it is what is in etcd, at once.
    proxy.refuse();
    proxy.cut_all(Cut::Reset);
    put(&direct, "limits", r#"{"requests": 7}"#).await;
    let revision = direct.put("other", "").await.expect("it is put").revision();
    direct.compact(Compact::before(revision).physical()).await.expect("it is compacted");
    proxy.restore();
    changed(&mut limits).await;
    assert_eq!(*limits.current().expect("a value"), Limits { requests: 7 });
    assert!(limits.error().is_none());

    let kept: Config<Limits> = ConfigBuilder::key("limits")
        .keep_deleted(true)
        .start(&client, |tree: &Tree| json(tree.get("").expect("the key itself")))
        .expect("it is followed");
    timeout(DEADLINE, kept.ready()).await.expect("in time").expect("it goes on");
    direct.delete(Delete::key("limits")).await.expect("it is deleted");
    changed(&mut limits).await;
    assert_eq!(limits.current(), None);
    let mut later = kept.clone();
    let deleted = limits.revision();
    while later.revision() < deleted {
        changed(&mut later).await;
    }
    assert_eq!(*later.current().expect("it is kept"), Limits { requests: 7 });

    // A tree, changed by one transaction.
    put(&direct, "app/db/host", r#""one""#).await;
    let mut app: Config<App> = Config::tree(&client, "app/", json_tree).expect("it is followed");
    changed(&mut app).await;
    assert!(app.current().is_none() && app.error().expect("a field is missing").to_string().contains("port"));
    put(&direct, "app/db/port", "5432").await;
    changed(&mut app).await;
    let current = app.current().expect("it is complete");
    assert_eq!((&current.db.host[..], current.db.port, current.verbose), ("one", 5432, false));
    let txn = etcd_watch_client::Txn::new()
        .and_then(Put::new("app/db/host", r#""two""#))
        .and_then(Put::new("app/db/port", "1"))
        .and_then(Put::new("app/verbose", "true"));
    direct.txn(txn).await.expect("it is made");
    changed(&mut app).await;
    let expected = App { db: Database { host: "two".into(), port: 1 }, verbose: true };
    assert_eq!(*app.current().expect("all of it at once"), expected);

    // The end is told last, and the value stays.
    put(&direct, "app/verbose", "false").await;
    let whole = || app.current().is_some_and(|app| !app.verbose);
    wait_until("it has followed", DEADLINE, whole).await;
    client.close().await;
    changed(&mut app).await;
    let end = timeout(DEADLINE, app.changed()).await.expect("in time");
    assert_eq!(end, Err(Ended::Watch(CloseReason::ShutDown)));
    assert!(app.current().is_some_and(|app| !app.verbose));
}

/// Clones share a watch, and the last of them ends it.
async fn nothing_is_left_behind(on: On) {
    let server = EmbeddedEtcd::start(ModelConfig::default()).await.expect("it starts");
    let client = on.builder().endpoints([server.endpoint()]).connect_lazy().expect("valid");
    let config: Config<Limits> = Config::value(&client, "limits", json).expect("it is followed");
    let clone = config.clone();
    let watchers = || server.with_model(|model| model.watcher_count());
    wait_until("it watches", DEADLINE, || watchers() == 1).await;
    drop(config);
    assert_eq!(watchers(), 1);
    drop(clone);
    wait_until("it watches no more", DEADLINE, || watchers() == 0).await;
}

/// A decoder with a mistake in it.
fn decode_or_panic(value: &[u8]) -> Result<Limits, serde_json::Error> {
    assert_ne!(value, b"panic", "this is meant to panic");
    json(value)
}

async fn a_decoder_that_panics_ends_it(on: On) {
    let server = EmbeddedEtcd::start(ModelConfig::default()).await.expect("it starts");
    let client = on.builder().endpoints([server.endpoint()]).connect_lazy().expect("valid");
    put(&client, "limits", r#"{"requests": 5}"#).await;
    let mut limits: Config<Limits> =
        Config::value(&client, "limits", decode_or_panic).expect("it is followed");
    timeout(DEADLINE, limits.ready()).await.expect("in time").expect("it goes on");
    changed(&mut limits).await;
    let waiting = tokio::spawn({
        let mut limits = limits.clone();
        async move { limits.changed().await }
    });
    put(&client, "limits", "panic").await;
    let end = timeout(DEADLINE, waiting).await.expect("in time").expect("it runs");
    assert_eq!(end, Err(Ended::DecoderPanicked));
    assert_eq!(timeout(DEADLINE, limits.changed()).await.expect("in time"), Err(Ended::DecoderPanicked));
    assert_eq!(*limits.current().expect("the last good one"), Limits { requests: 5 });

    let first: Config<Limits> = Config::value(&client, "limits", decode_or_panic).expect("it is followed");
    let end = timeout(DEADLINE, first.ready()).await.expect("in time");
    assert_eq!((end, first.current()), (Err(Ended::DecoderPanicked), None));
    // The client serves others still.
    put(&client, "limits", r#"{"requests": 6}"#).await;
    let next: Config<Limits> = Config::value(&client, "limits", decode_or_panic).expect("it is followed");
    timeout(DEADLINE, next.ready()).await.expect("in time").expect("it goes on");
}

#[tokio::test]
async fn a_runtime_that_is_shut_down_ends_it() {
    let server = EmbeddedEtcd::start(ModelConfig::default()).await.expect("it starts");
    let endpoint = server.endpoint();
    // One thread, so that all of it ends at once.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("tokio starts");
    let following = runtime.spawn(async move {
        let client = etcd_watch_tokio::builder().endpoints([endpoint]).connect_lazy().expect("valid");
        let limits: Config<Limits> = Config::value(&client, "limits", json).expect("it is followed");
        timeout(DEADLINE, limits.ready()).await.expect("in time").expect("it goes on");
        (client, limits)
    });
    let (client, mut limits) = following.await.expect("it runs");
    changed(&mut limits).await;
    runtime.shutdown_background();
    assert_eq!(timeout(DEADLINE, limits.changed()).await.expect("in time"), Err(Ended::Stopped));
    // One that is started too late ends at once.
    if let Ok(late) = Config::<Limits>::value(&client, "limits", json) {
        timeout(DEADLINE, late.ready()).await.expect("in time").expect_err("nothing follows");
    }
}

async fn nothing_is_followed_by_mistake(on: On) {
    let server = EmbeddedEtcd::start(ModelConfig::default()).await.expect("it starts");
    let client = on.builder().endpoints([server.endpoint()]).connect_lazy().expect("valid");
    let refused = Config::<Limits>::value(&client, "", json).err();
    assert_eq!(refused, Some(FollowError::EmptyKey));
    let refused = Config::<Limits>::tree(&client, "", json_tree).err();
    assert_eq!(refused, Some(FollowError::EmptyPrefix));
    let within = client.namespaced("app/").expect("a prefix");
    assert_eq!(Config::<Limits>::tree(&within, "", json_tree).err(), Some(FollowError::EmptyPrefix));

    // Who means it says so.
    put(&client, "app/requests", "8").await;
    put(&client, "other", "9").await;
    let all = ConfigBuilder::all_keys().start(&within, json_tree::<Limits>).expect("it is followed");
    timeout(DEADLINE, all.ready()).await.expect("in time").expect("it goes on");
    assert_eq!(all.current().as_deref(), Some(&Limits { requests: 8 }), "{all:?}");
    client.close().await;
    let refused = Config::<Limits>::value(&client, "limits", json).err();
    assert!(matches!(refused, Some(FollowError::Refused(_))), "{refused:?}");
}

async fn on_the_model(on: On) {
    let server = EmbeddedEtcd::start(ModelConfig::default()).await.expect("it starts");
    a_configuration_follows(on, server.endpoint()).await;
}

async fn on_real_servers(on: On) {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
        a_configuration_follows(on, server.endpoint()).await;
    }
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
            async fn a_decoder_that_panics_ends_it() {
                super::a_decoder_that_panics_ends_it($on).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn nothing_is_followed_by_mistake() {
                super::nothing_is_followed_by_mistake($on).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn nothing_is_left_behind() {
                super::nothing_is_left_behind($on).await;
            }
        }
    )*};
}

on! {
    tokio_runtime: crate::On::Tokio;
    smol_runtime: crate::On::Smol;
    async_std_runtime: crate::On::AsyncStd;
}
