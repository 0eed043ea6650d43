//! Programs that are started again go on at their checkpoints, on real etcd.

use std::time::Duration;

use etcd_watch_client::{
    Checkpoint, Client, CloseReason, KeyRange, ListReason, MirrorEvent, MirrorRequest, WatchRequest,
};
use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

/// A client of its own, as a program that is started has one, on each of the servers.
async fn on_each_server<F: Future<Output = ()>>(test: impl Fn(Client, Client) -> F) {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
        let client =
            || etcd_watch_tokio::builder().endpoints([server.endpoint()]).connect_lazy().expect("valid");
        timeout(DEADLINE, test(client(), client())).await.expect("in time");
    }
}

fn range() -> KeyRange {
    KeyRange::prefix("c/")
}

fn as_text(checkpoint: Checkpoint) -> Checkpoint {
    checkpoint.to_string().parse().expect("its own text")
}

#[tokio::test]
async fn a_watch_resumes_where_the_last_program_had_come_to() {
    on_each_server(async |first, second| {
        let mut watch = first.watch(WatchRequest::new(range()).created_notify(true)).expect("valid");
        let created = watch.try_next().await.expect("it runs").expect("it is created");
        let begun = as_text(created.checkpoint());
        first.close().await;
        second.put("c/1", "while nobody watches").await.expect("it is put");

        let mut watch = second.watch(WatchRequest::new(range()).resume(begun)).expect("valid");
        let response = watch.try_next().await.expect("it runs").expect("the event");
        assert_eq!(response.events().next().expect("an event").key(), b"c/1");
        let read = second.get("c/1").await.expect("it is read");
        assert_eq!(response.checkpoint(), Checkpoint::after(read.header()));
    })
    .await;
}

#[tokio::test]
async fn a_watch_does_not_resume_in_another_store() {
    on_each_server(async |first, second| {
        let read = first.get("c/1").await.expect("it is read").header();
        let elsewhere: Checkpoint = format!("7@{:x}", read.cluster_id ^ 1).parse().expect("a checkpoint");
        let mut watch = second.watch(WatchRequest::new(range()).resume(elsewhere)).expect("valid");
        let ended = watch.try_next().await.expect_err("the store is another one");
        assert!(matches!(ended.reason(), CloseReason::StoreChanged { .. }), "{ended}");
    })
    .await;
}

#[tokio::test]
async fn a_mirror_resumes_with_the_changes_and_lists_only_when_they_are_compacted() {
    on_each_server(async |first, second| {
        first.put("c/1", "1").await.expect("it is put");
        let request = || MirrorRequest::new(range()).keep_index(false);
        let mut mirror = first.mirror(request()).expect("valid");
        while mirror.checkpoint().is_none() {
            mirror.try_next().await.expect("it runs").expect("it goes on");
        }
        let listed = as_text(mirror.checkpoint().expect("it is synced"));
        first.put("c/2", "2").await.expect("it is put");
        first.delete("c/1").await.expect("it is deleted");
        drop(mirror);

        let mut mirror = second.mirror(request().resume(listed)).expect("valid");
        assert_eq!(mirror.checkpoint(), Some(listed));
        let mut updates = Vec::new();
        while updates.len() < 2 {
            let event = mirror.try_next().await.expect("it runs").expect("it goes on");
            assert!(!matches!(event, MirrorEvent::Listing { .. }), "nothing is compacted: {event:?}");
            updates.extend(event.updates().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))));
        }
        assert_eq!(updates, [(b"c/2".to_vec(), Some(b"2".to_vec())), (b"c/1".to_vec(), None)]);
        drop(mirror);

        let last = second.put("c/3", "3").await.expect("it is put").revision();
        second.compact(last).await.expect("it is compacted");
        let mut mirror = second.mirror(request().resume(listed)).expect("valid");
        let event = mirror.try_next().await.expect("it runs").expect("it goes on");
        assert_eq!(event, MirrorEvent::Listing { revision: last, reason: ListReason::Compacted });
        assert_eq!(mirror.checkpoint(), None);
    })
    .await;
}
