//! Connected, frozen, back, cut off, back, ended: for each kind, on real servers and all runtimes.

use etcd_watch_client::{
    CloseReason, KeyRange, Monitor, NeverReady, WatchRequest,
    cache::{CacheRequest, CacheStatus},
    config::{Config, DecodeError},
};
use etcd_watch_testkit::{harness::EtcdVersion, proxy::Cut};

use crate::{
    DEADLINE, On, World, in_time,
    kinds::{self, Kind, UNREADY_AFTER},
    until,
};

/// Everything is well.
async fn is_well(world: &World, kind: &mut Kind) {
    let name = kind.name;
    in_time(name, kind.monitor.wait_ready()).await.unwrap_or_else(|ended| panic!("{name}: {ended}"));
    let health = until(name, &mut kind.monitor, |health| {
        health.is_ready() && health.away_for().is_none() && health.endpoint().is_some()
    })
    .await;
    let endpoint = health.endpoint().expect("it is connected").to_string();
    assert_eq!(endpoint, world.proxy.endpoint(), "{name}");
    assert!(health.connected_for().is_some_and(|time| time <= DEADLINE), "{name}: {health:?}");
    assert!(health.heard_ago().is_some_and(|time| time <= DEADLINE), "{name}: {health:?}");
}

/// It says what is wrong.
async fn is_away(kind: &mut Kind) {
    let name = kind.name;
    // Default caches, and leases, are good for a while without a connection.
    let is_ready_all_the_same = name == "session";
    // A client has a connection for calls, too, whose end it notices later than that of its streams.
    let health = until(name, &mut kind.monitor, |health| {
        let is_told = health.away_for().is_some() && health.last_error().is_some();
        is_told && health.is_ready() == is_ready_all_the_same && health.endpoint().is_none()
    })
    .await;
    assert!(health.last_error_ago().is_some_and(|time| time <= DEADLINE), "{name}: {health:?}");
    assert!(!health.last_error().expect("there is one").to_string().is_empty());
    if name == "cache" {
        assert!(health.away_for().is_some_and(|time| time >= UNREADY_AFTER), "{health:?}");
    }
}

/// Waits for the end.
async fn end_of(what: &str, monitor: &Monitor) -> NeverReady {
    let mut monitor = monitor.clone();
    in_time(what, async {
        loop {
            if let Err(ended) = monitor.changed().await {
                return ended;
            }
        }
    })
    .await
}

