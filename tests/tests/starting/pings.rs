//! A server that allows fewer pings than the client sends.

use std::time::{Duration, Instant};

use etcd_watch_client::{ClientBuilder, Keepalive, KeyRange};
use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};
use tokio::time::{sleep, timeout};

use crate::{DEADLINE, created, log::Log, wrapped::Wrapped};

const INTERVAL: Duration = Duration::from_secs(17);

/// Real etcd, which by default closes connections that are pinged more than once in 5 s. The client's clock goes
/// forty times as fast where it counts pings.
#[tokio::test]
async fn a_server_that_wants_fewer_pings_gets_fewer_and_the_log_says_why() {
    let (log, _guard) = Log::start();
    let etcd = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let runtime = Wrapped::resolving_to(&[etcd.address()]).hurry(Duration::from_secs(15), 40);
    let keepalive = Keepalive { interval: INTERVAL, timeout: Duration::from_secs(5) };
    let builder = ClientBuilder::on(runtime.clone()).endpoints(["http://etcd.example:2379"]).no_proxy();
    let config = etcd_watch_client::WatchConfig::default().progress_interval(None);
    let client =
        builder.keepalive(Some(keepalive)).watch_config(config).connect().await.expect("etcd answers");
    let mut watch = client.watch(KeyRange::prefix("key")).expect("it is opened");
    created(&watch).await;
    assert!(runtime.longest_sleep() <= INTERVAL);

    let began = Instant::now();
    while runtime.longest_sleep() <= INTERVAL * 3 / 2 {
        assert!(began.elapsed() < DEADLINE, "it goes on to ping as often");
        sleep(DEADLINE / 1_000).await;
    }
    assert!(runtime.longest_sleep() <= INTERVAL * 2, "it is doubled");
    let warned = log.named("pings_too_frequent");
    assert!(warned.len() == 1 && warned[0].contains("interval=34s"), "{warned:?}");
    let lost = log.named("stream_lost").concat();
    assert!(lost.contains("too many pings") && lost.contains("ENHANCE_YOUR_CALM"), "{lost}");

    client.put("key", "value").await.expect("it is put");
    let response = timeout(DEADLINE, watch.next()).await.expect("in time").expect("it goes on");
    assert_eq!(response.expect("it does not end").events().count(), 1);
}
