//! How long a watch is without events when its connection goes dead without a word: nothing comes through it any
//! more, and nobody resets it. Measured on every runtime and on real servers.
//!
//! The bound is the sum of what has to happen:
//!
//! - [`KEEPALIVE`]: its interval counts from the last byte received, which is before the black hole; then a ping is
//!   sent, whose answer may take as long as the timeout says.
//! - [`RECONNECT`]: the longest that a first backoff may be, and the time limit of a dial; connecting, asking the
//!   member's version, and creating the watch, take less than that together.
//! - [`LATE`]: what a machine may take on top whose processors are busy with something else. What is printed is
//!   what was measured, without it.

#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

#[path = "conformance/runtime.rs"]
mod runtime;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use etcd_watch_client::{Client, Keepalive, KeyRange, WatchConfig, WatchRequest};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion, wait_until},
    proxy::FaultProxy,
};
use runtime::On;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

/// The interval is the shortest that servers allow.
const KEEPALIVE: Keepalive =
    Keepalive { interval: Duration::from_secs(5), timeout: Duration::from_millis(500) };

const BACKOFF: Duration = Duration::from_millis(50);
const DIAL: Duration = Duration::from_secs(1);

/// One reconnect.
const RECONNECT: Duration = BACKOFF.saturating_add(DIAL);

/// For timers that fire late, and tasks that wait for a processor, on a busy machine. Less than an interval, so that
/// a keepalive that takes two of them shows.
const LATE: Duration = Duration::from_secs(3);

/// Between two writes.
const PACE: Duration = Duration::from_millis(10);

/// How many events come before the black hole.
const BEFORE: usize = 100;

const DEADLINE: Duration = Duration::from_secs(60);

/// Writes a key over and over, on a connection that nothing happens to.
struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<i64>>,
}

impl Writer {
    fn start(client: Client, key: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut revisions = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                revisions.push(put(&client, key).await);
                sleep(PACE).await;
            }
            revisions
        });
        Self { stop, task }
    }

    /// The revisions it wrote.
    async fn stop(self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("it writes")
    }
}

async fn put(client: &Client, key: &'static str) -> i64 {
    client.put(key, "v").await.expect("it is put").revision()
}

/// A watch, and the revisions of what it delivered.
struct Observer {
    watch: etcd_watch_client::Watch,
    received: Vec<i64>,
}

impl Observer {
    async fn step(&mut self) {
        let next = timeout(DEADLINE, self.watch.next()).await.expect("something comes in time");
        let response = next.expect("the watch goes on").expect("it does not fail");
        self.received.extend(response.events().map(|event| event.mod_revision()));
    }

    async fn through(&mut self, revision: i64) {
        while self.received.last().is_none_or(|&last| last < revision) {
            self.step().await;
        }
    }
}

async fn measure(on: On, server: &EtcdServer) {
    let runtime = on.name();
    let proxy = FaultProxy::start(server.endpoint()).await.expect("the proxy starts");
    let client = on
        .builder()
        .endpoints([proxy.endpoint(), server.endpoint()])
        .watch_config(WatchConfig::default().backoff(
            Duration::from_millis(10),
            BACKOFF,
            Duration::from_secs(5),
        ))
        .keepalive(Some(KEEPALIVE))
        .dial_timeout(DIAL)
        .connect_lazy()
        .expect("valid settings");
    let direct = on.builder().endpoints([server.endpoint()]).connect_lazy().expect("valid settings");
    // Each has a key of its own.
    let request = WatchRequest::new(KeyRange::key(runtime)).start_revision(1);
    let watch = client.watch(request).expect("a lawful request");
    let mut observer = Observer { watch, received: Vec::new() };
    let writer = Writer::start(direct.clone(), runtime);
    while observer.received.len() < BEFORE {
        observer.step().await;
    }
    assert_eq!((proxy.connections(), client.stats().reconnects), (1, 0), "it is behind the proxy");

    proxy.black_hole();
    let dead = Instant::now();
    // Written after the black hole: this one can come by another connection only.
    let first = put(&direct, "mark").await;
    let noticed = async {
        wait_until("the silence is noticed", DEADLINE, || client.stats().reconnects > 0).await;
        dead.elapsed()
    };
    let back = async {
        observer.through(first).await;
        dead.elapsed()
    };
    let (noticed, back) = tokio::join!(noticed, back);

    let mut written = writer.stop().await;
    let last = put(&direct, runtime).await;
    written.push(last);
    observer.through(last).await;
    assert_eq!(observer.received, written, "nothing is lost or repeated");
    println!(
        "half-open: {runtime} on {}: back after {:.2} s (noticed after {:.2} s with a keepalive of {} s + {} s; \
         reconnected in {} ms)",
        server.version(),
        back.as_secs_f64(),
        noticed.as_secs_f64(),
        KEEPALIVE.interval.as_secs_f64(),
        KEEPALIVE.timeout.as_secs_f64(),
        back.saturating_sub(noticed).as_millis(),
    );
    let keepalive = KEEPALIVE.interval + KEEPALIVE.timeout;
    assert!(noticed <= keepalive + LATE, "noticed after {noticed:?}");
    assert!(back <= keepalive + RECONNECT + LATE, "back after {back:?}");
    assert!(noticed >= KEEPALIVE.interval / 2, "it was the keepalive that noticed, after {noticed:?}");
    assert!((1..=2).contains(&client.stats().reconnects), "{:?}", client.stats());
}

async fn on_every_runtime(version: EtcdVersion) {
    let server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
    tokio::join!(measure(On::Tokio, &server), measure(On::Smol, &server), measure(On::AsyncStd, &server),);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_is_back_within_keepalive_and_one_reconnect_on_3_4_23() {
    on_every_runtime(EtcdVersion::V3_4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_is_back_within_keepalive_and_one_reconnect_on_3_5_30() {
    on_every_runtime(EtcdVersion::V3_5).await;
}