async fn story(on: On, version: EtcdVersion) {
    let world = World::start(on, version).await;
    let idle = world.client.health();
    assert!(!idle.is_ready() && idle.endpoint().is_none() && idle.heard_ago().is_none(), "{idle:?}");
    let mut kinds = in_time("they open", kinds::all(&world.client)).await;
    for kind in &mut kinds {
        is_well(&world, kind).await;
    }

    world.server.pause().expect("it is frozen");
    for kind in &mut kinds {
        is_away(kind).await;
    }
    world.server.resume().expect("it goes on");
    for kind in &mut kinds {
        is_well(&world, kind).await;
    }

    world.proxy.refuse();
    world.proxy.cut_all(Cut::Reset);
    for kind in &mut kinds {
        is_away(kind).await;
    }
    world.proxy.restore();
    for kind in &mut kinds {
        is_well(&world, kind).await;
        let health = kind.monitor.health();
        assert!(health.last_error().is_some(), "{}: it stays: {health:?}", kind.name);
    }

    world.client.close().await;
    for kind in &kinds {
        let ended = end_of(kind.name, &kind.monitor).await;
        assert!(matches!(ended, NeverReady::ClientClosed), "{}: {ended:?}", kind.name);
        let ended = in_time(kind.name, kind.monitor.wait_ready()).await;
        assert!(matches!(ended, Err(NeverReady::ClientClosed)), "{}: {ended:?}", kind.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_tells_what_happens_to_it_on_tokio_and_etcd_3_5() {
    story(On::Tokio, EtcdVersion::V3_5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_tells_what_happens_to_it_on_smol_and_etcd_3_7() {
    story(On::Smol, EtcdVersion::V3_7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_dropped_or_closed_says_so_and_takes_nothing_along() {
    let world = World::start(On::Tokio, EtcdVersion::V3_6).await;
    let kinds = in_time("they open", kinds::all(&world.client)).await;
    for Kind { name, monitor, it } in kinds.into_iter().filter(|kind| kind.name != "client") {
        in_time(name, monitor.wait_ready()).await.expect("it is ready");
        let mut changes = monitor.clone();
        let waiting = tokio::spawn(async move { while changes.changed().await.is_ok() {} });
        drop(it);
        let ended = in_time(name, async {
            // A task that is aborted drops what it has a little later.
            while monitor.health().is_ready() {
                tokio::task::yield_now().await;
            }
            monitor.wait_ready().await
        })
        .await;
        assert!(matches!(ended, Err(NeverReady::Closed)), "{name}: {ended:?}");
        in_time(name, waiting).await.expect("it was told");
    }
    in_time("a call", world.client.get("h/any")).await.expect("the client goes on");
    let monitor = world.client.monitor();
    in_time("the client", monitor.wait_ready()).await.expect("it is ready");
    let World { client, .. } = world;
    drop(client);
    let ended = end_of("the client", &monitor).await;
    assert!(matches!(ended, NeverReady::ClientClosed), "a monitor keeps no client: {ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_revisions_and_why_it_ended() {
    let world = World::start(On::Tokio, EtcdVersion::V3_5).await;
    let first = world.put("h/a").await;
    let mut watch = world.client.watch(WatchRequest::new(KeyRange::prefix("h/")).start_revision(first));
    let watch = watch.as_mut().expect("it is opened");
    let health = watch.health();
    assert!(!health.is_ready() && health.published_revision().is_none(), "{health:?}");
    let last = world.put("h/b").await;
    while watch.health().published_revision() != Some(last) {
        let response = in_time("a response", watch.next()).await.expect("it goes on");
        assert!(response.is_ok(), "{response:?}");
    }
    let observed = watch.health().observed_revision();
    assert!(observed >= Some(last), "{observed:?}");

    in_time("a compaction", world.direct.compact(last)).await.expect("it is compacted");
    let late = world.client.watch(WatchRequest::new(KeyRange::prefix("h/")).start_revision(first));
    let mut late = late.expect("it is opened");
    let monitor = late.monitor();
    let is_compacted = |ended: &NeverReady| match ended {
        NeverReady::Ended(error) => {
            matches!(error.downcast_ref(), Some(CloseReason::Compacted { .. }))
        }
        _ => false,
    };
    // Before the end has been taken from the handle, and after. etcd creates it before it ends it.
    let ended = end_of("the watch", &monitor).await;
    assert!(is_compacted(&ended), "{ended:?}");
    while in_time("its items", late.next()).await.is_some() {}
    let ended = in_time("the end", monitor.wait_ready()).await.expect_err("it can't become ready");
    assert!(is_compacted(&ended), "{ended:?}");
    drop(late);
    let ended = in_time("the end", monitor.wait_ready()).await.expect_err("it can't become ready");
    assert!(is_compacted(&ended), "the reason stays: {ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_and_configurations_tell_revisions_states_and_what_does_not_decode() {
    let world = World::start(On::Tokio, EtcdVersion::V3_7).await;
    let patient = world.client.cache(CacheRequest::new(KeyRange::prefix("h/"))).expect("it is made");
    let strict = kinds::cache(&world.client);
    let never = CacheRequest::new(KeyRange::prefix("h/")).unready_after(None);
    let never = world.client.cache(never).expect("it is made");
    let number = |value: &[u8]| String::from_utf8_lossy(value).parse::<u32>();
    let config = Config::value(&world.client, "h/number", number).expect("it is made");
    for monitor in [patient.monitor(), strict.monitor(), never.monitor(), config.monitor()] {
        in_time("ready", monitor.wait_ready()).await.expect("it is ready");
    }
    let put = world.put("h/number").await;
    in_time("the cache", patient.wait_for(put)).await.expect("it comes");
    let health = patient.health();
    assert!(
        health.published_revision() >= Some(put) && health.observed_revision() >= Some(put),
        "{health:?}"
    );
    let mut monitor = config.monitor();
    let health = until("the error", &mut monitor, |health| health.last_error().is_some()).await;
    let error = health.last_error().expect("there is one");
    let error = error.downcast_ref::<DecodeError>();
    assert_eq!(error.map(|error| error.revision), Some(put));
    assert!(health.is_ready() && health.published_revision() == Some(put), "{health:?}");

    world.proxy.refuse();
    world.proxy.cut_all(Cut::Reset);
    let mut monitor = strict.monitor();
    until("the strict one", &mut monitor, |health| !health.is_ready()).await;
    assert_eq!(strict.status(), CacheStatus::Away);
    for cache in [&patient, &never] {
        let mut monitor = cache.monitor();
        let health = until("away", &mut monitor, |health| health.away_for().is_some()).await;
        assert!(health.is_ready(), "{health:?}");
        assert_eq!(cache.status(), CacheStatus::Current);
    }
    world.proxy.restore();
    until("the strict one", &mut monitor, etcd_watch_client::Health::is_ready).await;
    assert_eq!(strict.status(), CacheStatus::Current);
}
