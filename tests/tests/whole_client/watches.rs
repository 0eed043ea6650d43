//! Watches under a storm of faults.

use std::time::Duration;

use etcd_watch_client::{KeyRange, WatchRequest, WatchResponse};
use etcd_watch_testkit::checks::{Received, Watched, check, wire_event};
use etcd_watch_testkit::sim::{FaultKind, Faults, Sim, World};

use crate::seeds;

fn received(response: &WatchResponse) -> Received {
    Received { events: response.events().map(wire_event).collect(), bookmark: None }
}

/// Writes at the store while faults come; the watch has to tell exactly what was written.
async fn nothing_is_lost(world: World) -> Result<(), etcd_watch_client::BoxError> {
    let host = world.host("watcher");
    let client = host.client().connect_lazy()?;
    let request = WatchRequest::new(KeyRange::prefix("k")).start_revision(1).prev_kv(true);
    let mut watch = client.watch(request)?;
    // Without history there is nothing to resume from.
    world.faults(Faults::all().without(FaultKind::Compaction).every(Duration::from_secs(3))).await;
    let etcd = world.etcd().clone();
    let mut rng = world.rng();
    let writing = tokio::spawn(async move {
        for count in 0..300 {
            let key = format!("k{}", rng.u32(..5));
            match rng.u8(..4) {
                0 => etcd.delete(key),
                1 => etcd.put("elsewhere", count.to_string()),
                _ => etcd.put(key, vec![b'v'; rng.usize(..3000)]),
            };
            tokio::time::sleep(Duration::from_millis(rng.u64(..1000))).await;
        }
        etcd.put("k", "last")
    });
    let reading = host.spawn(async move {
        let mut all = Vec::new();
        while let Some(response) = watch.next().await {
            let response = response.expect("nothing ends it");
            all.push(received(&response));
            let mut events = response.events();
            if events.any(|event| event.value() == b"last") {
                break;
            }
        }
        all
    });
    let last = writing.await?;
    world.calm().await;
    let received = reading.await.expect("nobody kills it");
    let watched = Watched { from: 1, through: last, prev_kv: true, ..Watched::range(&KeyRange::prefix("k")) };
    check(&world.etcd().history(), &watched, &received).expect("all rules are kept");
    Ok(())
}

#[test]
fn a_watch_receives_exactly_the_stores_history_whatever_fails() {
    let report = Sim::new().limit(Duration::from_secs(86_400)).run_seeds(seeds(20), nothing_is_lost);
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{report}");
    assert!(report.counts.faults > 100, "{report}");
}
