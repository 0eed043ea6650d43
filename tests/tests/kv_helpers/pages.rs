//! Reads of whole ranges.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use etcd_watch_client::{
    Client, CloseReason, Delete, Get, GetAll, KeyRange, ListReason, OwnedKeyValue, PagesError, Put, Txn,
    WatchConfig,
};
use etcd_watch_testkit::{harness::wait_until, proxy::FaultProxy};
use tokio::{task::JoinHandle, time::timeout};

use crate::world::{DEADLINE, World};

const KEYS: usize = 2_000;

/// Small, so that there are many.
const PAGE_BYTES: usize = 3 << 10;

/// Bytes in a second at which reading takes half a minute, and so much of it is a beginning.
const SLOW: u64 = 5_000;
const BEGINNING: u64 = 6_000;

fn key(index: usize) -> String {
    format!("m/{index:04}")
}

async fn fill(client: &Client) {
    for part in 0..KEYS / 100 {
        let puts = (part * 100..(part + 1) * 100).map(|index| Put::new(key(index), vec![b'v'; 32]));
        client.txn(puts.fold(Txn::new(), Txn::and_then)).await.expect("they are put");
    }
}

fn all() -> GetAll {
    GetAll::prefix("m/").page_bytes(PAGE_BYTES)
}

async fn stored(client: &Client, revision: i64) -> Vec<OwnedKeyValue> {
    client.get(Get::prefix("m/").revision(revision)).await.expect("they are read").into_kvs()
}

/// Changes and deletes keys all over the range until it is told to stop.
fn writer(client: &Client, stop: &Arc<AtomicBool>) -> JoinHandle<i64> {
    let (client, stop) = (client.clone(), stop.clone());
    let mut rng = fastrand::Rng::with_seed(7);
    tokio::spawn(async move {
        let mut last = 0;
        while !stop.load(Ordering::Relaxed) {
            let (one, other) = (rng.usize(..KEYS), KEYS + rng.usize(..KEYS));
            let txn = Txn::new().and_then(Delete::key(key(one))).and_then(Put::new(key(other), "new"));
            last = client.txn(txn).await.expect("it is made").revision();
        }
        last
    })
}

pub(crate) async fn all_pages_are_of_one_revision_while_keys_are_written(world: World) {
    let client = &world.client;
    fill(client).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = writer(client, &stop);
    let reader = world.client();
    let mut pages = reader.get_all(all()).expect("a lawful request");
    let (mut kvs, mut count) = (Vec::new(), 0);
    while let Some(page) = timeout(DEADLINE, pages.try_next()).await.expect("in time").expect("it is read") {
        assert!(!page.is_empty());
        count += 1;
        kvs.extend(page.iter().map(|kv| kv.to_owned()));
        assert_eq!(pages.progress().map(|progress| progress.keys >= kvs.len() as u64), Some(true));
    }
    assert!(timeout(DEADLINE, pages.next()).await.expect("in time").is_none(), "it stays at its end");
    let within = reader.namespaced("m/").expect("a prefix");
    let (revision, stripped) =
        within.get_all(KeyRange::all()).expect("lawful").collect().await.expect("read");
    stop.store(true, Ordering::Relaxed);
    let last = writing.await.expect("the writer writes");

    let at = pages.revision().expect("it was read");
    assert!(count > 10 && at < last, "{count} pages at {at}, writes through {last}");
    assert_eq!(kvs, stored(client, at).await);
    let whole: Vec<_> = stripped
        .into_iter()
        .map(|kv| OwnedKeyValue { key: [&b"m/"[..], &kv.key].concat().into(), ..kv })
        .collect();
    assert!(revision >= at);
    assert_eq!(whole, stored(client, revision).await);
    let keys = all().keys_only(true);
    let (_, keys) = reader.get_all(keys).expect("lawful").collect().await.expect("read");
    assert!(keys.len() > KEYS / 2 && keys.iter().all(|kv| kv.value.is_empty()));
}

/// A client that reads slowly until its proxy is restored, connected.
async fn slow(world: &World) -> (Arc<FaultProxy>, Client) {
    let (proxy, client) = world.remote().await;
    proxy.throttle(SLOW);
    (Arc::new(proxy), client)
}

