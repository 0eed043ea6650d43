//! A watch tells exactly what was written.

use std::time::Duration;

use etcd_watch_client::{BoxError, KeyRange, WatchRequest};
use etcd_watch_testkit::checks::{Received, Watched, check};
use etcd_watch_testkit::sim::{FaultKind, Faults, World};

use super::soon;

/// Writes at the store while faults come.
pub(super) async fn receives_exactly_the_history(world: World) -> Result<(), BoxError> {
    let host = world.host("watcher");
    let client = host.client().connect_lazy()?;
    let request = WatchRequest::new(KeyRange::prefix("k")).start_revision(1).prev_kv(true);
    let mut watch = client.watch(request)?;
    // Without history there is nothing to resume from.
    world.faults(Faults::all().without(FaultKind::Compaction).every(Duration::from_secs(3))).await;
    let reading = host.spawn(async move {
        let mut all = Vec::new();
        while let Some(response) = watch.try_next().await? {
            all.push(Received::from(&response));
            if response.events().any(|event| event.value() == b"last") {
                break;
            }
        }
        Ok::<_, BoxError>(all)
    });
    let (etcd, mut rng) = (world.etcd(), world.rng());
    for count in 0..300 {
        let key = format!("k{}", rng.u32(..5));
        match rng.u8(..4) {
            0 => etcd.delete(key),
            1 => etcd.put("elsewhere", count.to_string()),
            _ => etcd.put(key, vec![b'v'; rng.usize(..3000)]),
        };
        world.sleep(Duration::from_millis(rng.u64(..1000))).await;
    }
    let last = etcd.put("k", "last");
    world.calm().await;
    let received = soon("the last event", reading).await?.ok_or("the watcher has died")??;
    let watched = Watched { from: 1, through: last, prev_kv: true, ..Watched::range(&KeyRange::prefix("k")) };
    check(&etcd.history(), &watched, &received).map_err(|broken| broken[0].to_string())?;
    Ok(())
}
