//! A client that sees only the keys under a prefix, on every kind of server.

use std::time::Duration;

use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion},
    model::ModelConfig,
    server::EmbeddedEtcd,
};
use etcd_watch_tokio::{
    Client, Compare, Delete, EmptyNamespace, EventKind, Get, KeyRange, LeaseTimeToLive, Put, Txn, TxnResult,
    WatchRequest,
};

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn on_the_model() {
    let server = EmbeddedEtcd::start(ModelConfig::default()).await.expect("it starts");
    what_is_under_the_prefix_is_all_there_is(server.endpoint()).await;
}

#[tokio::test]
async fn on_real_servers() {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
        what_is_under_the_prefix_is_all_there_is(server.endpoint()).await;
    }
}

async fn what_is_under_the_prefix_is_all_there_is(endpoint: String) {
    let whole = etcd_watch_tokio::connect([endpoint]).await.expect("a client");
    assert_eq!(whole.namespaced("").err(), Some(EmptyNamespace));
    let outer = whole.namespaced("app/").expect("a prefix");
    let inner = outer.namespaced("db/").expect("a prefix");
    assert_eq!(inner.namespace(), "app/db/");

    // Neighbours that a careless range would catch.
    for key in ["app", "app/", "app/db", "app/db/", "app/db0", "app/dc", "b", "\0"] {
        whole.put(key, "other").await.expect("it is put");
    }
    let keys = async |client: &Client, get: Get| {
        let response = client.get(get).await.expect("it is read");
        let keys = response.kvs().iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned());
        keys.collect::<Vec<_>>()
    };
    assert!(keys(&inner, Get::new(KeyRange::all())).await.is_empty());

    let mut watch =
        inner.watch(WatchRequest::new(KeyRange::all()).start_revision(1).prev_kv(true)).expect("open");
    let mut one = inner.watch(WatchRequest::new(KeyRange::key("a")).start_revision(1)).expect("open");
    inner.put("a", "1").await.expect("it is put");
    inner.put("b", "2").await.expect("it is put");
    assert_eq!(keys(&inner, Get::prefix("")).await, ["a", "b"]);
    assert_eq!(keys(&inner, Get::new(KeyRange::from_key("b"))).await, ["b"]);
    assert_eq!(keys(&outer, Get::prefix("db/a")).await, ["db/a"]);
    assert_eq!(keys(&whole, Get::key("app/db/a")).await, ["app/db/a"]);

    let txn = Txn::new()
        .when(Compare::value("a").equals("1"))
        .and_then(Put::new("a", "3").prev_kv(true))
        .and_then(Get::prefix(""))
        .and_then(Delete::key("b").prev_kv(true));
    let answer = inner.txn(txn).await.expect("it is made");
    assert!(answer.succeeded());
    let mut seen = Vec::new();
    for result in answer.into_results() {
        match result {
            TxnResult::Put(put) => seen.extend(put.into_prev().map(|kv| kv.key)),
            TxnResult::Get(get) => seen.extend(get.into_kvs().into_iter().map(|kv| kv.key)),
            TxnResult::Delete(delete) => seen.extend(delete.into_prevs().into_iter().map(|kv| kv.key)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["a", "a", "b", "b"]);

    let lease = whole.lease_grant(Duration::from_secs(60)).await.expect("it is granted").id();
    inner.put_with(Put::new("leased", "").lease(lease)).await.expect("it is put");
    whole.put_with(Put::new("leased", "").lease(lease)).await.expect("it is put");
    let leased = inner.lease_time_to_live(LeaseTimeToLive::new(lease).keys(true)).await.expect("it is told");
    assert_eq!(leased.expect("it is there").keys, ["leased"]);

    let deleted = inner.delete(KeyRange::all()).await.expect("they are deleted").deleted();
    assert_eq!(deleted, 2, "and nobody else's");
    assert_eq!(keys(&whole, Get::new(KeyRange::all()).keys_only(true)).await.len(), 9);

    let mut events = Vec::new();
    while events.len() < 6 {
        let next = tokio::time::timeout(DEADLINE, watch.next()).await.expect("in time");
        for event in next.expect("it goes on").expect("it does not end").events() {
            let prev = event.prev().map(|kv| String::from_utf8_lossy(kv.key()).into_owned());
            events.push((event.kind(), String::from_utf8_lossy(event.key()).into_owned(), prev));
        }
    }
    let event = |kind, key: &str, prev: bool| (kind, key.to_owned(), prev.then(|| key.to_owned()));
    use EventKind::{Delete as Deleted, Put as Was};
    let expected = [
        event(Was, "a", false),
        event(Was, "b", false),
        event(Was, "a", true),
        event(Deleted, "b", true),
        event(Was, "leased", false),
        event(Deleted, "a", true),
    ];
    assert_eq!(events[..6], expected);
    let first = tokio::time::timeout(DEADLINE, one.next()).await.expect("in time");
    let first = first.expect("it goes on").expect("it does not end");
    assert!(first.events().all(|event| event.key() == b"a" && event.kv().key_bytes() == "a"));
}