pub(crate) async fn pages_begin_again_or_end_when_their_revision_is_compacted(world: World) {
    fill(&world.client).await;
    // Some of it is with the application: it has to know.
    let (proxy, client) = slow(&world).await;
    let mut pages = client.get_all(all()).expect("a lawful request");
    let first = timeout(DEADLINE, pages.try_next()).await.expect("in time").expect("it is read");
    assert!(first.is_some_and(|page| !page.is_empty()));
    let at = pages.revision().expect("it is known");
    world.compact().await;
    proxy.restore();
    let ended = loop {
        match timeout(DEADLINE, pages.try_next()).await.expect("in time") {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    let reason = ListReason::Interrupted;
    assert_eq!(ended, Err(PagesError::Interrupted { revision: at, reason }));
    assert!(pages.next().await.is_none(), "it says so once");

    // Nothing of it is with the application: it need not know.
    let (proxy, client) = slow(&world).await;
    let before = proxy.bytes_downstream();
    let pages = client.get_all(all()).expect("a lawful request");
    let collecting = tokio::spawn(pages.collect());
    let begun = || proxy.bytes_downstream() - before > BEGINNING;
    wait_until("reading has begun", DEADLINE, begun).await;
    let change = world.put(&key(0), "changed").await;
    world.compact().await;
    proxy.restore();
    let (revision, kvs) =
        timeout(DEADLINE, collecting).await.expect("in time").expect("no panic").expect("read");
    assert!(revision >= change, "it began again: {revision}, {change}");
    assert_eq!(kvs, stored(&world.client, revision).await);
}

pub(crate) async fn pages_are_of_the_revision_that_is_asked_for_or_do_not_come(world: World) {
    let client = &world.client;
    fill(client).await;
    let at = client.get("any").await.expect("it is read").revision();
    let before = stored(client, at).await;
    client.delete(Delete::prefix("m/")).await.expect("they are deleted");
    world.put(&key(0), "changed").await;
    let read = |revision| client.get_all(all().revision(revision)).expect("a lawful request").collect();
    let (revision, kvs) = timeout(DEADLINE, read(at)).await.expect("in time").expect("it is read");
    assert_eq!((revision, kvs.len()), (at, KEYS));
    assert_eq!(kvs, before);
    assert!(client.get_all(all().revision(-1)).is_err());

    // Pages of it are with the application.
    let (proxy, slow) = slow(&world).await;
    let mut pages = slow.get_all(all().revision(at)).expect("a lawful request");
    let first = timeout(DEADLINE, pages.try_next()).await.expect("in time").expect("it is read");
    assert!(first.is_some_and(|page| !page.is_empty()));
    assert_eq!(pages.revision(), Some(at));
    world.compact().await;
    proxy.restore();
    let ended = loop {
        match timeout(DEADLINE, pages.try_next()).await.expect("in time") {
            Ok(Some(page)) => assert!(page.iter().all(|kv| kv.mod_revision() <= at)),
            ended => break ended,
        }
    };
    let reason = ListReason::Interrupted;
    assert_eq!(ended, Err(PagesError::Interrupted { revision: at, reason }));

    let compacted = timeout(DEADLINE, read(at)).await.expect("in time").expect_err("it is compacted");
    assert_eq!(compacted, PagesError::Compacted { revision: at });
    assert!(compacted.to_string().contains("at a later revision, or without one"), "{compacted}");
    let quick = WatchConfig::default().lag_deadline(Duration::from_millis(200));
    let hasty = world.builder().endpoints([world.endpoint()]).watch_config(quick);
    let hasty = hasty.connect_lazy().expect("valid settings");
    let newest = client.get("any").await.expect("it is read").revision();
    let future = hasty.get_all(all().revision(newest + 1)).expect("a lawful request").collect();
    let future = timeout(DEADLINE, future).await.expect("in time").expect_err("nobody has it");
    assert_eq!(future, PagesError::NotReached { revision: newest + 1, newest });
}

pub(crate) async fn a_range_without_keys_has_a_revision_and_no_pages(world: World) {
    let last = world.put("k", "v").await;
    let mut pages = world.client.get_all(KeyRange::prefix("m/")).expect("a lawful request");
    assert_eq!(pages.revision(), None);
    assert_eq!(pages.try_next().await, Ok(None));
    assert_eq!(pages.revision(), Some(last));
    let (_, one) = world.client.get_all("k").expect("a lawful request").collect().await.expect("it is read");
    assert_eq!(one.len(), 1);
    assert!(world.client.get_all("").is_err() && world.client.get_all(all().page_bytes(0)).is_err());
    let within = world.client.clone();
    within.close().await;
    assert!(within.get_all("k").is_err());
}

pub(crate) async fn nobody_answers(world: World) {
    let (proxy, direct) = world.remote().await;
    drop(direct);
    proxy.refuse();
    let client = world
        .builder()
        .endpoints([proxy.endpoint()])
        .request_timeout(Duration::from_millis(500))
        .connect_lazy()
        .expect("valid settings");
    let pages = client.get_all(KeyRange::prefix("m/")).expect("a lawful request");
    let ended = timeout(DEADLINE, pages.collect()).await.expect("it gives up").expect_err("nobody answers");
    assert!(matches!(ended, PagesError::Ended(CloseReason::Unreachable { .. })), "{ended}");
}
