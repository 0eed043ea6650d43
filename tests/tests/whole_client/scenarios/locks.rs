//! One holder of a lock at a time.

use std::sync::{
    Arc, Mutex as StdMutex, PoisonError, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::time::Duration;

use etcd_watch_client::concurrency::{Mutex, MutexGuard, Name, Session};
use etcd_watch_client::{BoxError, Client, Put, Txn};
use etcd_watch_testkit::sim::{Faults, Host, World};

use super::soon;

/// Who believes to hold the lock.
#[derive(Default)]
struct Arena {
    holders: StdMutex<Vec<Weak<MutexGuard>>>,
    is_over: AtomicBool,
    held: AtomicU64,
}

impl Arena {
    /// Somebody has got the lock: nobody else believes to have it.
    fn enter(&self, guard: &Arc<MutexGuard>) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_held() {
            for other in holders.iter().filter_map(Weak::upgrade) {
                assert!(!other.is_held(), "two hold it: {:?} and {:?}", other.key(), guard.key());
            }
        }
        holders.retain(|holder| holder.strong_count() > 0);
        holders.push(Arc::downgrade(guard));
        self.held.fetch_add(1, Ordering::Relaxed);
    }
}

/// Contenders take turns under a storm: no two believe to hold the lock at once, guarded writes are in the order of the
/// fencing tokens, and in calm everybody gets it.
pub(super) async fn one_holder_at_a_time(world: World) -> Result<(), BoxError> {
    let arena = Arc::new(Arena::default());
    let mut contenders = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let host = world.host(name);
        let (client, rng) = (host.client().connect_lazy()?, world.rng());
        contenders.push(host.spawn(contend(host.clone(), client, rng, arena.clone())));
    }
    world.faults(Faults::all()).await;
    world.sleep(Duration::from_secs(150)).await;
    world.calm().await;
    arena.is_over.store(true, Ordering::Relaxed);
    for contender in contenders {
        soon("everybody has had the lock", contender).await?.ok_or("a contender has died")??;
    }
    let mut last = 0;
    for event in world.etcd().history() {
        let kv = event.kv.unwrap_or_default();
        if kv.key == "log" {
            let token: i64 = String::from_utf8(kv.value.to_vec())?.parse()?;
            if token < last {
                return Err(
                    format!("the holder with token {token} has written after that with {last}").into()
                );
            }
            last = token;
        }
    }
    if arena.held.load(Ordering::Relaxed) < 5 {
        return Err("hardly anybody ever had the lock".into());
    }
    Ok(())
}

async fn contend(
    host: Host,
    client: Client,
    mut rng: fastrand::Rng,
    arena: Arc<Arena>,
) -> Result<(), BoxError> {
    loop {
        let Ok(session) = Session::builder(&client).ttl(Duration::from_secs(5)).open().await else {
            host.sleep(Duration::from_millis(500)).await;
            continue;
        };
        let mutex = Mutex::new(&session, Name::new("lock")?);
        // Another session when this one is lost.
        while let Ok(guard) = mutex.lock().await {
            let is_last = arena.is_over.load(Ordering::Relaxed);
            let guard = Arc::new(guard);
            arena.enter(&guard);
            for _ in 0..rng.u8(1..4) {
                let put = Put::new("log", guard.fencing_token().to_string());
                // Refused once the lock is lost.
                let _ = client.txn(Txn::new().when(guard.is_owner()).and_then(put)).await;
                host.sleep(Duration::from_millis(rng.u64(..1500))).await;
            }
            if let Some(guard) = Arc::into_inner(guard) {
                let _ = guard.unlock().await;
            }
            if is_last {
                return Ok(());
            }
        }
    }
}
