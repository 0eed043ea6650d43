//! Lists that a member of etcd 3.7 brings by a stream (`KV.RangeStream`), and those that an older one brings by pages, are
//! the store, whatever breaks in the middle.

use std::time::Duration;

use etcd_watch_client::{Client, Compact, Delete, Get, KeyRange, ListReason, MirrorRequest, Put, Txn};
use etcd_watch_testkit::{
    differences::Differences,
    folding::{Folding, Held},
    harness::{EtcdServer, EtcdVersion},
    model::ModelConfig,
    proxy::{Cut, FaultProxy},
    server::EmbeddedEtcd,
};
use etcd_watch_tokio::cache::CacheRequest;

const DEADLINE: Duration = Duration::from_secs(30);

const KEYS: usize = 3_000;

/// Keys in one transaction, which with the largest values is within a server's limit.
const AT_ONCE: usize = 10;

/// So much that a list is far more than what HTTP/2 lets wait for its reader.
const VALUE_BYTES: usize = 4_000;

fn config(version: &str) -> ModelConfig {
    ModelConfig { version: version.to_owned(), ..ModelConfig::default() }
}

/// A model of this version with keys in it; its revision.
async fn filled(version: &str) -> (EmbeddedEtcd, i64) {
    let etcd = EmbeddedEtcd::start(config(version)).await.expect("it starts");
    let client = client([etcd.endpoint()]);
    let last = fill(&client, KEYS).await;
    client.close().await;
    (etcd, last)
}

async fn fill(client: &Client, keys: usize) -> i64 {
    put_all(client, (0..keys).map(|index| (index, VALUE_BYTES))).await
}

/// Puts keys of these numbers with values of these sizes, some at once; the last revision.
async fn put_all(client: &Client, keys: impl Iterator<Item = (usize, usize)>) -> i64 {
    let mut last = 0;
    let mut keys = keys.peekable();
    while keys.peek().is_some() {
        let puts = keys.by_ref().take(AT_ONCE);
        let puts = puts.map(|(index, bytes)| Put::new(format!("s/{index:05}"), vec![b'v'; bytes]));
        let txn = puts.fold(Txn::new(), |txn, put| txn.and_then(put));
        last = client.txn(txn).await.expect("it is made").revision();
    }
    last
}

fn client(endpoints: impl IntoIterator<Item = String>) -> Client {
    etcd_watch_tokio::builder().endpoints(endpoints).connect_lazy().expect("valid")
}

fn folding(client: &Client) -> Folding {
    Folding::open(client, MirrorRequest::new(KeyRange::prefix("s/")).page_bytes(1 << 20), DEADLINE)
}

/// Folds until it is past a revision, and compares with the store.
async fn check(fold: &mut Folding, direct: &Client, through: i64) {
    let at = fold.through(through).await;
    let stored = direct.get(Get::prefix("s/").revision(at)).await.expect("it is read");
    let stored: Held =
        stored.kvs().iter().map(|kv| (kv.key[..].into(), (kv.value[..].into(), kv.mod_revision))).collect();
    assert!(fold.held == stored, "{} keys at revision {at}, of {}", fold.held.len(), stored.len());
}

/// Folds a part of the list and no more.
async fn begin(fold: &mut Folding) {
    while fold.parts < 4 {
        fold.step().await;
    }
    assert!(fold.mirror.synced_revision().is_none() && fold.held.len() < KEYS / 2, "there is more");
}

#[tokio::test]
async fn a_list_comes_by_one_stream_after_its_first_page() {
    let (etcd, last) = filled("3.7.0").await;
    let client = client([etcd.endpoint()]);
    let mut fold = folding(&client);
    check(&mut fold, &client, last).await;
    let streams = etcd.range_streams();
    assert_eq!((streams.begun, streams.refused), (1, 0));
    assert!(streams.chunks > 5 && fold.parts > 5, "{streams:?}, {} parts", fold.parts);
}

#[tokio::test]
async fn a_member_without_streams_is_asked_for_one_once() {
    let (etcd, last) = filled("3.6.9").await;
    let client = client([etcd.endpoint()]);
    let mut fold = folding(&client);
    check(&mut fold, &client, last).await;
    let mut again = folding(&client);
    check(&mut again, &client, last).await;
    let streams = etcd.range_streams();
    assert_eq!((streams.begun, streams.refused), (0, 1), "it is remembered, for other mirrors too");
    assert!(fold.parts > 5, "{} parts", fold.parts);
}

#[tokio::test]
async fn a_namespace_and_a_cache_are_listed_by_a_stream_too() {
    let (etcd, last) = filled("3.7.0").await;
    let client = client([etcd.endpoint()]);
    let inside = client.namespaced("s/").expect("a prefix");
    let cache = inside.cache(CacheRequest::new(KeyRange::all()).page_bytes(1 << 20)).expect("it is made");
    let snapshot = cache.wait_for(last).await.expect("it is listed");
    assert_eq!((snapshot.len(), cache.stats().list_progress), (KEYS, None));
    assert_eq!(snapshot.get("00017").map(|kv| kv.value().len()), Some(VALUE_BYTES));
    assert_eq!(etcd.range_streams().begun, 1);
}

