//! Every state that readers see is the store at its revision, through everything.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use etcd_watch_client::{
    Client, Delete, KeyRange,
    cache::{Cache, CacheEvent, CacheStatus, SubscribeRequest},
};
use etcd_watch_testkit::{
    harness::EtcdVersion,
    proxy::{Cut, FaultProxy},
};

use crate::{
    On, State, cache, changes, client, fold, in_time, model, put, real, real_servers, state, stored, write,
};

/// A task that takes snapshots and compares each with the store; how many it could.
fn reader(cache: Cache, direct: Client, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    tokio::spawn(async move {
        let mut compared = 0;
        while !stop.load(Ordering::Relaxed) {
            let snapshot = cache.snapshot();
            if snapshot.revision() == 0 {
                tokio::task::yield_now().await;
                continue;
            }
            // What has been compacted meanwhile can't be compared with.
            if let Some(stored) = stored(&direct, snapshot.revision()).await {
                assert_eq!(state(&snapshot), stored, "at revision {}", snapshot.revision());
                compared += 1;
            }
            // So does what the cache remembers.
            let back = snapshot.revision() - 3;
            if let (Ok(held), Some(stored)) = (cache.snapshot_at(back), stored(&direct, back).await) {
                assert_eq!((held.revision(), state(&held)), (back, stored));
            }
        }
        compared
    })
}

/// A subscriber whose fold is the cache's state after every event.
fn subscriber(cache: &Cache, events: Arc<AtomicU64>) -> tokio::task::JoinHandle<State> {
    let request = SubscribeRequest::new(KeyRange::prefix("c/")).initial_state(true);
    let mut subscription = cache.subscribe(request).expect("valid");
    tokio::spawn(async move {
        let mut folded = State::new();
        while let Some(event) = subscription.next().await {
            let after = match event.expect("it is only closed") {
                CacheEvent::Initial(initial) => {
                    folded = state(initial.snapshot());
                    continue;
                }
                event => changes(event),
            };
            fold(&mut folded, &after.0);
            assert_eq!(folded, state(&after.1), "at revision {}", after.1.revision());
            events.fetch_add(1, Ordering::Relaxed);
        }
        folded
    })
}

async fn readers_see_only_what_the_store_was(on: On, endpoint: String) {
    let proxy = FaultProxy::start(endpoint.clone()).await.expect("it starts");
    let direct = client(on, endpoint);
    let last = write(&direct, 0).await;

    // Every connection is cut within the list.
    proxy.cut_each_after_bytes(900, Cut::Reset);
    let cached = client(on, proxy.endpoint());
    let cache = cache(&cached);
    let stop = Arc::new(AtomicBool::new(false));
    let events = Arc::default();
    let readers = [(); 2].map(|()| reader(cache.clone(), direct.clone(), stop.clone()));
    let subscribers = [(); 2].map(|()| subscriber(&cache, Arc::clone(&events)));
    let first = in_time(cache.ready()).await.expect("it is listed");
    assert_eq!((first.revision(), Some(state(&first))), (last, stored(&direct, last).await));
    assert!(proxy.cuts() > 0);

    proxy.cut_each_after_bytes(20_000, Cut::Reset);
    for round in 1..4 {
        proxy.cut_all(Cut::Close);
        let last = write(&direct, round).await;
        let now = in_time(cache.wait_for(last)).await.expect("it goes on");
        assert_eq!(Some(state(&now)), stored(&direct, now.revision()).await);
    }
    proxy.restore();
    assert_eq!((cache.stats().lists, cache.status()), (1, CacheStatus::Current));

    // What it needs is compacted while it can't be reached.
    for round in 4..6 {
        proxy.refuse();
        proxy.cut_all(Cut::Close);
        in_time(direct.delete(Delete::prefix("c/1"))).await.expect("they are deleted");
        let last = write(&direct, round).await;
        in_time(direct.compact(last, true)).await.expect("it is compacted");
        let before = cache.snapshot();
        assert!(before.revision() < last);
        let later = put(&direct, "c/last", "after the compaction").await;
        proxy.restore();
        let now = in_time(cache.wait_for(later)).await.expect("it goes on");
        assert_eq!(Some(state(&now)), stored(&direct, now.revision()).await);
        assert!(cache.snapshot_at(last - 1).is_err(), "what lay between is not known");
    }
    assert_eq!(cache.stats().lists, 3);

    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(in_time(reader).await.expect("it saw only states") > 0);
    }
    let last = cache.snapshot();
    cache.close();
    for subscriber in subscribers {
        assert_eq!(in_time(subscriber).await.expect("its folds were right"), state(&last));
    }
    assert!(events.load(Ordering::Relaxed) > 100);
}

async fn on_the_model(on: On) {
    let server = model().await;
    readers_see_only_what_the_store_was(on, server.endpoint()).await;
}

async fn on_real_servers(on: On) {
    for server in real_servers().await {
        readers_see_only_what_the_store_was(on, server.endpoint()).await;
    }
}

macro_rules! on {
    ($($module:ident: $on:expr;)*) => {$(
        mod $module {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_the_model() {
                super::on_the_model($on).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_real_servers() {
                super::on_real_servers($on).await;
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
async fn a_restarted_server_is_no_reason_to_list_again() {
    let mut server = real(EtcdVersion::V3_5).await;
    let client = client(On::Tokio, server.endpoint());
    write(&client, 0).await;
    let cache = cache(&client);
    in_time(cache.ready()).await.expect("it is listed");
    server.restart_async().await.expect("it restarts");
    let last = write(&client, 1).await;
    let now = in_time(cache.wait_for(last)).await.expect("it goes on");
    assert_eq!(Some(state(&now)), stored(&client, now.revision()).await);
    assert_eq!(cache.stats().lists, 1);
}
