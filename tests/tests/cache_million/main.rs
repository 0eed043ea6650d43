//! A cache of very many keys, filled from a real etcd through cut connections and a compaction, with changes all the
//! while, is the store key by key in the end. Prints how long it took and what a key costs in memory.
//!
//! 100,000 keys by default, which is what a debug build does in seconds. The full million, with figures that mean
//! something (of fewer keys, much of the memory is what filling them in has left behind):
//!
//! ```text
//! ETCD_WATCH_CACHE_KEYS=1000000 cargo test --release -p etcd-watch-testkit --test cache_million -- --nocapture
//! ```

#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "the figures are what one runs it for")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion},
    proxy::{Cut, FaultProxy},
};
use etcd_watch_tokio::{
    Client, Delete, Get, KeyRange, Put, Txn,
    cache::{Cache, CacheEvent, CacheRequest, SubscribeRequest},
};

const DEADLINE: Duration = Duration::from_secs(300);

/// Keys in one transaction; the server is told to allow it.
const TXN_OPS: usize = 5_000;

const PAGE: i64 = 10_000;

fn key(index: usize) -> String {
    format!("million/{index:09}")
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("in time")
}

/// Puts keys in large transactions, some at once.
async fn fill(client: &Client, keys: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (client, next) = (client.clone(), next.clone());
        writers.spawn(async move {
            loop {
                let start = next.fetch_add(TXN_OPS, Ordering::Relaxed);
                if start >= keys {
                    return;
                }
                let puts =
                    (start..keys.min(start + TXN_OPS)).map(|index| Put::new(key(index), vec![b'v'; 32]));
                let txn = puts.fold(Txn::new(), |txn, put| txn.and_then(put));
                client.txn(txn).await.expect("it is made");
            }
        });
    }
    while let Some(done) = in_time(writers.join_next()).await {
        done.expect("it writes");
    }
}