#[tokio::test]
async fn a_list_goes_on_after_every_cut_from_its_last_key() {
    let (etcd, last) = filled("3.7.0").await;
    let proxy = FaultProxy::start(etcd.endpoint()).await.expect("it starts");
    let (direct, client) = (client([etcd.endpoint()]), client([proxy.endpoint()]));
    proxy.cut_each_after_bytes(2_500_000, Cut::Reset);
    let mut fold = folding(&client);
    check(&mut fold, &direct, last).await;
    assert_eq!(fold.reasons, [ListReason::First], "a cut is no reason to list again");
    assert_eq!(fold.deletes, 0);
    let streams = etcd.range_streams();
    assert!(proxy.cuts() > 2 && streams.begun > 2, "{} cuts, {streams:?}", proxy.cuts());
}

#[tokio::test]
async fn a_list_whose_revision_is_compacted_in_the_middle_is_begun_again() {
    let (etcd, _) = filled("3.7.0").await;
    let client = client([etcd.endpoint()]);
    let mut fold = folding(&client);
    begin(&mut fold).await;
    // The consumer takes nothing, so that the rest waits at the member.
    client.delete(Delete::prefix("s/00")).await.expect("they are deleted");
    let last = client.put("s/last", "").await.expect("it is put").revision();
    client.compact(Compact::before(last).physical()).await.expect("it is compacted");
    check(&mut fold, &client, last).await;
    assert_eq!(fold.reasons, [ListReason::First, ListReason::Interrupted]);
    assert!(etcd.range_streams().begun >= 2);
}

#[tokio::test]
async fn a_list_goes_on_at_a_member_of_another_version() {
    for (first, second) in [("3.7.0", "3.5.30"), ("3.5.30", "3.7.0")] {
        let (mut old, last) = filled(first).await;
        let mut model = old.with_model(|model| model.clone());
        model.config_mut().version = second.to_owned();
        let new = EmbeddedEtcd::start_on(([127, 0, 0, 1], 0).into(), model).await.expect("it starts");
        let client = client([old.endpoint(), new.endpoint()]);
        let direct = self::client([new.endpoint()]);
        let mut fold = folding(&client);
        begin(&mut fold).await;
        let asked = old.range_streams();
        assert_eq!(asked.begun + asked.refused, 1, "the first endpoint is asked first");
        old.stop().await;
        check(&mut fold, &direct, last).await;
        assert_eq!(fold.reasons, [ListReason::First]);
        let streams = new.range_streams();
        let expected = if second == "3.7.0" { (1, 0) } else { (0, 1) };
        assert_eq!((streams.begun, streams.refused), expected, "from {first} to {second}");
    }
}

#[tokio::test]
async fn values_of_every_size_are_listed_within_the_bound() {
    let etcd = EmbeddedEtcd::start(config("3.7.0")).await.expect("it starts");
    let client = client([etcd.endpoint()]);
    // Chunks grow over the small ones, and are far too large then.
    let bytes = |index| if index < 2_000 { 10 } else { 100_000 };
    let last = put_all(&client, (0..2_100).map(|index| (index, bytes(index)))).await;
    let mut fold =
        Folding::open(&client, MirrorRequest::new(KeyRange::prefix("s/")).page_bytes(512 << 10), DEADLINE);
    check(&mut fold, &client, last).await;
    assert_eq!(fold.held.len(), 2_100);
    assert!(etcd.range_streams().begun > 1, "a message over the bound is asked for again");
}

/// On etcd of whichever version: by a stream from 3.7 on, and by pages before.
async fn on_a_server(version: EtcdVersion) {
    let etcd = EtcdServer::builder(version).start_async().await.expect("etcd starts");
    let proxy = FaultProxy::start(etcd.endpoint()).await.expect("it starts");
    let (direct, client) = (client([etcd.endpoint()]), client([proxy.endpoint()]));
    let last = fill(&direct, KEYS).await;
    proxy.cut_each_after_bytes(5_000_000, Cut::Reset);
    let mut fold = folding(&client);
    check(&mut fold, &direct, last).await;
    assert!(proxy.cuts() > 0);
    proxy.restore();
    let mut fold = folding(&client);
    begin(&mut fold).await;
    direct.delete(Delete::prefix("s/00")).await.expect("they are deleted");
    let last = direct.put("s/last", "").await.expect("it is put").revision();
    direct.compact(Compact::before(last).physical()).await.expect("it is compacted");
    check(&mut fold, &direct, last).await;
    assert_eq!(fold.reasons, [ListReason::First, ListReason::Interrupted]);
    let streams = etcd.calls_begun("RangeStream").expect("etcd tells");
    assert_eq!(streams > 0, Differences::of(etcd.version()).range_stream, "{streams} on {}", etcd.version());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_etcd_3_5() {
    on_a_server(EtcdVersion::V3_5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_etcd_3_6() {
    on_a_server(EtcdVersion::V3_6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_etcd_3_7() {
    on_a_server(EtcdVersion::V3_7).await;
}
