//! What a new user would write compiles, and does what it says: keys, values and requests in every form.

mod common;

use std::borrow::Cow;

use common::start;
use etcd_watch_tokio::{
    CallError, Compact, Compare, Delete, EventKind, Get, KeyRange, MirrorRequest, OpenError, OwnedEvent, Put,
    RequestError, Txn, WatchRequest, cache::CacheRequest,
};
use tokio::sync::mpsc;

#[tokio::test]
async fn a_key_is_anything_that_is_text_or_bytes() {
    let (_etcd, client) = start().await;
    let owned = String::from("name");
    let bytes = bytes::Bytes::from_static(b"name");
    client.put("name", "anna").await.expect("it is put");
    client.put(&owned, owned.clone()).await.expect("it is put");
    client.put(b"name", b"anna").await.expect("it is put");
    client.put(bytes.clone(), &bytes).await.expect("it is put");
    client.put(Cow::from("name"), vec![1, 2, 3]).await.expect("it is put");
    client.put(owned.as_bytes(), owned.as_str()).await.expect("it is put");
    for get in [
        Get::from("name"),
        Get::from(&owned),
        Get::from(owned.clone()),
        Get::from(b"name"),
        Get::from(&bytes),
        Get::from(KeyRange::key("name")),
    ] {
        assert_eq!(client.get(get).await.expect("it is read").count(), 1);
    }
    let read = client.get(&owned).await.expect("it is read");
    let pair = read.first().expect("it is there");
    assert_eq!((pair.key_str(), pair.value_str(), pair.version), (Ok("name"), Ok("name"), 6));
    assert_eq!(client.delete(owned).await.expect("it is deleted").deleted(), 1);
}

#[tokio::test]
async fn what_has_options_is_said_in_a_second_form() {
    let (_etcd, client) = start().await;
    let first = client.put("a/1", "one").await.expect("it is put").revision();
    let again = client.put_with(Put::new("a/1", "uno").prev_kv(true)).await.expect("it is put");
    assert_eq!(again.prev().expect("it was there").value_str(), Ok("one"));
    client.put("a/2", "two").await.expect("it is put");
    let all = client.get(Get::prefix("a/").limit(1)).await.expect("they are read");
    assert!(all.has_more() && all.count() == 2 && all.kvs().len() == 1);
    let deleted = client.delete(Delete::key("a/1").prev_kv(true)).await.expect("it is deleted");
    assert_eq!(deleted.prevs()[0].value_str(), Ok("uno"));
    let deleted = client.delete_prefix("a/").await.expect("they are deleted");
    assert_eq!((deleted.deleted(), deleted.header().is_present()), (1, true));
    client.compact(first).await.expect("it is compacted");
    let last = deleted.revision();
    client.compact(Compact::before(last).physical()).await.expect("it is compacted");
}

#[tokio::test]
async fn a_watch_a_mirror_and_a_cache_take_a_key_a_range_or_a_request() {
    let (_etcd, client) = start().await;
    let one = client.watch("k").expect("a good request");
    let many = client.watch(KeyRange::prefix("k")).expect("a good request");
    let from = client.watch(WatchRequest::new("k").start_revision(2)).expect("a good request");
    // A watch from now on sees what is put once it has begun.
    let writer = tokio::spawn({
        let client = client.clone();
        async move {
            while client.put("k", "v").await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    });
    for mut watch in [one, many, from] {
        let response = watch.try_next().await.expect("it goes on").expect("it does not end");
        let event = response.events().next().expect("there is one");
        assert_eq!((event.key_str(), event.value_str()), (Ok("k"), Ok("v")));
    }
    for request in
        [MirrorRequest::from("k"), KeyRange::prefix("k").into(), MirrorRequest::new("k").prev_kv(true)]
    {
        drop(client.mirror(request).expect("a good request"));
    }
    drop(client.mirror("k").expect("a good request"));
    let cache = client.cache("k").expect("a good request");
    assert_eq!(cache.ready().await.expect("it is listed").len(), 1);
    drop(client.cache(CacheRequest::new(KeyRange::prefix("k")).history(3)).expect("a good request"));
    writer.abort();
}

/// Without a word about the types of events, a task sends them to another.
#[tokio::test]
async fn events_go_through_a_channel() {
    let (_etcd, client) = start().await;
    let mut watch =
        client.watch(WatchRequest::new("k").start_revision(1).prev_kv(true)).expect("a good request");
    let (sender, mut events) = mpsc::channel::<OwnedEvent>(8);
    let task = tokio::spawn(async move {
        while let Ok(Some(response)) = watch.try_next().await {
            for event in response.events() {
                if sender.send(event.to_owned()).await.is_err() {
                    return;
                }
            }
        }
    });
    client.put("k", "v").await.expect("it is put");
    client.delete("k").await.expect("it is deleted");
    let (put, delete) = (events.recv().await.expect("it comes"), events.recv().await.expect("it comes"));
    assert!(put.is_create() && put.kind == EventKind::Put && put.kv.value_str() == Ok("v"));
    assert_eq!((delete.kind, delete.prev), (EventKind::Delete, Some(put.kv)));
    drop(events);
    client.close().await;
    task.await.expect("no panic");
}

#[tokio::test]
async fn the_empty_key_is_refused_everywhere_and_nothing_is_sent() {
    let (etcd, client) = start().await;
    let before = etcd.with_model(|model| model.revision());
    let refused = |error: CallError| {
        let CallError::InvalidArgument { field, problem, .. } = error else { panic!("{error}") };
        assert!(field.starts_with("key") && problem.contains("KeyRange::all()"), "{field} {problem}");
    };
    refused(client.put("", "v").await.map(drop).expect_err("no key"));
    refused(client.get("").await.map(drop).expect_err("no key"));
    refused(client.delete("").await.map(drop).expect_err("no key"));
    refused(client.txn(Txn::new().and_then(Delete::key(""))).await.map(drop).expect_err("no key"));
    let empty = Compare::version("").equals(0);
    refused(client.txn(Txn::new().when(empty)).await.map(drop).expect_err("no key"));
    let within = client.namespaced("app/").expect("a prefix");
    for client in [&client, &within] {
        let no_key = Some(OpenError::Request(RequestError::EmptyKey));
        assert_eq!(client.watch("").err(), no_key);
        assert_eq!(client.mirror("").err(), no_key);
        assert!(client.cache("").is_err());
        refused(client.get("").await.map(drop).expect_err("no key"));
    }
    assert_eq!(etcd.with_model(|model| model.revision()), before);
    // What etcdctl calls `--prefix ""` and `--from-key ""` is every key.
    assert_eq!(client.get(Get::prefix("")).await.expect("all are read").count(), 0);
    assert_eq!(client.delete(KeyRange::from_key("")).await.expect("all are deleted").deleted(), 0);
}
