//! A backlog of large values, with default settings.

use std::time::Duration;

use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};
use etcd_watch_tokio::{KeyRange, Put, WatchRequest};
use tokio::time::timeout;

const REVISIONS: usize = 1_000;
const VALUE_BYTES: usize = 64 << 10;
const DEADLINE: Duration = Duration::from_secs(120);

async fn a_backlog_of_64_mib_arrives(version: EtcdVersion) {
    let server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
    let client = etcd_watch_tokio::connect([server.endpoint()]).await.expect("a client");
    let value = |index: usize| vec![u8::try_from(index % 251).expect("below 251"); VALUE_BYTES];
    let mut revisions = Vec::with_capacity(REVISIONS);
    for index in 0..REVISIONS {
        let put =
            client.put(Put::new(format!("backlog/{}", index % 10), value(index))).await.expect("it is put");
        revisions.push(put.header.expect("etcd sends headers").revision);
    }
    let request = WatchRequest::new(KeyRange::prefix("backlog/")).start_revision(revisions[0]);
    let mut watch = client.watch(request).expect("a lawful request");
    let mut received = 0;
    let receive = async {
        while received < REVISIONS {
            let response = watch.try_next().await.expect("the watch goes on").expect("it has a response");
            for event in response.events() {
                assert_eq!(event.mod_revision(), revisions[received]);
                assert_eq!(event.value(), value(received));
                received += 1;
            }
        }
    };
    timeout(DEADLINE, receive).await.expect("the backlog arrives in time");
    let stats = client.stats();
    assert_eq!((stats.events, stats.stale_events), (REVISIONS as u64, 0), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_64_mib_arrives_from_3_4() {
    a_backlog_of_64_mib_arrives(EtcdVersion::V3_4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_64_mib_arrives_from_3_5() {
    a_backlog_of_64_mib_arrives(EtcdVersion::V3_5).await;
}