/// Changes keys all over the range until it is told to stop; how many.
async fn change(client: Client, keys: usize, stop: Arc<AtomicBool>) -> usize {
    let mut changes = 0;
    while !stop.load(Ordering::Relaxed) {
        let index = (changes * 7_919) % keys;
        if changes % 5 == 4 {
            client.delete(Delete::key(key(index))).await.expect("it is deleted");
        } else {
            client.put(Put::new(key(index), format!("changed {changes}"))).await.expect("it is put");
        }
        changes += 1;
        // A steady trickle: what is measured is the cache, and not how fast etcd writes to this disk.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    changes
}

/// The bytes this process has in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: usize =
        statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// Compares with the store at the snapshot's revision, in pages.
async fn is_the_store(cache: &Cache, client: &Client) -> usize {
    let snapshot = in_time(cache.consistent()).await.expect("it goes on");
    let mut held = snapshot.iter();
    let mut from = KeyRange::prefix("million/");
    loop {
        let get = Get::new(from.clone()).revision(snapshot.revision()).limit(PAGE);
        let page = in_time(client.get(get)).await.expect("it is read");
        for kv in &page.kvs {
            let ours = held.next().expect("there is one more");
            assert_eq!((ours.key(), ours.value()), (&kv.key[..], &kv.value[..]));
            let told = (ours.mod_revision(), ours.create_revision(), ours.version(), ours.lease());
            assert_eq!(told, (kv.mod_revision, kv.create_revision, kv.version, kv.lease), "{ours:?}");
        }
        if !page.more {
            assert!(held.next().is_none(), "there is not one more");
            return snapshot.len();
        }
        let last = &page.kvs.last().expect("a page with more behind it is not empty").key;
        from = KeyRange::range([last, &b"\0"[..]].concat(), from.end().clone()).expect("more keys");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_keys_through_cuts_and_compaction() {
    let keys = std::env::var("ETCD_WATCH_CACHE_KEYS").ok();
    let keys: usize = keys.map_or(100_000, |keys| keys.parse().expect("ETCD_WATCH_CACHE_KEYS is a number"));
    let server = EtcdServer::builder(EtcdVersion::V3_5)
        .flag("max-txn-ops", TXN_OPS)
        .flag("quota-backend-bytes", 8_u64 << 30)
        .flag("unsafe-no-fsync", true)
        .start_async()
        .await
        .expect("etcd starts");
    let proxy = FaultProxy::start(server.endpoint()).await.expect("it starts");
    let direct = Client::builder().endpoints([server.endpoint()]).build().expect("valid");
    let client = Client::builder().endpoints([proxy.endpoint()]).build().expect("valid");

    let begun = Instant::now();
    fill(&direct, keys).await;
    println!("{keys} keys filled in in {:.1?}", begun.elapsed());

    // The list alone, for its time and for what a key costs.
    let range = KeyRange::prefix("million/");
    let before = resident();
    let begun = Instant::now();
    let plain = direct.cache(CacheRequest::new(range.clone())).expect("it is made");
    let listed = in_time(plain.ready()).await.expect("it is listed");
    let (took, grown) = (begun.elapsed(), resident().saturating_sub(before));
    let (per_key, own) = (grown / keys, listed.bytes() / keys);
    println!(
        "listed in {took:.1?}: {per_key} bytes resident for each key, of which {own} are its own and its value's"
    );
    assert_eq!(listed.len(), keys);
    assert!(per_key < own + 400, "a key costs {per_key} bytes");
    drop((plain, listed));

    // The same through cuts, while keys change.
    let stop = Arc::new(AtomicBool::new(false));
    let changing = tokio::spawn(change(direct.clone(), keys, stop.clone()));
    // About two pages.
    proxy.cut_each_after_bytes(2 << 20, Cut::Reset);
    let begun = Instant::now();
    let cache = client.cache(CacheRequest::new(range.clone())).expect("it is made");
    let mut changes = cache.subscribe(SubscribeRequest::new(range).initial_state(true)).expect("valid");
    in_time(cache.ready()).await.expect("it is listed");
    println!("listed in {:.1?} through {} cut connections", begun.elapsed(), proxy.cuts());
    assert!(proxy.cuts() > 0);
    let event = in_time(changes.try_next()).await.expect("it goes on").expect("an event");
    let CacheEvent::Initial(first) = event else { panic!("{event:?}") };
    proxy.restore();

    // What it needs next is compacted while it can't be reached.
    proxy.refuse();
    proxy.cut_all(Cut::Reset);
    let last = direct.put(Put::new("other", "")).await.expect("it is put").header.expect("a header").revision;
    assert!(cache.snapshot().revision() < last);
    in_time(direct.compact(last, false)).await.expect("it is compacted");
    direct.put(Put::new(key(1), "after the compaction")).await.expect("it is put");
    let begun = Instant::now();
    proxy.restore();
    let lists = cache.stats().lists;
    let now = in_time(cache.wait_for(last)).await.expect("it goes on");
    println!("listed again in {:.1?}", begun.elapsed());
    assert!(cache.stats().lists > lists && now.revision() >= last);

    // And the watch is cut some more.
    for _ in 0..5 {
        proxy.cut_all(Cut::Close);
        in_time(cache.consistent()).await.expect("it goes on");
    }
    stop.store(true, Ordering::Relaxed);
    let changed = in_time(changing).await.expect("it wrote");
    let begun = Instant::now();
    let compared = is_the_store(&cache, &direct).await;
    println!(
        "{compared} keys compared in {:.1?}, after {changed} changes; {:?}",
        begun.elapsed(),
        cache.stats()
    );

    // A subscriber that took nothing all the while is told what it missed, and no more.
    let end = in_time(cache.consistent()).await.expect("it goes on");
    let (mut seen, mut told) = (first.snapshot().clone(), 0);
    while !seen.changes_since(&end).is_empty() {
        let event = in_time(changes.try_next()).await.expect("it goes on").expect("an event");
        let (CacheEvent::Changes(changes) | CacheEvent::Resynced { changes, .. }) = event else {
            panic!("{event:?}")
        };
        told += changes.changes().len();
        seen = changes.snapshot().clone();
    }
    println!("{told} changes told to a slow subscriber");
    assert!(told > 0 && told <= changed + 1);
}
