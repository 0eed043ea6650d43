//! An endpoint is listed while its lease is there, and gone soon after its process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_client::discovery::{Discovery, EndpointChange, ServiceEndpoint};
use etcd_watch_client::{BoxError, Client, Put};
use etcd_watch_testkit::checks::StateAt;
use etcd_watch_testkit::sim::{Etcd, FaultKind, Faults, Host, World};
use tokio::sync::Notify;

use super::stage::{Site, Stage, lock, soon};
use super::trouble::stand_still;
use super::truth::keys;

/// A renewal that was under way when the process died may arrive so much later.
const UNDER_WAY: Duration = Duration::from_secs(5);

/// How instances and their clients go about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Instance {
    Sound,
    /// Registers without a lease.
    WithoutLease,
    /// Puts its key once, and only keeps the lease alive.
    PutsOnce,
    /// Clients only ever add endpoints.
    OnlyAdded,
}

/// The addresses of the processes that run.
type Alive = Arc<Mutex<BTreeSet<String>>>;

fn address_of(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    text.split('"').nth(5).unwrap_or_default().to_owned()
}

fn listed(etcd: &Etcd) -> BTreeSet<String> {
    keys(etcd, "svc/").iter().map(|kv| address_of(&kv.value)).collect()
}

/// A storm that holds no bytes back for long, and doesn't let the store's time stand still: under it an address is gone
/// within the registration's time to live and five seconds of its process.
pub(super) fn without_delays() -> Faults {
    let faults = [FaultKind::Cut, FaultKind::HalfOpen, FaultKind::Refuse, FaultKind::Drain];
    Faults::only(faults.into_iter().chain([FaultKind::LeaderLoss, FaultKind::Compaction]))
}

/// Instances, one after the other on each of some hosts, and somebody who follows them.
pub(super) struct Instances {
    pub(super) hosts: Vec<Host>,
    pub(super) follower: Site,
    /// The time to live of registrations.
    pub(super) ttl: Duration,
    /// The storm is one [without delays](without_delays): then it is known when an address has to be gone.
    pub(super) without_delays: bool,
    pub(super) how: Instance,
}

