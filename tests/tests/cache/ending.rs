//! How caches end, and what they leave behind.

use etcd_watch_client::{
    Client, CloseReason, KeyRange, Put, Txn,
    cache::{CacheError, CacheRequest, CacheStatus, SubscribeRequest},
};
use etcd_watch_testkit::{
    harness::{Access, Auth, EtcdServer, EtcdVersion, Keys, wait_until},
    model::ModelConfig,
    server::EmbeddedEtcd,
};

use crate::{DEADLINE, On, cache, client, in_time, model, put, real, state, write};

async fn watches(server: &EtcdServer, count: u64) {
    let what = format!("{count} watches are left");
    wait_until(&what, DEADLINE, || server.watcher_count().expect("it tells") == count).await;
}

async fn nothing_is_left_behind(on: On) {
    let server = real(EtcdVersion::V3_5).await;
    let client = client(on, server.endpoint());
    write(&client, 0).await;

    // The last handle counts, of whatever kind.
    let cached = cache(&client);
    in_time(cached.ready()).await.expect("it is listed");
    watches(&server, 1).await;
    let (other, mut subscription) = (cached.clone(), cached.subscribe(KeyRange::key("c/x")).expect("valid"));
    let snapshot = cached.snapshot();
    drop((cached, other));
    put(&client, "c/x", "still told").await;
    in_time(subscription.try_next()).await.expect("it goes on").expect("an event");
    assert_eq!(server.watcher_count().expect("it tells"), 1);
    drop(subscription);
    watches(&server, 0).await;
    assert!(!snapshot.is_empty(), "what was taken stays");

    // So does closing it.
    let cached = cache(&client);
    let last = in_time(cached.ready()).await.expect("it is listed");
    watches(&server, 1).await;
    let mut subscription = cached.subscribe(SubscribeRequest::new(KeyRange::prefix("c/"))).expect("valid");
    let waiting = tokio::spawn({
        let cached = cached.clone();
        async move { cached.wait_for(i64::MAX).await.map(drop) }
    });
    cached.close();
    watches(&server, 0).await;
    assert_eq!(in_time(waiting).await.expect("it runs"), Err(CacheError::Closed));
    assert!(in_time(subscription.next()).await.is_none(), "closing is no error");
    assert_eq!(cached.status(), CacheStatus::Ended(CacheError::Closed));
    assert_eq!(state(&cached.snapshot()), state(&last));
    assert!(cached.wait_for(last.revision()).await.is_ok(), "it has been there");
    assert_eq!(in_time(cached.consistent()).await.map(drop), Err(CacheError::Closed));
}

async fn a_closed_client_ends_it_with_the_reason(on: On) {
    let server = model().await;
    let client = client(on, server.endpoint());
    write(&client, 0).await;
    let cached = cache(&client);
    let last = in_time(cached.ready()).await.expect("it is listed");
    let mut subscription = cached.subscribe(KeyRange::prefix("c/")).expect("valid");
    client.close().await;
    let CacheError::Ended(end) = in_time(cached.closed()).await else { panic!("{:?}", cached.status()) };
    assert_eq!(end.reason(), &CloseReason::ShutDown);
    assert_eq!(in_time(subscription.try_next()).await.map(drop), Err(CacheError::Ended(end)));
    assert!(subscription.next().await.is_none());
    assert_eq!(state(&cached.snapshot()), state(&last));
    assert!(client.cache(CacheRequest::new(KeyRange::all())).is_err());
}

