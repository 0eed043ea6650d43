//! Ten thousand watches on one client, against a real etcd.

#![allow(clippy::print_stdout, reason = "what the run measured is worth reading")]

use std::time::{Duration, Instant};

use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};
use etcd_watch_tokio::{Client, KeyRange, Put, ResponseKind, Txn, Watch, WatchConfig, WatchRequest};
use tokio::time::timeout;

const WATCHES: usize = 10_000;

/// etcd's default limit of operations in a transaction.
const OPS_PER_TXN: usize = 128;

/// For a whole step, not for one watch.
const DEADLINE: Duration = Duration::from_secs(60);

fn key(index: usize) -> String {
    format!("scale/{index:05}")
}

async fn put_all(client: &Client, round: &str) {
    for start in (0..WATCHES).step_by(OPS_PER_TXN) {
        let txn = (start..WATCHES.min(start + OPS_PER_TXN))
            .fold(Txn::new(), |txn, index| txn.and_then(Put::new(key(index), round.to_owned())));
        client.txn(txn).await.expect("the transaction is made");
    }
}

/// What every watch receives next: exactly one put of its own key with this value.
async fn expect_one_put_each(watches: &mut [Watch], value: &str) {
    for (index, watch) in watches.iter_mut().enumerate() {
        let response = watch.try_next().await.expect("the watch goes on").expect("it has a response");
        let events: Vec<_> = response.events().map(|event| (event.key(), event.value())).collect();
        assert_eq!(events, [(key(index).as_bytes(), value.as_bytes())]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watches_are_created_together_and_all_resume_after_a_crash() {
    let mut server = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let client = etcd_watch_tokio::connect([server.endpoint()]).await.expect("a client");
    client.put("warm", "up").await.expect("etcd serves");

    let started = Instant::now();
    let mut watches: Vec<Watch> = (0..WATCHES)
        .map(|index| {
            let request = WatchRequest::new(KeyRange::key(key(index))).created_notify(true);
            client.watch(request).expect("a lawful request")
        })
        .collect();
    let created = async {
        for watch in &mut watches {
            let response = watch.try_next().await.expect("the watch is created").expect("it says so");
            assert_eq!(response.kind(), ResponseKind::Created);
        }
    };
    timeout(DEADLINE, created).await.expect("all watches are created in time");
    println!("{WATCHES} watches created in {:?}", started.elapsed());
    assert_eq!(client.stats().creates, WATCHES as u64, "each is created once");
    assert_eq!(server.watcher_count().expect("metrics"), WATCHES as u64);

    put_all(&client, "before").await;
    timeout(DEADLINE, expect_one_put_each(&mut watches, "before"))
        .await
        .expect("all have their event in time");

    server.kill();
    server.restart_async().await.expect("etcd starts again");
    // With a client of its own, so that the watches resume while it writes.
    let writer = etcd_watch_tokio::connect([server.endpoint()]).await.expect("a client");
    put_all(&writer, "after").await;
    let restarted = Instant::now();
    timeout(DEADLINE, expect_one_put_each(&mut watches, "after")).await.expect("all have resumed in time");
    println!("{WATCHES} watches had their event {:?} after the writes", restarted.elapsed());
    assert_eq!(client.stats().recreates % WATCHES as u64, 0, "each is re-created once per reconnect");

    drop(watches);
    let gone = || server.watcher_count().is_ok_and(|count| count == 0);
    etcd_watch_testkit::harness::wait_until("the server has no watchers left", DEADLINE, gone).await;
    client.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_beyond_a_streams_limit_travel_on_more_streams() {
    let server = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let config = WatchConfig::default().max_watches_per_stream(10);
    let client = etcd_watch_tokio::builder()
        .endpoints([server.endpoint()])
        .watch_config(config)
        .connect_lazy()
        .expect("a client");
    let mut watches: Vec<Watch> = (0..35)
        .map(|index| client.watch(WatchRequest::new(KeyRange::key(key(index)))).expect("a lawful request"))
        .collect();
    let txn = (0..35).fold(Txn::new(), |txn, index| txn.and_then(Put::new(key(index), "x")));
    // "From now" is from the call on, so they may be written to before they are created.
    let created = || client.stats().creates == 35;
    etcd_watch_testkit::harness::wait_until("all watches know their now", DEADLINE, created).await;
    client.txn(txn).await.expect("the transaction is made");
    timeout(DEADLINE, expect_one_put_each(&mut watches, "x")).await.expect("all have their event in time");
    assert_eq!(client.stats().streams, 4);
}
