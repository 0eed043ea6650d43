//! Bookmarks of subscriptions: where nothing has changed that they are about.

use std::time::Duration;

use etcd_watch_client::{
    KeyRange,
    cache::{CacheEvent, SubscribeRequest, Subscription},
};
use etcd_watch_testkit::harness::EtcdVersion;

use crate::{On, World, in_time, kinds};

/// The next event as text, with its revision.
async fn next(subscription: &mut Subscription) -> (&'static str, i64) {
    let event = in_time("an event", subscription.try_next()).await.expect("it goes on").expect("an event");
    match event {
        CacheEvent::Initial(initial) => ("initial", initial.revision()),
        CacheEvent::Changes(changes) => ("changes", changes.revision()),
        CacheEvent::Bookmark { revision } => ("bookmark", revision),
        CacheEvent::Resynced { changes, .. } => ("resynced", changes.revision()),
        other => panic!("{other:?}"),
    }
}

/// Waits for a bookmark at this revision or past it. Until then there are only bookmarks, and they rise.
async fn comes_to(subscription: &mut Subscription, revision: i64) -> i64 {
    let mut last = 0;
    while last < revision {
        let (kind, next) = next(subscription).await;
        assert_eq!(kind, "bookmark");
        assert!(next > last);
        last = next;
    }
    last
}

async fn story(on: On, version: EtcdVersion) {
    let progress = Duration::from_millis(300);
    let world = World::start_with(on, version, |server| server.progress_notify_interval(progress)).await;
    let cache = kinds::cache(&world.client);
    in_time("ready", cache.ready()).await.expect("it is ready");
    let subscribe = |range: KeyRange, bookmarks| {
        let request = SubscribeRequest::new(range).bookmarks(bookmarks);
        cache.subscribe(request).expect("it is made")
    };
    let mut all = subscribe(KeyRange::prefix("h/"), true);
    let mut part = subscribe(KeyRange::prefix("h/part/"), true);
    let mut plain = subscribe(KeyRange::prefix("h/"), false);

    // The server tells of its own accord that the store has gone on.
    let other = world.put("other").await;
    let told = comes_to(&mut all, other).await;
    assert!(cache.snapshot().revision() >= told);
    comes_to(&mut part, other).await;

    // A change is none to a subscription that is not about it.
    let change = world.put("h/a").await;
    while next(&mut all).await != ("changes", change) {}
    comes_to(&mut part, change).await;
    let last = world.put("h/part/a").await;
    while next(&mut part).await != ("changes", last) {}
    while next(&mut all).await != ("changes", last) {}

    // Whoever has not asked for bookmarks gets none.
    assert_eq!(next(&mut plain).await, ("changes", change));
    assert_eq!(next(&mut plain).await, ("changes", last));

    // They come when the cache proves for somebody that it is at a revision.
    let other = world.put("other").await;
    in_time("a wait", cache.wait_for(other)).await.expect("it comes");
    comes_to(&mut all, other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bookmarks_tell_how_far_a_quiet_subscription_is_on_tokio() {
    story(On::Tokio, EtcdVersion::V3_7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bookmarks_tell_how_far_a_quiet_subscription_is_on_smol() {
    story(On::Smol, EtcdVersion::V3_5).await;
}
