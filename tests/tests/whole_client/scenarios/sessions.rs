//! A session is told of its loss before the server ends its lease, or as soon as its host runs again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_watch_client::concurrency::{Session, SessionLost};
use etcd_watch_client::{BoxError, LeaseLost, Runtime as _};
use etcd_watch_proto::etcdserverpb::LeaseRevokeRequest;
use etcd_watch_testkit::sim::{Host, World};

use super::stage::{Site, Stage, lock};
use super::trouble::open_session;
use super::truth::has_lease;

/// The keeper looks so often whether the machine has slept (`LOOK_EVERY` in `calls/keeper.rs`), and it takes a moment.
const LOOKS: Duration = Duration::from_millis(1010);

/// How a service follows its session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Service {
    Sound,
    /// Takes an answer of `is_lost` for good for another three seconds.
    Remembers,
    /// Counts the lease's time by a clock that stands still while the machine sleeps.
    SleepyClock,
    /// Waits for the end of the lease by a timer, and not by `lost`.
    Timer,
}

/// What has become of the sessions of all hosts.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<BTreeMap<i64, Fate>>>);

/// What has become of a session.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    /// When somebody has revoked its lease.
    revoked: Option<Duration>,
    is_lost: bool,
}

impl Sessions {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<i64, Fate>) -> T) -> T {
        work(&mut lock(&self.0))
    }

    async fn open(&self, site: &Site, ttl: Duration) -> Session {
        let session = open_session(&site.host, &site.client, ttl).await;
        self.with(|sessions| sessions.insert(session.id(), Fate::default()));
        session
    }

    fn lose(&self, id: i64) {
        self.with(|sessions| sessions.entry(id).or_default().is_lost = true);
    }

    fn fate(&self, id: i64) -> Fate {
        self.with(|sessions| sessions.get(&id).copied().unwrap_or_default())
    }

    /// How many were opened, and how many are lost.
    fn count(&self) -> (usize, usize) {
        self.with(|sessions| (sessions.len(), sessions.values().filter(|fate| fate.is_lost).count()))
    }

    /// One that is not known to be lost.
    fn any(&self, rng: &mut fastrand::Rng) -> Option<i64> {
        let alive = |(id, fate): (&i64, &Fate)| (!fate.is_lost).then_some(*id);
        let alive: Vec<i64> = self.with(|sessions| sessions.iter().filter_map(alive).collect());
        rng.choice(alive)
    }
}

/// Services with a session on several hosts.
pub(super) struct Services {
    pub(super) sites: Vec<Site>,
    /// The times to live of sessions, in seconds.
    pub(super) ttl: Range<u64>,
    /// The longest pause between two leases that are revoked, in milliseconds.
    pub(super) pause: u64,
    /// So many sessions have to be lost before calm.
    pub(super) least: usize,
    pub(super) service: Service,
}

/// Two services on each host, one that asks whether its session is lost and one that waits for it; leases are revoked.
pub(super) async fn are_told_in_time(stage: Stage, services: Services) -> Result<(), BoxError> {
    let Services { sites, ttl, pause, least, service } = services;
    let (world, sessions) = (stage.world(), Sessions::default());
    for site in sites {
        let host = site.host.clone();
        host.spawn(ask(world.clone(), site.clone(), sessions.clone(), ttl.clone(), service));
        host.spawn(wait(world.clone(), site, sessions.clone(), ttl.clone(), service));
    }
    let mut rng = world.rng();
    while !stage.is_calm() {
        stage.pause(&mut rng, pause).await;
        if let Some(id) = sessions.any(&mut rng).filter(|id| has_lease(world.etcd(), *id)) {
            sessions.with(|sessions| sessions.entry(id).or_default().revoked = Some(world.now()));
            world.etcd().with_model(|model| model.lease_revoke(&LeaseRevokeRequest { id }))?;
        }
    }
    // Connections that are half-open take some time to be noticed. After that no session is lost in calm.
    world.sleep(Duration::from_secs(60)).await;
    let (before, lost_before) = sessions.count();
    world.sleep(Duration::from_secs(60)).await;
    let (after, lost_after) = sessions.count();
    if (before, lost_before) != (after, lost_after) || before == lost_before {
        return Err(format!(
            "after a minute of calm {lost_before} of {before} sessions were lost, after two {lost_after} of {after}"
        )
        .into());
    }
    if lost_before < least {
        return Err(format!("too little has happened: {lost_before} of {before} sessions were lost").into());
    }
    Ok(())
}

