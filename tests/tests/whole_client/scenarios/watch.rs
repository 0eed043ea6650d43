//! A watch tells exactly what was written.

use etcd_watch_client::{BoxError, KeyRange, Watch, WatchRequest};
use etcd_watch_testkit::checks::{Received, Watched, check};
use etcd_watch_testkit::sim::Etcd;

use super::stage::{Site, Stage, soon};

/// Watches while the store is written. The storm must not compact: without history there is nothing to resume from.
pub(super) async fn receives_exactly_the_history(stage: Stage, site: Site) -> Result<(), BoxError> {
    let request = WatchRequest::new(KeyRange::prefix("k")).start_revision(1).prev_kv(true);
    let reading = site.host.spawn(until_last(site.client.watch(request)?));
    let (etcd, mut rng) = (stage.world().etcd(), stage.world().rng());
    while !stage.is_calm() {
        let key = format!("k{}", rng.u32(..5));
        match rng.u8(..4) {
            0 => etcd.delete(key),
            1 => etcd.put("elsewhere", ""),
            _ => etcd.put(key, vec![b'v'; rng.usize(..3000)]),
        };
        stage.pause(&mut rng, 1000).await;
    }
    let last = etcd.put("k", "last");
    let received = soon("the last event", reading).await?.ok_or("the watcher has died")??;
    is_the_history(etcd, &KeyRange::prefix("k"), last, &received)
}

/// Everything that a watch is told until the value `last`.
pub(crate) async fn until_last(mut watch: Watch) -> Result<Vec<Received>, BoxError> {
    let mut all = Vec::new();
    while let Some(response) = watch.try_next().await? {
        all.push(Received::from(&response));
        if response.events().any(|event| event.value() == b"last") {
            break;
        }
    }
    Ok(all)
}

/// A watch of this range from the beginning, with the pairs before, has received the store's history up to a revision.
pub(crate) fn is_the_history(
    etcd: &Etcd,
    range: &KeyRange,
    through: i64,
    received: &[Received],
) -> Result<(), BoxError> {
    let watched = Watched { from: 1, through, prev_kv: true, ..Watched::range(range) };
    check(&etcd.history(), &watched, received).map_err(|broken| broken[0].to_string())?;
    Ok(())
}
