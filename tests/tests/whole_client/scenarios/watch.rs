//! A watch tells exactly what was written.

use etcd_watch_client::{BoxError, KeyRange, WatchRequest};
use etcd_watch_testkit::checks::{Received, Watched, check};

use super::stage::{Site, Stage, soon};
use super::trouble::up_to;

/// Watches while the store is written. The storm must not compact: without history there is nothing to resume from.
pub(super) async fn receives_exactly_the_history(stage: Stage, site: Site) -> Result<(), BoxError> {
    let request = WatchRequest::new(KeyRange::prefix("k")).start_revision(1).prev_kv(true);
    let mut watch = site.client.watch(request)?;
    let reading = site.host.spawn(async move {
        let mut all = Vec::new();
        while let Some(response) = watch.try_next().await? {
            all.push(Received::from(&response));
            if response.events().any(|event| event.value() == b"last") {
                break;
            }
        }
        Ok::<_, BoxError>(all)
    });
    let (etcd, mut rng) = (stage.world().etcd(), stage.world().rng());
    while !stage.is_calm() {
        let key = format!("k{}", rng.u32(..5));
        match rng.u8(..4) {
            0 => etcd.delete(key),
            1 => etcd.put("elsewhere", ""),
            _ => etcd.put(key, vec![b'v'; rng.usize(..3000)]),
        };
        stage.world().sleep(up_to(&mut rng, 1000)).await;
    }
    let last = etcd.put("k", "last");
    let received = soon("the last event", reading).await?.ok_or("the watcher has died")??;
    let watched = Watched { from: 1, through: last, prev_kv: true, ..Watched::range(&KeyRange::prefix("k")) };
    check(&etcd.history(), &watched, &received).map_err(|broken| broken[0].to_string())?;
    Ok(())
}