macro_rules! on {
    ($($module:ident: $on:expr;)*) => {$(
        mod $module {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn nothing_is_left_behind() {
                super::nothing_is_left_behind($on).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_closed_client_ends_it_with_the_reason() {
                super::a_closed_client_ends_it_with_the_reason($on).await;
            }
        }
    )*};
}

on! {
    tokio_runtime: crate::On::Tokio;
    smol_runtime: crate::On::Smol;
    async_std_runtime: crate::On::AsyncStd;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_decoder_ends_the_cache_and_not_its_readers() {
    let server = model().await;
    let client = client(On::Tokio, server.endpoint());
    put(&client, "c/a", "fine").await;
    let decode = |_: &[u8], value: &[u8]| {
        assert_ne!(value, b"boom", "on purpose");
        Ok::<_, std::convert::Infallible>(value.len())
    };
    let cached = client.cache(CacheRequest::new(KeyRange::prefix("c/")).typed(decode)).expect("valid");
    in_time(cached.ready()).await.expect("it is listed");
    put(&client, "c/a", "boom").await;
    assert_eq!(in_time(cached.closed()).await, CacheError::Stopped);
    assert_eq!(cached.get("c/a").expect("the last state").value(), b"fine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_with_too_many_keys_is_not_shown() {
    let server = model().await;
    let client = client(On::Tokio, server.endpoint());
    put(&client, "c/a", "1").await;
    let cached = client.cache(CacheRequest::new(KeyRange::prefix("c/")).max_keys(2)).expect("valid");
    let listed = in_time(cached.ready()).await.expect("it is listed");
    let mut subscription = cached.subscribe(KeyRange::prefix("c/")).expect("valid");
    let two = Txn::new().and_then(Put::new("c/b", "2")).and_then(Put::new("c/c", "3"));
    in_time(client.txn(two)).await.expect("it is made");
    assert_eq!(in_time(cached.closed()).await, CacheError::TooManyKeys { limit: 2 });
    assert_eq!(state(&cached.snapshot()), state(&listed));
    let told = in_time(subscription.try_next()).await.map(drop);
    assert_eq!(told, Err(CacheError::TooManyKeys { limit: 2 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_store_is_followed_and_its_predecessors_revisions_are_given_up() {
    let mut server = model().await;
    let client = client(On::Tokio, server.endpoint());
    let last = write(&client, 0).await;
    let cached = cache(&client);
    in_time(cached.ready()).await.expect("it is listed");
    let mut subscription = cached.subscribe(KeyRange::prefix("c/")).expect("valid");
    let waiting = tokio::spawn({
        let cached = cached.clone();
        async move { cached.wait_for(last + 1_000).await.map(drop) }
    });
    wait_until("it is waited for", DEADLINE, || cached.stats().progress_requests > 0).await;
    let address = server.address();
    server.stop().await;
    let config = ModelConfig { cluster_id: 77, ..ModelConfig::default() };
    let model = etcd_watch_testkit::model::ModelEtcd::new(config);
    let server = EmbeddedEtcd::start_on(address, model).await.expect("it starts");
    // By a client whose connections are not those that have just been cut.
    let direct = crate::client(On::Tokio, server.endpoint());
    let revision = put(&direct, "c/new", "of another store").await;
    assert!(revision < last);
    assert_eq!(in_time(waiting).await.expect("it runs"), Err(CacheError::OtherStore));
    let now = in_time(cached.consistent()).await.expect("it goes on");
    assert_eq!((now.len(), now.revision()), (1, revision));
    let held = cached.snapshot_at(last).expect_err("that was another store");
    assert!(held.held.iter().all(|held| *held.end() < last));
    let event = in_time(subscription.try_next()).await.expect("it goes on").expect("an event");
    let (changes, after) = crate::changes(event);
    assert_eq!(after.len(), 1);
    assert!(changes.len() > 40, "what the other store doesn't have is deleted");
}

#[tokio::test]
async fn metrics_tell_of_a_cache_by_its_name() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().expect("the first in this process");
    let server = model().await;
    let client = client(On::Tokio, server.endpoint());
    write(&client, 0).await;
    let request = CacheRequest::new(KeyRange::prefix("c/")).name("settings");
    let cached = client.cache(request).expect("it is made");
    in_time(cached.ready()).await.expect("it is listed");
    let told = |name: &str| {
        let all = snapshotter.snapshot().into_vec();
        let of = all.into_iter().find(|(key, ..)| {
            let label = key.key().labels().find(|label| label.key() == "cache");
            key.key().name() == name && label.is_some_and(|label| label.value() == "settings")
        });
        of.map(|(.., value)| value)
    };
    let gauge = |value: f64| Some(metrics_util::debugging::DebugValue::Gauge(value.into()));
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    let keys = cached.snapshot().len() as f64;
    wait_until("the keys are told", DEADLINE, || told("etcd_watch_cache_keys") == gauge(keys)).await;
    cached.close();
    wait_until("they are gone", DEADLINE, || told("etcd_watch_cache_keys") == gauge(0.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_needs_no_more_than_to_read_the_range() {
    for version in [EtcdVersion::V3_4, EtcdVersion::V3_5] {
        let server = real(version).await;
        let auth = Auth::enable(&server.etcdctl().expect("it came along"), "password-of-root").await;
        let auth = auth.expect("authentication is turned on");
        auth.add_user("reader", "password-of-reader").await.expect("it is added");
        auth.add_role("readers").await.expect("it is added");
        auth.grant("readers", Access::Read, Keys::Prefix("c/")).await.expect("it is granted");
        auth.give_role("reader", "readers").await.expect("it is given");
        let client = |name: &str, password: &str| -> Client {
            etcd_watch_tokio::builder()
                .endpoints([server.endpoint()])
                .user(name, password)
                .connect_lazy()
                .expect("valid")
        };
        let root = client("root", "password-of-root");
        let reader = client("reader", "password-of-reader");
        put(&root, "c/a", "1").await;

        // Lists, watches, and whatever is asked to be as new as the store, are of these keys alone.
        let cached = cache(&reader);
        in_time(cached.ready()).await.expect("it is listed");
        let other = put(&root, "other", "").await;
        assert!(in_time(cached.wait_for(other)).await.expect("it goes on").revision() >= other);
        let other = put(&root, "other", "").await;
        assert!(in_time(cached.consistent()).await.expect("it goes on").revision() >= other);

        let denied = reader.cache(CacheRequest::new(KeyRange::prefix("d/"))).expect("it is made");
        let CacheError::Ended(end) = in_time(denied.ready()).await.expect_err("it is denied") else {
            panic!("{:?}", denied.status());
        };
        assert!(matches!(end.reason(), CloseReason::PermissionDenied { .. }), "{end}");
    }
}
