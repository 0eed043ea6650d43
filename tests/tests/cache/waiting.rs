//! How a cache comes to a revision at which nothing of its own has changed.

use std::{future::poll_fn, task::Poll, time::Duration};

use etcd_watch_testkit::{
    harness::EtcdVersion,
    model::{ModelConfig, Quirks},
    proxy::FaultProxy,
    server::EmbeddedEtcd,
};
use tokio::time::timeout;

use crate::{On, cache, client, in_time, model, put, real, state, stored, write};

/// The store moves on, the cached keys don't.
async fn a_quiet_cache_comes_to_any_revision(on: On, endpoint: String) -> (u64, u64) {
    let direct = client(on, endpoint);
    write(&direct, 0).await;
    let cache = cache(&direct);
    let first = in_time(cache.ready()).await.expect("it is listed");
    for round in 0..5 {
        let mut last = 0;
        for _ in 0..20 {
            last = put(&direct, "other", &round.to_string()).await;
        }
        let now = in_time(cache.wait_for(last)).await.expect("it goes on");
        assert!(now.revision() >= last);
        assert_eq!(state(&now), state(&first));
        assert_eq!(cache.snapshot_at(last - 1).map(|held| state(&held)), Ok(state(&first)));
    }
    // And they do: what is waited for comes by itself, or is shown not to have come yet.
    for round in 1..4 {
        write(&direct, round).await;
        let last = put(&direct, "other", "again").await;
        let now = in_time(cache.wait_for(last)).await.expect("it goes on");
        assert_eq!(Some(state(&now)), stored(&direct, now.revision()).await);
    }
    // A revision that the store has not come to is waited for.
    let next = put(&direct, "other", "the last").await + 2;
    let early = timeout(Duration::from_millis(300), cache.wait_for(next)).await;
    assert!(early.is_err(), "{early:?}");
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.wait_for(next).await.map(|now| now.revision()) }
    });
    for _ in 0..2 {
        put(&direct, "other", "later").await;
    }
    assert_eq!(in_time(waiting).await.expect("it runs"), Ok(next));
    let stats = cache.stats();
    assert!(stats.progress_requests > 0);
    // Nobody waits now: nothing more is asked.
    put(&direct, "c/last", "seen by the watch").await;
    assert_eq!(stats.lists, 1);
    (stats.progress_requests, stats.proof_reads)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_is_asked_for_progress() {
    let server = model().await;
    a_quiet_cache_comes_to_any_revision(On::Tokio, server.endpoint()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_3_5_is_asked_for_progress() {
    let server = real(EtcdVersion::V3_5).await;
    a_quiet_cache_comes_to_any_revision(On::Smol, server.endpoint()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_3_4_23_whose_progress_is_not_believed_is_read_from() {
    let server = real(EtcdVersion::V3_4).await;
    let (_, reads) = a_quiet_cache_comes_to_any_revision(On::AsyncStd, server.endpoint()).await;
    assert!(reads > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_ignores_progress_requests_is_read_through() {
    let config = ModelConfig { quirks: Quirks::grpc_proxy(), ..ModelConfig::default() };
    let server = EmbeddedEtcd::start(config).await.expect("it starts");
    let (_, reads) = a_quiet_cache_comes_to_any_revision(On::Tokio, server.endpoint()).await;
    assert!(reads > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_range_can_be_waited_with_on_any_server() {
    for server in crate::real_servers().await {
        let direct = client(On::Tokio, server.endpoint());
        let cache = cache(&direct);
        in_time(cache.ready()).await.expect("it is listed");
        let last = put(&direct, "other", "").await;
        assert!(in_time(cache.wait_for(last)).await.expect("it goes on").is_empty());
        // A key that comes and goes is the hardest to see in a read.
        put(&direct, "c/a", "").await;
        in_time(direct.delete("c/a")).await.expect("it is deleted");
        let last = put(&direct, "other", "").await;
        let now = in_time(cache.wait_for(last)).await.expect("it goes on");
        assert!(now.is_empty() && now.revision() >= last);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consistent_reads_see_every_write_before_them_and_share_reads() {
    for server in crate::real_servers().await {
        let direct = client(On::Tokio, server.endpoint());
        let proxy = FaultProxy::start(server.endpoint()).await.expect("it starts");
        let cache = cache(&client(On::Tokio, proxy.endpoint()));
        for round in 0..5 {
            let ours = put(&direct, "c/a", &round.to_string()).await;
            let other = put(&direct, "other", "").await;
            let now = in_time(cache.consistent()).await.expect("it is read");
            assert!(now.revision() >= other);
            assert_eq!(now.get("c/a").map(|kv| kv.mod_revision()), Some(ours));
        }
        let before = cache.stats().revision_reads;
        // All of them wait before the first is answered.
        proxy.hold();
        let mut calls: Vec<_> = (0..200).map(|_| Box::pin(cache.consistent())).collect();
        poll_fn(|cx| {
            assert!(calls.iter_mut().all(|call| call.as_mut().poll(cx).is_pending()));
            Poll::Ready(())
        })
        .await;
        proxy.release();
        for call in calls {
            in_time(call).await.expect("it is read");
        }
        let reads = cache.stats().revision_reads - before;
        assert!(reads > 0 && reads < 10, "{reads} reads for 200 calls");
    }
}