/// Asks all the time whether the session is lost: whenever it isn't, the server has the lease.
async fn ask(world: World, site: Site, sessions: Sessions, ttl: Range<u64>, service: Service) {
    let mut rng = world.rng();
    loop {
        let session = sessions.open(&site, Duration::from_secs(rng.u64(ttl.clone()))).await;
        let runtime = site.host.runtime();
        let mut looked = (runtime.now(), session.remaining());
        loop {
            let since = runtime.now().since(looked.0);
            let is_lost = match service {
                Service::Remembers if since < Duration::from_secs(3) && !looked.1.is_zero() => false,
                Service::SleepyClock if since < looked.1 => false,
                _ => {
                    looked = (runtime.now(), session.remaining());
                    session.is_lost()
                }
            };
            if is_lost {
                break;
            }
            if !has_lease(world.etcd(), session.id()) {
                let revoked = sessions.fate(session.id()).revoked;
                let revoked = revoked.expect("it believes in a lease that has ended");
                assert!(
                    world.now() <= revoked + session.ttl(),
                    "it believes in a lease that was revoked long ago"
                );
            }
            site.host.sleep(Duration::from_millis(200)).await;
        }
        sessions.lose(session.id());
    }
}

/// Whoever waits for the loss is told once the lease has ended, if the host has been running for a second.
async fn watch_over(world: World, site: Site, id: i64, sessions: Sessions) {
    loop {
        world.sleep(Duration::from_millis(500)).await;
        let is_awake = site.host.running_for().is_some_and(|time| time > LOOKS);
        let Fate { revoked, is_lost } = sessions.fate(id);
        let has_ended = revoked.is_none() && !has_lease(world.etcd(), id);
        assert!(is_lost || !has_ended || !is_awake, "not told yet, though the lease had ended");
    }
}

/// Waits for the loss. A host that runs is told of it before the server ends the lease; one that has stood still for longer
/// than the lease lasts is told within a second of its waking.
async fn wait(world: World, site: Site, sessions: Sessions, ttl: Range<u64>, service: Service) {
    let mut rng = world.rng();
    loop {
        let session = sessions.open(&site, Duration::from_secs(rng.u64(ttl.clone()))).await;
        let watching = watch_over(world.clone(), site.clone(), session.id(), sessions.clone());
        let watching = site.host.spawn(watching);
        if service == Service::Timer {
            while !session.remaining().is_zero() {
                site.host.sleep(session.remaining()).await;
            }
        }
        let reason = session.lost().await;
        sessions.lose(session.id());
        watching.abort();
        let was_awake = site.host.running_for().is_some_and(|time| time > LOOKS);
        match reason {
            SessionLost::Lease(LeaseLost::NotFound { id }) => {
                assert!(!has_lease(world.etcd(), id), "a lease that exists was told to be gone");
            }
            SessionLost::Lease(LeaseLost::Expired { id, .. }) if was_awake => {
                let is_in_time = has_lease(world.etcd(), id) || sessions.fate(id).revoked.is_some();
                assert!(is_in_time, "told after the lease had ended");
            }
            _ => {}
        }
    }
}

/// The host is suspended or starved again and again, for up to some minutes.
pub(super) async fn nap(stage: Stage, host: Host) -> Result<(), BoxError> {
    let mut rng = stage.world().rng();
    while !stage.is_calm() {
        stage.pause(&mut rng, 20_000).await;
        let time = Duration::from_millis(1 << rng.u32(8..18));
        let fault = if rng.bool() { host.suspend() } else { host.freeze() };
        // Calm ends it.
        let _calm = tokio::time::timeout(time, stage.calm()).await;
        drop(fault);
    }
    Ok(())
}
