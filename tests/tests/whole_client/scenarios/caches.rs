//! A cache is the store at one revision, always.

use std::time::Duration;

use etcd_watch_client::cache::{Cache, CacheRequest, Snapshot};
use etcd_watch_client::{BoxError, KeyRange};
use etcd_watch_testkit::checks::StateAt;
use etcd_watch_testkit::sim::{Etcd, Faults, World};

use super::soon;

/// Compares a snapshot with the store at its revision.
fn compare(etcd: &Etcd, state: &mut StateAt, snapshot: &Snapshot) -> Result<(), BoxError> {
    let revision = snapshot.revision();
    etcd.with_model(|model| state.advance(model.history(), revision, |key| key.starts_with(b"k")));
    let cached = snapshot.iter().map(|kv| (kv.key(), kv.value(), kv.mod_revision()));
    let stored = state.keys().values().map(|put| (&put.key[..], &put.value[..], put.revision));
    if cached.eq(stored) { Ok(()) } else { Err(format!("not the store at revision {revision}").into()) }
}

/// A cache is read all the time while the store is written and compacted under a storm; in calm it comes to the store's
/// revision.
pub(super) async fn always_the_store_at_one_revision(world: World) -> Result<(), BoxError> {
    let host = world.host("reader");
    let client = host.client().connect_lazy()?;
    let cache = Cache::open(&client, CacheRequest::new(KeyRange::prefix("k")).page_bytes(2048))?;
    world.faults(Faults::all().every(Duration::from_secs(2))).await;
    let (etcd, mut rng, mut state) = (world.etcd(), world.rng(), StateAt::new());
    for count in 0..400_u32 {
        let key = format!("k{}", rng.u32(..30));
        match rng.u8(..4) {
            0 => etcd.delete(key),
            _ => etcd.put(key, vec![b'v'; rng.usize(..1000)]),
        };
        world.sleep(Duration::from_millis(rng.u64(..500))).await;
        if count % 3 == 0 && cache.snapshot().revision() > 0 {
            compare(etcd, &mut state, &cache.snapshot())?;
        }
    }
    world.calm().await;
    let last = etcd.put("elsewhere", "");
    let snapshot = soon("the last revision", cache.consistent()).await??;
    compare(etcd, &mut state, &snapshot)?;
    if snapshot.revision() < last { Err("an old snapshot".into()) } else { Ok(()) }
}
