//! A session is told of its loss before the server ends its lease, or as soon as its host runs again.

use std::collections::BTreeMap;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};
use std::time::Duration;

use etcd_watch_client::concurrency::{Session, SessionLost};
use etcd_watch_client::{BoxError, Client, LeaseLost, Runtime as _};
use etcd_watch_proto::etcdserverpb::LeaseRevokeRequest;
use etcd_watch_testkit::sim::{Fault, Host, World};

use super::trouble::{on_the_way, up_to};
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

/// The leases that somebody has revoked, and when.
type Revoked = Arc<Mutex<BTreeMap<i64, Duration>>>;

/// What a host's second session, which is only waited for, has told.
#[derive(Default)]
struct Told {
    lease: AtomicI64,
    is_lost: AtomicBool,
    /// When its host has stood still last, in milliseconds.
    woke: AtomicU64,
}

fn was_revoked(revoked: &Revoked, id: i64) -> Option<Duration> {
    revoked.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
}

/// Sessions under a storm, on hosts that sleep and starve, with leases that are revoked.
pub(super) async fn are_told_in_time(
    world: World,
    lasts: Duration,
    service: Service,
) -> Result<(), BoxError> {
    let revoked = Revoked::default();
    let mut checks = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let host = world.host(name);
        let client = host.client().connect_lazy()?;
        host.spawn(ask(world.clone(), host.clone(), client.clone(), revoked.clone(), service));
        let told = Arc::new(Told::default());
        host.spawn(wait(world.clone(), host.clone(), client, told.clone(), revoked.clone(), service));
        checks.push(tokio::spawn(nap(world.clone(), host, told)));
    }
    world.faults(on_the_way()).await;
    let (end, mut rng) = (world.now() + lasts, world.rng());
    while world.now() < end {
        world.sleep(up_to(&mut rng, 30_000)).await;
        let leases = world.etcd().with_model(|model| model.lease_leases().leases);
        if leases.is_empty() {
            continue;
        }
        let id = leases[rng.usize(..leases.len())].id;
        revoked.lock().unwrap_or_else(PoisonError::into_inner).insert(id, world.now());
        world.etcd().with_model(|model| model.lease_revoke(&LeaseRevokeRequest { id }))?;
    }
    for check in checks {
        if check.is_finished() {
            check.await??;
        } else {
            check.abort();
        }
    }
    world.calm().await;
    // In calm no session is lost.
    world.sleep(Duration::from_secs(60)).await;
    let before = world.etcd().with_model(|model| model.lease_leases().leases);
    world.sleep(Duration::from_secs(120)).await;
    let after = world.etcd().with_model(|model| model.lease_leases().leases);
    if before.is_empty() || !before.iter().all(|lease| after.contains(lease)) {
        return Err("a session was lost in calm".into());
    }
    Ok(())
}

async fn open(host: &Host, client: &Client, seconds: u64) -> Session {
    loop {
        match Session::builder(client).ttl(Duration::from_secs(seconds)).open().await {
            Ok(session) => return session,
            Err(_) => host.sleep(Duration::from_millis(300)).await,
        }
    }
}

/// Asks all the time whether the session is lost: whenever it isn't, the server has the lease.
async fn ask(world: World, host: Host, client: Client, revoked: Revoked, service: Service) {
    let mut rng = world.rng();
    loop {
        let session = open(&host, &client, rng.u64(2..15)).await;
        let runtime = host.runtime();
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
            let id = session.id();
            if !has_lease(world.etcd(), id) {
                let by = was_revoked(&revoked, id).expect("it believes in a lease that has ended");
                assert!(
                    world.now() <= by + session.ttl(),
                    "it believes in a lease that was revoked long ago"
                );
            }
            host.sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Waits for the loss. A host that runs is told of it before the server ends the lease.
async fn wait(world: World, host: Host, client: Client, told: Arc<Told>, revoked: Revoked, service: Service) {
    loop {
        let session = open(&host, &client, 6).await;
        told.lease.store(session.id(), Ordering::Relaxed);
        told.is_lost.store(false, Ordering::Relaxed);
        let reason = if service == Service::Timer {
            while !session.remaining().is_zero() {
                host.sleep(session.remaining()).await;
            }
            session.lost().await
        } else {
            session.lost().await
        };
        told.is_lost.store(true, Ordering::Relaxed);
        let has_run_since = Duration::from_millis(told.woke.load(Ordering::Relaxed)) + LOOKS;
        match reason {
            SessionLost::Lease(LeaseLost::NotFound { id }) => {
                assert!(!has_lease(world.etcd(), id), "a lease that exists was told to be gone");
            }
            SessionLost::Lease(LeaseLost::Expired { id, .. }) if world.now() > has_run_since => {
                let is_in_time = has_lease(world.etcd(), id) || was_revoked(&revoked, id).is_some();
                assert!(is_in_time, "told after the lease had ended");
            }
            _ => {}
        }
    }
}

/// Notes when a host runs again, also when the nap is aborted.
struct Standstill<'a> {
    world: &'a World,
    told: &'a Told,
    _fault: Fault,
}

impl Drop for Standstill<'_> {
    /// Before the host runs: the fault is dropped next.
    fn drop(&mut self) {
        let woke = u64::try_from(self.world.now().as_millis()).unwrap_or(u64::MAX);
        self.told.woke.store(woke, Ordering::Relaxed);
    }
}

/// The host sleeps and starves. When it runs again, it is told of a lease that has ended meanwhile within a second.
/// While it runs, it is told before the lease ends for want of renewals, or a third of its time after it was revoked,
/// if a member can be reached: `ask` sees to that.
async fn nap(world: World, host: Host, told: Arc<Told>) -> Result<(), String> {
    let mut rng = world.rng();
    loop {
        world.sleep(up_to(&mut rng, 20_000)).await;
        let time = Duration::from_millis(1 << rng.u32(8..18));
        let fault = if rng.bool() { host.suspend() } else { host.freeze() };
        let standstill = Standstill { world: &world, told: &told, _fault: fault };
        world.sleep(time).await;
        drop(standstill);
        let lease = told.lease.load(Ordering::Relaxed);
        // After six seconds its time is over, whatever the network does now.
        if lease == 0 || time < Duration::from_secs(6) || told.is_lost.load(Ordering::Relaxed) {
            continue;
        }
        host.sleep(LOOKS).await;
        let is_same = told.lease.load(Ordering::Relaxed) == lease;
        if is_same && !told.is_lost.load(Ordering::Relaxed) {
            return Err(format!("slept for {time:?}, and was not told of the loss within a second"));
        }
    }
}
