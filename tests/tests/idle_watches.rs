//! What a manual progress reply costs a client with very many idle watches: the same as with few.

#![cfg(unix)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what the run measured is worth reading")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion, wait_until};
use etcd_watch_tokio::{Client, KeyRange, ResponseKind, Watch, WatchConfig, WatchRequest};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(120);

/// How many replies are measured.
const REPLIES: u32 = 50;

/// How long the threads of this process have computed.
fn computed() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux tells");
    let nanos = threads.map(|thread| {
        // A thread may end meanwhile; none of the runtime's does.
        let file = thread.expect("Linux tells").path().join("schedstat");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
    });
    Duration::from_nanos(nanos.sum())
}

/// How long a reply takes. There is a write first: etcd answers only when all watches of the stream have begun, and
/// those from now on begin at the next revision.
async fn write_and_ask(client: &Client, watch: &mut Watch, index: u32) -> Duration {
    client.put("other", index.to_string()).await.expect("it is put");
    let asked = Instant::now();
    watch.request_progress();
    let response = timeout(DEADLINE, watch.try_next()).await.expect("in time");
    let response = response.expect("the watch goes on").expect("it has a response");
    assert_eq!(response.kind(), ResponseKind::Progress);
    asked.elapsed()
}

/// The median time of a reply, and for how long the client computes for one and for the write before it. The server
/// computes in a process of its own.
async fn measure(count: usize) -> (Duration, Duration) {
    let server = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let config = WatchConfig::default().max_watches_per_stream(count).progress_interval(None);
    let client = etcd_watch_tokio::builder()
        .endpoints([server.endpoint()])
        .watch_config(config)
        .connect_lazy()
        .expect("a client");
    let mut watches: Vec<Watch> = (0..count)
        .map(|index| {
            let request = WatchRequest::new(KeyRange::key(format!("idle/{index}"))).created_notify(true);
            client.watch(request).expect("a lawful request")
        })
        .collect();
    let created = async {
        for watch in &mut watches {
            watch.try_next().await.expect("the watch is created").expect("it says so");
        }
    };
    timeout(DEADLINE, created).await.expect("all are created in time");
    // Consumers wait, as an application's do.
    let mut asking = watches.pop().expect("there is one");
    let waiting = Arc::new(AtomicUsize::new(0));
    for mut watch in watches {
        let waiting = waiting.clone();
        tokio::spawn(async move {
            waiting.fetch_add(1, Ordering::Relaxed);
            watch.try_next().await
        });
    }
    let all_wait = || waiting.load(Ordering::Relaxed) == count - 1;
    wait_until("all consumers wait", DEADLINE, all_wait).await;
    // The first isn't measured.
    write_and_ask(&client, &mut asking, 0).await;
    let before = computed();
    let mut took = Vec::new();
    for index in 1..=REPLIES {
        took.push(write_and_ask(&client, &mut asking, index).await);
    }
    let computed = (computed() - before) / REPLIES;
    took.sort_unstable();
    (took[took.len() / 2], computed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_progress_reply_costs_a_client_the_same_with_many_watches() {
    if !cfg!(target_os = "linux") {
        eprintln!(
            "\n*** NOT RUN: how long threads compute is read from /proc/self/task, which is Linux's ***\n"
        );
        return;
    }
    let mut few = None;
    for count in [1_000, 100_000] {
        let (took, computed) = measure(count).await;
        println!(
            "{count} watches: a reply takes {took:?}; for it and a write the client computes {computed:?}"
        );
        // With a hundred times the watches; the allowance is for a machine that is busy with something else.
        let allowed = 3 * *few.get_or_insert(computed) + Duration::from_millis(1);
        assert!(
            computed <= allowed,
            "{computed:?} for a reply with {count} watches, {allowed:?} are allowed"
        );
    }
}
