//! A cache is the store at one revision, always.

use etcd_watch_client::cache::{Cache, CacheRequest, Snapshot};
use etcd_watch_client::{BoxError, Client, KeyRange};
use etcd_watch_testkit::checks::StateAt;
use etcd_watch_testkit::sim::Etcd;

use super::stage::{Stage, soon};

/// Compares a snapshot with the store at its revision.
fn compare(etcd: &Etcd, state: &mut StateAt, snapshot: &Snapshot) -> Result<(), BoxError> {
    let revision = snapshot.revision();
    etcd.look(|model| state.advance(model.history(), revision, |key| key.starts_with(b"cached/")));
    let cached = snapshot.iter().map(|kv| (kv.key(), kv.value(), kv.mod_revision()));
    let stored = state.keys().values().map(|put| (&put.key[..], &put.value[..], put.revision));
    if cached.eq(stored) { Ok(()) } else { Err(format!("not the store at revision {revision}").into()) }
}

/// A cache is read all the time while the store is written, up to `pause` milliseconds after each other; in calm it comes
/// to the store's revision. `least` snapshots have to be compared before.
pub(super) async fn always_the_store_at_one_revision(
    stage: Stage,
    client: Client,
    pause: u64,
    least: usize,
) -> Result<(), BoxError> {
    let cache = Cache::open(&client, CacheRequest::new(KeyRange::prefix("cached/")).page_bytes(2048))?;
    let (etcd, mut rng, mut state) = (stage.world().etcd(), stage.world().rng(), StateAt::new());
    let mut compared = 0;
    while !stage.is_calm() {
        let key = format!("cached/{}", rng.u32(..30));
        match rng.u8(..4) {
            0 => etcd.delete(key),
            _ => etcd.put(key, vec![b'v'; rng.usize(..1000)]),
        };
        stage.pause(&mut rng, pause).await;
        let (before, snapshot) = (state.revision(), cache.snapshot());
        if snapshot.revision() < before {
            return Err(format!("from revision {before} back to {}", snapshot.revision()).into());
        }
        compare(etcd, &mut state, &snapshot)?;
        compared += usize::from(snapshot.revision() > before);
    }
    let last = etcd.put("elsewhere", "");
    let snapshot = soon("the last revision", cache.consistent()).await??;
    compare(etcd, &mut state, &snapshot)?;
    if compared < least {
        return Err(format!("hardly anything was read: {compared} snapshots").into());
    }
    if snapshot.revision() < last { Err("an old snapshot".into()) } else { Ok(()) }
}
