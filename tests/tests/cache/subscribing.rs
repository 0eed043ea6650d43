//! Subscribers, however slow and however many, are told all that changes on the one watch that the cache has.

use etcd_watch_client::{
    EventKind, Filters, KeyRange, Txn,
    cache::{
        CacheError, CacheEvent, CacheRequest, ResyncReason, SubscribeError, SubscribeRequest, TypedCache,
    },
};
use etcd_watch_testkit::{harness::EtcdVersion, harness::wait_until};
use etcd_watch_tokio::Put;

use crate::{DEADLINE, On, State, cache, changes, client, fold, in_time, model, put, real, state, write};

fn all() -> KeyRange {
    KeyRange::prefix("c/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subscriber_is_told_the_difference_instead() {
    let server = model().await;
    let client = client(On::Tokio, server.endpoint());
    write(&client, 0).await;
    let cache = cache(&client);
    let first = in_time(cache.ready()).await.expect("it is listed");
    let mut slow = cache.subscribe(SubscribeRequest::new(all()).queue(3)).expect("valid");
    let mut quick = cache.subscribe(SubscribeRequest::new(all()).queue(1_000)).expect("valid");
    let last = write(&client, 1).await;
    let now = in_time(cache.wait_for(last)).await.expect("it goes on");
    wait_until("the slow one lags", DEADLINE, || cache.stats().slow_resyncs == 1).await;

    let mut folded = state(&first);
    let event = in_time(slow.try_next()).await.expect("it goes on").expect("an event");
    let CacheEvent::Resynced { reason: ResyncReason::Lagged, changes: difference } = event else {
        panic!("{event:?}");
    };
    assert_eq!(difference.changes(), now.changes_since(&first));
    assert!(difference.changes().is_sorted_by(|a, b| a.key() < b.key()), "a change for each key, in order");
    fold(&mut folded, difference.changes());
    assert_eq!(folded, state(&now));

    // From there on it is told every change again.
    let next = put(&client, "c/last", "next").await;
    let event = in_time(slow.try_next()).await.expect("it goes on").expect("an event");
    assert!(matches!(&event, CacheEvent::Changes(changes) if changes.revision() == next), "{event:?}");

    // The quick one is told each revision by itself, a transaction at once.
    let (mut folded, mut revision, mut largest) = (state(&first), first.revision(), 0);
    while revision < next {
        let event = in_time(quick.try_next()).await.expect("it goes on").expect("an event");
        assert!(matches!(event, CacheEvent::Changes(_)), "{event:?}");
        let (changes, after) = changes(event);
        assert!(
            after.revision() > revision && changes.iter().all(|change| change.revision() == after.revision())
        );
        fold(&mut folded, &changes);
        assert_eq!(folded, state(&after));
        revision = after.revision();
        largest = largest.max(changes.len());
    }
    assert!(largest > 5, "the transaction's puts and deletes are told together");
    assert_eq!(cache.stats().subscribers, 2);
    drop((slow, quick));
    assert_eq!(cache.stats().subscribers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_subscribers_share_one_watch_and_hear_of_their_own_keys() {
    let server = real(EtcdVersion::V3_5).await;
    let client = client(On::Tokio, server.endpoint());
    let cache = cache(&client);
    // Some are there before the first list, some come after it.
    let subscribe = |index: usize| {
        let key = SubscribeRequest::new(KeyRange::key(format!("c/{index:03}")));
        cache.subscribe(key.initial_state(true)).expect("valid")
    };
    let mut subscriptions: Vec<_> = (0..50).map(subscribe).collect();
    in_time(cache.ready()).await.expect("it is listed");
    subscriptions.extend((50..100).map(subscribe));
    for index in 0..100 {
        put(&client, &format!("c/{index:03}"), "theirs").await;
    }
    for (index, subscription) in subscriptions.iter_mut().enumerate() {
        let event = in_time(subscription.try_next()).await.expect("it goes on").expect("an event");
        assert!(matches!(&event, CacheEvent::Initial(initial) if initial.iter().count() == 0), "{event:?}");
        let event = in_time(subscription.try_next()).await.expect("it goes on").expect("an event");
        let (changes, _) = changes(event);
        let [change] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!(change.key(), format!("c/{index:03}").as_bytes());
    }
    assert_eq!(server.watcher_count().expect("it tells"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_or_deletes_can_be_left_out_and_the_past_asked_for() {
    let server = model().await;
    let client = client(On::Tokio, server.endpoint());
    let cache = cache(&client);
    in_time(cache.ready()).await.expect("it is listed");
    let no_put = Filters { no_put: true, no_delete: false };
    let no_delete = Filters { no_put: false, no_delete: true };
    let mut deletes = cache.subscribe(SubscribeRequest::new(all()).filters(no_put)).expect("valid");
    let mut puts = cache.subscribe(SubscribeRequest::new(all()).filters(no_delete)).expect("valid");
    let first = put(&client, "c/a", "1").await;
    let both = Txn::new().and_then(Put::new("c/b", "2")).and_then(etcd_watch_client::Delete::key("c/a"));
    let second = client.txn(both).await.expect("it is made").revision();
    in_time(cache.wait_for(second)).await.expect("it goes on");

    let event = in_time(deletes.try_next()).await.expect("it goes on").expect("an event");
    let (told, _) = changes(event);
    assert_eq!((told.len(), told[0].kind(), told[0].revision()), (1, EventKind::Delete, second));
    assert_eq!(told[0].prev().map(|prev| prev.value()), Some(&b"1"[..]));
    for (revision, key) in [(first, "c/a"), (second, "c/b")] {
        let event = in_time(puts.try_next()).await.expect("it goes on").expect("an event");
        let (told, _) = changes(event);
        assert_eq!((told.len(), told[0].key(), told[0].revision()), (1, key.as_bytes(), revision));
    }

    // What the history holds can be told again.
    let mut past = cache.subscribe(SubscribeRequest::new(all()).start_revision(first)).expect("it is held");
    let mut folded = State::new();
    for revision in [first, second] {
        let event = in_time(past.try_next()).await.expect("it goes on").expect("an event");
        let (told, after) = changes(event);
        assert_eq!(after.revision(), revision);
        fold(&mut folded, &told);
    }
    assert_eq!(folded, state(&cache.snapshot()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_served_is_refused_by_name() {
    let server = model().await;
    let client = client(On::Tokio, server.endpoint());
    let request = || CacheRequest::new(all());
    for (field, request) in [
        ("history", request().history(0)),
        ("page_bytes", request().page_bytes(0)),
        ("buffer_bytes", request().buffer_bytes(0)),
    ] {
        let error = client.cache(request).expect_err("it is refused").to_string();
        assert!(error.starts_with(&format!("{field} is 0: it must be from 1 to ")), "{error}");
    }
    let cache = cache(&client);
    let refused = |request: SubscribeRequest| cache.subscribe(request).expect_err("it is refused");
    assert_eq!(
        refused(SubscribeRequest::new(all()).queue(0)).to_string(),
        "queue is 0: it must be from 1 to 4294967295"
    );
    assert!(
        refused(SubscribeRequest::new(all()).start_revision(-1)).to_string().contains("start_revision is -1")
    );
    let outside = refused(SubscribeRequest::new(KeyRange::prefix("d/")));
    assert!(matches!(outside, SubscribeError::OutsideCache { .. }), "{outside}");
    in_time(cache.ready()).await.expect("it is listed");
    let past = refused(SubscribeRequest::new(all()).start_revision(1));
    assert!(matches!(past, SubscribeError::NotHeld(_)), "{past}");
    let held = cache.snapshot_at(cache.snapshot().revision() + 5).expect_err("it is not there yet");
    assert_eq!(held.held, [1..=1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_does_not_decode_is_an_error_of_its_key_alone() {
    let server = model().await;
    let client = client(On::Tokio, server.endpoint());
    put(&client, "c/bad", "x").await;
    put(&client, "c/good", "1").await;
    let decode = |_: &[u8], value: &[u8]| String::from_utf8_lossy(value).parse::<u32>();
    let cache: TypedCache<u32> = client.cache(CacheRequest::new(all()).typed(decode)).expect("valid");
    in_time(cache.ready()).await.expect("it is listed");
    assert_eq!(cache.value("c/good").expect("a key").expect("it decodes").as_ref(), &1);
    let error = cache.value("c/bad").expect("a key").expect_err("it does not");
    assert_eq!((error.key(), error.last_good().is_none()), (&b"c/bad"[..], true));
    assert!(cache.value("c/none").is_none());

    let mut changes = cache.subscribe(all()).expect("valid");
    put(&client, "c/good", "2").await;
    let broken = put(&client, "c/good", "two").await;
    let again = put(&client, "c/good", "zwei").await;
    let now = in_time(cache.wait_for(again)).await.expect("it goes on");
    let kv = now.get("c/good").expect("a key");
    assert_eq!(kv.decoded().expect_err("it does not").mod_revision(), again);
    assert_eq!(kv.decoded_or_last_good().map(|value| **value), Some(2), "through two that don't");
    assert_eq!(cache.stats().decode_errors, 3, "each once");
    let broken = cache.snapshot_at(broken).expect("it is held");
    let good =
        broken.get("c/good").and_then(|kv| kv.decoded().err()?.last_good().cloned()).expect("it had one");
    assert_eq!((*good.value, good.mod_revision), (2, broken.revision() - 1));

    // What is shared is the very value.
    let event = in_time(changes.try_next()).await.expect("it goes on").expect("an event");
    let (told, after) = crate::changes(event);
    let of =
        |kv: Option<&etcd_watch_client::cache::CachedKv<_>>| kv.and_then(|kv| kv.decoded().ok().cloned());
    let (told, kept) = (of(told[0].kv()).expect("it decodes"), of(after.get("c/good")).expect("it decodes"));
    assert!(std::sync::Arc::ptr_eq(&told, &kept));

    // A key made anew doesn't fall back on the one before.
    in_time(client.delete("c/good")).await.expect("it is deleted");
    let last = put(&client, "c/good", "neu").await;
    let now = in_time(cache.wait_for(last)).await.expect("it goes on");
    assert!(now.get("c/good").expect("a key").decoded_or_last_good().is_none());
    cache.close();
    assert_eq!(in_time(cache.closed()).await, CacheError::Closed);
}
