//! Reads of a cache that are bounded by how old the state may be, and by time.

use std::time::Duration;

use etcd_watch_client::{KeyRange, cache::CacheError};
use etcd_watch_testkit::{harness::EtcdVersion, proxy::Cut};

use crate::{On, World, in_time, kinds};

/// What a state may be old.
const LIMIT: Duration = Duration::from_secs(2);

/// How long a test waits for what is not to come.
const A_WHILE: Duration = Duration::from_millis(200);

async fn story(on: On, version: EtcdVersion) {
    let world = World::start(on, version).await;
    world.put("h/a").await;
    let cache = kinds::cache(&world.client);
    in_time("ready", cache.timeout(crate::DEADLINE).ready()).await.expect("it is ready");
    assert_eq!(cache.staleness(), None, "the store was not asked");

    // What was written before is seen where the state may not be old, and one read does for all in the time.
    let put = world.put("h/b").await;
    let now = in_time("a state", cache.snapshot_within(Duration::ZERO)).await.expect("it comes");
    assert!(now.revision() >= put && now.get("h/b").is_some());
    let reads = cache.stats().revision_reads;
    for _ in 0..100 {
        let kv = in_time("a key", cache.get_within("h/b", crate::DEADLINE)).await.expect("it is read");
        assert!(kv.is_some());
    }
    assert_eq!(cache.stats().revision_reads, reads);
    // Elsewhere nothing has changed for the cache, and the store has gone on.
    let put = world.put("other").await;
    let now = in_time("a state", cache.snapshot_within(Duration::ZERO)).await.expect("it comes");
    assert!(now.revision() >= put);
    assert!(cache.staleness().is_some_and(|staleness| staleness < crate::DEADLINE));

    world.server.pause().expect("it is frozen");
    let frozen = tokio::time::Instant::now();
    // The state is good for so long. From then on the server is asked in vain, as long as the caller says.
    in_time("too old", async {
        while cache.timeout(A_WHILE).snapshot_within(LIMIT).await.is_ok() {
            assert!(frozen.elapsed() < crate::DEADLINE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(cache.staleness().is_some_and(|staleness| staleness > LIMIT));
    assert!(frozen.elapsed() < LIMIT + A_WHILE * 20, "{:?}", frozen.elapsed());
    let in_vain = [
        cache.timeout(A_WHILE).consistent().await,
        cache.timeout(A_WHILE).wait_for(put + 1_000).await,
        cache.timeout(A_WHILE).snapshot_within(Duration::ZERO).await,
        cache.timeout(A_WHILE).get_within("h/a", Duration::ZERO).await.map(|_| cache.snapshot()),
    ];
    for result in in_vain {
        assert!(matches!(result, Err(CacheError::TimedOut { after, .. }) if after == A_WHILE), "{result:?}");
    }
    assert!(cache.get("h/b").is_some(), "what there was can be read all the same");

    world.server.resume().expect("it goes on");
    in_time("new enough", async { while cache.timeout(LIMIT).snapshot_within(LIMIT).await.is_err() {} })
        .await;

    // Without the time limit it is the call's that ends it.
    world.proxy.refuse();
    world.proxy.cut_all(Cut::Reset);
    let result = in_time("an error", cache.snapshot_within(Duration::ZERO)).await;
    assert!(matches!(result, Err(CacheError::Read(_))), "{result:?}");

    let unready = world.client.cache(KeyRange::prefix("h/")).expect("it is made");
    let result = in_time("the first state", unready.timeout(A_WHILE).ready()).await;
    assert!(matches!(result, Err(CacheError::TimedOut { what: "the first state", .. })), "{result:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_is_as_new_as_was_asked_for_or_an_error_on_tokio_and_etcd_3_7() {
    story(On::Tokio, EtcdVersion::V3_7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_is_as_new_as_was_asked_for_or_an_error_on_smol_and_etcd_3_5() {
    story(On::Smol, EtcdVersion::V3_5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_is_as_new_as_was_asked_for_or_an_error_on_etcd_3_4_whose_progress_is_not_believed() {
    story(On::AsyncStd, EtcdVersion::V3_4).await;
}
