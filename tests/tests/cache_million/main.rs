//! A cache and a mirror of very many keys, filled from a real etcd through cut connections and compactions, one of
//! them in the middle of the list, with changes all the while, are the store key by key in the end. Prints how long it
//! took and what a key costs in memory.
//!
//! 100,000 keys by default, which is what a debug build does in seconds. The full million, with figures that mean
//! something (of fewer keys, much of the memory is what filling them in has left behind), one test after the other, on
//! either version of etcd:
//!
//! ```text
//! ETCD_WATCH_CACHE_KEYS=1000000 ETCD_WATCH_CACHE_ETCD=3.4 \
//!     cargo test --release -p etcd-watch-testkit --test cache_million -- --nocapture --test-threads 1
//! ```

#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "the figures are what one runs it for")]

mod cache;
mod mirror;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion, wait_until},
    proxy::FaultProxy,
};
use etcd_watch_tokio::{Client, Delete, Get, KeyRange, OwnedKeyValue, Put, Txn};
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(300);

/// Keys in one transaction; the server is told to allow it.
const TXN_OPS: usize = 5_000;

const PAGE: i64 = 10_000;

/// A list that is cut comes in pages that are smaller than what is between two cuts.
const PAGE_BYTES: usize = 1 << 20;

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

/// Changes keys all over the range until it is told to stop.
struct Changing {
    stop: Arc<AtomicBool>,
    task: JoinHandle<usize>,
}

impl Changing {
    fn start(client: &Client, keys: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(change(client.clone(), keys, stop.clone()));
        Self { stop, task }
    }

    /// How many changes there were.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        in_time(self.task).await.expect("it wrote")
    }
}

async fn change(client: Client, keys: usize, stop: Arc<AtomicBool>) -> usize {
    let mut changes = 0;
    while !stop.load(Ordering::Relaxed) {
        let index = (changes * 7_919) % keys;
        if changes % 5 == 4 {
            client.delete(Delete::key(key(index))).await.expect("it is deleted");
        } else {
            client.put(key(index), format!("changed {changes}")).await.expect("it is put");
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

/// A server full of keys, a client straight to it, and one by way of a proxy.
struct World {
    keys: usize,
    proxy: FaultProxy,
    direct: Client,
    client: Client,
    _server: EtcdServer,
}

impl World {
    async fn filled(version: EtcdVersion) -> Self {
        let keys = std::env::var("ETCD_WATCH_CACHE_KEYS").ok();
        let keys = keys.map_or(100_000, |keys| keys.parse().expect("ETCD_WATCH_CACHE_KEYS is a number"));
        let version = match std::env::var("ETCD_WATCH_CACHE_ETCD").as_deref() {
            Ok("3.4") => EtcdVersion::V3_4,
            Ok("3.5") => EtcdVersion::V3_5,
            Ok(other) => panic!("ETCD_WATCH_CACHE_ETCD is 3.4 or 3.5, not {other}"),
            Err(_) => version,
        };
        let server = EtcdServer::builder(version)
            .flag("max-txn-ops", TXN_OPS)
            .flag("quota-backend-bytes", 8_u64 << 30)
            .flag("unsafe-no-fsync", true)
            .start_async()
            .await
            .expect("etcd starts");
        let proxy = FaultProxy::start(server.endpoint()).await.expect("it starts");
        let client = |endpoint: String| {
            etcd_watch_tokio::builder().endpoints([endpoint]).connect_lazy().expect("valid")
        };
        let (direct, client) = (client(server.endpoint()), client(proxy.endpoint()));
        let begun = Instant::now();
        fill(&direct, keys).await;
        println!("etcd {}: {keys} keys filled in in {:.1?}", server.version(), begun.elapsed());
        Self { keys, proxy, direct, client, _server: server }
    }

    /// Slows everything down so much that a list takes half a minute, until the proxy is restored.
    fn slow_down(&self) {
        self.proxy.throttle(self.list_bytes() / 30);
    }

    /// About so many bytes is a list.
    fn list_bytes(&self) -> u64 {
        80 * self.keys as u64
    }

    /// Waits until a part of a list has been read since then.
    async fn has_begun(&self, before: u64) {
        let wanted = before + self.list_bytes() / 20;
        wait_until("the list has begun", DEADLINE, || self.proxy.bytes_downstream() > wanted).await;
    }

    /// Throws away all history there is; the revision of a write outside of the range right before.
    async fn compact(&self) -> i64 {
        let put = self.direct.put("other", "").await.expect("it is put");
        let last = put.revision();
        in_time(self.direct.compact(last)).await.expect("it is compacted");
        last
    }

    /// Every key at a revision, in pages.
    async fn stored(&self, revision: i64, mut page: impl FnMut(&[OwnedKeyValue])) {
        let mut from = range();
        loop {
            let get = Get::new(from.clone()).revision(revision).limit(PAGE);
            let read = in_time(self.direct.get(get)).await.expect("it is read");
            page(read.kvs());
            if !read.has_more() {
                return;
            }
            let last = &read.kvs().last().expect("a page with more behind it is not empty").key;
            from = KeyRange::range([last, &b"\0"[..]].concat(), from.end().clone()).expect("more keys");
        }
    }
}

fn range() -> KeyRange {
    KeyRange::prefix("million/")
}
