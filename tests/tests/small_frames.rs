//! Many small events for a consumer that takes none: the client's own HTTP/2 must not take the frames that wait for an
//! attack, and end the connection.

use std::time::Duration;

use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};
use etcd_watch_tokio::{KeyRange, Overflow, WatchRequest};
use tokio::{task::JoinSet, time::timeout};

/// Writers at once.
const WRITERS: usize = 60;
/// More frames than fit into a stream's window.
const EVENTS: usize = 500 * WRITERS;
const DEADLINE: Duration = Duration::from_secs(120);

async fn small_frames_wait_on_one_connection(version: EtcdVersion) {
    let server =
        EtcdServer::builder(version).flag("unsafe-no-fsync", true).start_async().await.expect("etcd starts");
    let client = etcd_watch_tokio::connect([server.endpoint()]).await.expect("a client");
    let first = client.put("small/key", "first").await.expect("it is put").revision();
    let request = WatchRequest::new(KeyRange::key("small/key"))
        .start_revision(first)
        .overflow(Overflow::Pause)
        .buffer_bytes(4096)
        .own_stream(true);
    let mut watch = client.watch(request).expect("a lawful request");
    let mut received = watch.try_next().await.expect("it goes on").expect("it has a response").len();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let client = client.clone();
        writers.spawn(async move {
            for _ in 0..EVENTS / WRITERS {
                client.put("small/key", "x").await.expect("it is put");
            }
        });
    }
    writers.join_all().await;
    let mut next = first + i64::try_from(received).expect("few");
    let receive = async {
        while received < EVENTS + 1 {
            let response = watch.try_next().await.expect("the watch goes on").expect("it has a response");
            for event in response.events() {
                assert_eq!(event.mod_revision(), next);
                next += 1;
                received += 1;
            }
        }
    };
    timeout(DEADLINE, receive).await.expect("all events arrive in time");
    let stats = client.stats();
    assert_eq!((stats.opens, stats.reconnects, stats.stale_events), (1, 0, 0), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_frames_wait_on_one_connection_to_3_5() {
    small_frames_wait_on_one_connection(EtcdVersion::V3_5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_frames_wait_on_one_connection_to_3_7() {
    small_frames_wait_on_one_connection(EtcdVersion::V3_7).await;
}
