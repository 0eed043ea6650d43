//! Where the parts of a scenario act: a world with a storm, and a calm after it.
//!
//! A part is a future. It brings its actors onto hosts, which act while there is a storm; in calm it checks what has come
//! of it. A scenario is one part or several, in one world and under one storm.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_watch_client::{BoxError, BoxFuture, Client, ClientBuilder};
use etcd_watch_testkit::sim::{Faults, Host, Sim, World};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A part of a scenario.
pub(super) type Part = BoxFuture<'static, Result<(), BoxError>>;

/// A world with a storm that ends.
#[derive(Clone)]
pub(super) struct Stage {
    world: World,
    calm: Arc<Calm>,
    pace: u32,
}

/// Whether the storm is over. Tokio's own channel for this wakes its receivers in an order that no seed decides.
#[derive(Default)]
struct Calm {
    has_come: AtomicBool,
    comes: Notify,
}

impl Stage {
    pub(super) fn world(&self) -> &World {
        &self.world
    }

    pub(super) fn is_calm(&self) -> bool {
        self.calm.has_come.load(Ordering::Relaxed)
    }

    /// A duration at the stage's pace.
    pub(super) fn at_pace(&self, duration: Duration) -> Duration {
        self.pace * duration
    }

    /// Waits for a random time of up to so many milliseconds, at the stage's pace, and no longer than until there is calm.
    pub(super) async fn pause(&self, rng: &mut fastrand::Rng, milliseconds: u64) {
        let _is_calm = tokio::time::timeout(self.at_pace(up_to(rng, milliseconds)), self.calm()).await;
    }

    /// Waits until the storm is over.
    pub(super) async fn calm(&self) {
        let comes = self.calm.comes.notified();
        if !self.is_calm() {
            comes.await;
        }
    }

    /// A host with a client.
    pub(super) fn site(&self, name: &str) -> Result<Site, BoxError> {
        self.site_with(name, |client| client)
    }

    /// A host with a client that has other settings.
    fn site_with(
        &self,
        name: &str,
        set: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Site, BoxError> {
        let host = self.world.host(name);
        let client = set(host.client()).connect_lazy()?;
        Ok(Site { host, client })
    }

    /// Hosts, each with a client.
    pub(super) fn sites(&self, names: &[&str]) -> Result<Vec<Site>, BoxError> {
        names.iter().map(|name| self.site(name)).collect()
    }

    /// Hosts, each with a client that gives a call up after so long.
    pub(super) fn sites_within(&self, timeout: Duration, names: &[&str]) -> Result<Vec<Site>, BoxError> {
        let site = |name: &&str| self.site_with(name, |client| client.request_timeout(timeout));
        names.iter().map(site).collect()
    }
}

/// A host with a client, which everything on the host shares.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) host: Host,
    pub(super) client: Client,
}

/// A simulation that goes on for as long as any scenario needs: hosts may be suspended for up to 35 minutes at a time.
pub(crate) fn sim() -> Sim {
    Sim::new().limit(Duration::from_secs(7 * 86_400))
}

/// Plays all parts under one storm, which lasts for so long, and in the calm after it.
pub(super) async fn play(
    world: World,
    faults: Faults,
    lasts: Duration,
    parts: impl FnOnce(&Stage) -> Result<Vec<Part>, BoxError>,
) -> Result<(), BoxError> {
    play_at(1, world, faults, lasts, parts).await
}

/// The same at a pace: the pauses of all parts are so many times as long.
pub(super) async fn play_at(
    pace: u32,
    world: World,
    faults: Faults,
    lasts: Duration,
    parts: impl FnOnce(&Stage) -> Result<Vec<Part>, BoxError>,
) -> Result<(), BoxError> {
    let stage = Stage { world: world.clone(), calm: Arc::default(), pace };
    let mut running = JoinSet::new();
    for part in parts(&stage)? {
        running.spawn(part);
    }
    world.faults(faults).await;
    let mut storm = std::pin::pin!(tokio::time::sleep(lasts));
    loop {
        tokio::select! {
            biased;
            ended = running.join_next() => match ended {
                Some(ended) => ended.unwrap_or_else(|died| std::panic::resume_unwind(died.into_panic()))?,
                None => return Ok(()),
            },
            () = &mut storm, if !stage.is_calm() => {
                world.calm().await;
                stage.calm.has_come.store(true, Ordering::Relaxed);
                stage.calm.comes.notify_waiters();
            }
        }
    }
}

/// A random time of up to so many milliseconds.
pub(super) fn up_to(rng: &mut fastrand::Rng, milliseconds: u64) -> Duration {
    Duration::from_millis(rng.u64(..milliseconds))
}

/// Waits for what has to come once all is well.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> Result<T, BoxError> {
    let waited = tokio::time::timeout(Duration::from_secs(300), future).await;
    waited.map_err(|_| format!("not within five minutes of calm: {what}").into())
}

/// A panic in a task says enough; it needn't become a second one here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