/// Instances come, go, die, sleep and are deleted by others, while somebody follows them.
pub(super) async fn follow_the_leases(stage: Stage, instances: Instances) -> Result<(), BoxError> {
    let Instances { hosts, follower, ttl, without_delays, how } = instances;
    let (world, alive) = (stage.world(), Alive::default());
    let following = follower.host.spawn(follow(world.clone(), follower.client, how));
    let supervise = |host: &Host| {
        let (stage, host, alive) = (stage.clone(), host.clone(), alive.clone());
        let gone_within = without_delays.then_some(ttl + UNDER_WAY);
        let supervisor = Supervisor { stage, host, alive, ttl, gone_within, how };
        tokio::spawn(supervisor.run())
    };
    let supervisors: Vec<_> = hosts.iter().map(supervise).collect();
    let mut rng = world.rng();
    while !stage.is_calm() {
        stage.pause(&mut rng, 60_000).await;
        let host = &hosts[rng.usize(..hosts.len())];
        world.etcd().delete(format!("svc/{}", host.name()));
    }
    for supervisor in supervisors {
        supervisor.await??;
    }
    world.sleep(Duration::from_secs(60)).await;
    let (listed, alive) = (listed(world.etcd()), lock(&alive).clone());
    if listed != alive {
        return Err(format!("a minute after calm {listed:?} are listed: {alive:?} are alive").into());
    }
    let last = world.etcd().put("svc/last", r#"{"Op":0,"Addr":"last","Metadata":null}"#);
    let told = soon("the last endpoint", following).await?.ok_or("the follower has died")??;
    if told < last { Err("it has ended early".into()) } else { Ok(()) }
}

/// Runs one instance after the other on a host.
struct Supervisor {
    stage: Stage,
    host: Host,
    alive: Alive,
    ttl: Duration,
    /// After the end of its process, an address is gone so much later.
    gone_within: Option<Duration>,
    how: Instance,
}

impl Supervisor {
    /// Until all is calm: the last instance goes on then.
    async fn run(self) -> Result<(), BoxError> {
        let (world, mut rng) = (self.stage.world(), self.stage.world().rng());
        for process in 0.. {
            let address = format!("{}:{process}", self.host.name());
            let client = self.host.client().connect_lazy()?;
            let leaving = Arc::<Notify>::default();
            let registered = Registered {
                host: self.host.clone(),
                client,
                address: address.clone(),
                ttl: self.ttl,
                leaving: leaving.clone(),
            };
            let running = self.host.spawn(register(registered, self.how));
            self.with_alive(|alive| alive.insert(address.clone()));
            let lives = world.now() + self.stage.at_pace(Duration::from_secs(rng.u64(5..60)));
            while world.now() < lives {
                self.stage.pause(&mut rng, 5_000).await;
                if rng.u8(..4) == 0 {
                    stand_still(world, &self.host, &mut rng, 20_000).await;
                }
                if self.stage.is_calm() {
                    return Ok(());
                }
            }
            self.with_alive(|alive| alive.remove(&address));
            if rng.bool() {
                leaving.notify_one();
                let is_gone = running.await.ok_or("an instance has died")??;
                if is_gone && listed(world.etcd()).contains(&address) {
                    return Err(format!("{address} is listed after it was deregistered").into());
                }
            }
            self.host.kill();
            if let Some(time) = self.gone_within {
                world.sleep(time).await;
                if listed(world.etcd()).contains(&address) {
                    return Err(format!("{address} is listed {time:?} after its end").into());
                }
            }
        }
        Ok(())
    }

    fn with_alive(&self, change: impl FnOnce(&mut BTreeSet<String>) -> bool) {
        change(&mut lock(&self.alive));
    }
}

/// One instance.
struct Registered {
    host: Host,
    client: Client,
    address: String,
    ttl: Duration,
    /// Notified when it is to leave.
    leaving: Arc<Notify>,
}

/// Whether it was taken out for sure.
async fn register(registered: Registered, how: Instance) -> Result<bool, BoxError> {
    let Registered { host, client, address, ttl, leaving } = registered;
    let discovery = Discovery::new(&client, "svc")?;
    let endpoint = ServiceEndpoint::new(address);
    if how == Instance::Sound || how == Instance::OnlyAdded {
        let registration = discovery.register_with_ttl(host.name(), endpoint, ttl)?;
        leaving.notified().await;
        return Ok(registration.deregister().await.is_ok());
    }
    if how == Instance::WithoutLease {
        while discovery.add(host.name(), endpoint.clone()).await.is_err() {}
        leaving.notified().await;
        return Ok(discovery.delete(host.name()).await.is_ok());
    }
    let lease = loop {
        if let Ok(lease) = client.lease_grant(ttl).await {
            break lease;
        }
    };
    let value = format!(r#"{{"Op":0,"Addr":"{}","Metadata":null}}"#, endpoint.addr);
    let _keeper = lease.keep_alive();
    let put = || Put::new(format!("svc/{}", host.name()), value.clone()).lease(lease.id());
    while client.put_with(put()).await.is_err_and(|error| !error.is_lease_not_found()) {}
    leaving.notified().await;
    Ok(client.lease_revoke(lease.id()).await.is_ok())
}

/// Compares each update with the store at its revision, until the last endpoint has come: that one's revision.
async fn follow(world: World, client: Client, how: Instance) -> Result<i64, BoxError> {
    let mut watch = Discovery::new(&client, "svc")?.watch();
    let (mut state, mut added) = (StateAt::new(), BTreeMap::<String, String>::new());
    while let Some(update) = watch.try_next().await? {
        for change in update.changes() {
            if let EndpointChange::Added { name, endpoint } | EndpointChange::Updated { name, endpoint, .. } =
                change
            {
                added.insert(name.to_string(), endpoint.addr.clone());
            }
        }
        let known =
            update.endpoints().iter().map(|(name, endpoint)| (name.to_string(), endpoint.addr.clone()));
        let known = if how == Instance::OnlyAdded { added.clone() } else { known.collect() };
        let contains = |key: &[u8]| key.starts_with(b"svc/");
        world.etcd().look(|model| state.advance(model.history(), update.revision(), contains));
        let name = |key: &Bytes| String::from_utf8_lossy(&key[4..]).into_owned();
        let stored: BTreeMap<_, _> =
            state.keys().iter().map(|(key, put)| (name(key), address_of(&put.value))).collect();
        if known != stored {
            let at = update.revision();
            return Err(format!("at revision {at} {known:?} are known: {stored:?} are in the store").into());
        }
        if known.contains_key("last") {
            return Ok(update.revision());
        }
    }
    Err("it has ended".into())
}
