//! An endpoint is listed while its lease is there, and gone soon after its process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_client::discovery::{Discovery, EndpointChange, ServiceEndpoint};
use etcd_watch_client::{BoxError, Client, Put};
use etcd_watch_testkit::checks::StateAt;
use etcd_watch_testkit::sim::{Etcd, FaultKind, Faults, Host, World};

use super::soon;
use super::trouble::{stand_still, up_to};
use super::truth::keys;

const TTL: Duration = Duration::from_secs(5);
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

/// Instances come, go, die, sleep and are deleted by others, while somebody follows them.
pub(super) async fn follow_the_leases(world: World, lasts: Duration, how: Instance) -> Result<(), BoxError> {
    let (alive, is_over) = (Alive::default(), Arc::new(AtomicBool::new(false)));
    let client = world.host("client");
    let following = client.spawn(follow(world.clone(), client.client().connect_lazy()?, how));
    let mut hosts = Vec::new();
    for number in 0..5 {
        let host = world.host(&format!("host-{number}"));
        hosts.push(tokio::spawn(supervise(world.clone(), host, alive.clone(), is_over.clone(), how)));
    }
    // Nothing that holds bytes back for long, or lets the store's time stand still: the bound is exact.
    let faults = [FaultKind::Cut, FaultKind::HalfOpen, FaultKind::Refuse, FaultKind::Drain];
    world
        .faults(Faults::only(faults.into_iter().chain([FaultKind::LeaderLoss, FaultKind::Compaction])))
        .await;
    let (end, mut rng) = (world.now() + lasts, world.rng());
    while world.now() < end {
        world.sleep(up_to(&mut rng, 20_000)).await;
        match rng.u8(..3) {
            0 => drop(world.etcd().delete(format!("svc/host-{}", rng.u8(..5)))),
            1 => stand_still(&world, &client, &mut rng, 15_000).await,
            _ => {}
        }
    }
    is_over.store(true, Ordering::Relaxed);
    for host in hosts {
        host.await??;
    }
    world.calm().await;
    world.sleep(Duration::from_secs(60)).await;
    let (listed, alive) =
        (listed(world.etcd()), alive.lock().unwrap_or_else(PoisonError::into_inner).clone());
    if listed != alive {
        return Err(format!("a minute after calm {listed:?} are listed: {alive:?} are alive").into());
    }
    let last = world.etcd().put("svc/last", r#"{"Op":0,"Addr":"last","Metadata":null}"#);
    let told = soon("the last endpoint", following).await?.ok_or("the follower has died")??;
    if told < last { Err("it has ended early".into()) } else { Ok(()) }
}

async fn supervise(
    world: World,
    host: Host,
    alive: Alive,
    is_over: Arc<AtomicBool>,
    how: Instance,
) -> Result<(), BoxError> {
    let mut rng = world.rng();
    for process in 0.. {
        let address = format!("{}:{process}", host.name());
        let client = host.client().connect_lazy()?;
        let leaving = Arc::new(AtomicBool::new(false));
        let run = register(host.clone(), client, address.clone(), leaving.clone(), how);
        let running = host.spawn(run);
        let mutate = |work: &dyn Fn(&mut BTreeSet<String>) -> bool| {
            work(&mut alive.lock().unwrap_or_else(PoisonError::into_inner))
        };
        mutate(&|alive| alive.insert(address.clone()));
        let lives = world.now() + Duration::from_secs(rng.u64(5..60));
        while world.now() < lives {
            world.sleep(up_to(&mut rng, 5_000)).await;
            if rng.u8(..4) == 0 {
                stand_still(&world, &host, &mut rng, 20_000).await;
            }
            if is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        mutate(&|alive| alive.remove(&address));
        if rng.bool() {
            leaving.store(true, Ordering::Relaxed);
            let is_gone = running.await.ok_or("an instance has died")??;
            if is_gone && listed(world.etcd()).contains(&address) {
                return Err(format!("{address} is listed after it was deregistered").into());
            }
            if !is_gone {
                world.sleep(TTL + UNDER_WAY).await;
            }
            host.kill();
        } else {
            host.kill();
            world.sleep(TTL + UNDER_WAY).await;
        }
        if listed(world.etcd()).contains(&address) {
            return Err(format!("{address} is listed {:?} after its end", TTL + UNDER_WAY).into());
        }
    }
    Ok(())
}

/// Whether it was taken out for sure.
async fn register(
    host: Host,
    client: Client,
    address: String,
    leaving: Arc<AtomicBool>,
    how: Instance,
) -> Result<bool, BoxError> {
    let discovery = Discovery::new(&client, "svc")?;
    let endpoint = ServiceEndpoint::new(address);
    let until_it_leaves = async {
        while !leaving.load(Ordering::Relaxed) {
            host.sleep(Duration::from_millis(100)).await;
        }
    };
    if how == Instance::Sound || how == Instance::OnlyAdded {
        let registration = discovery.register_with_ttl(host.name(), endpoint, TTL)?;
        until_it_leaves.await;
        return Ok(registration.deregister().await.is_ok());
    }
    if how == Instance::WithoutLease {
        while discovery.add(host.name(), endpoint.clone()).await.is_err() {}
        until_it_leaves.await;
        return Ok(discovery.delete(host.name()).await.is_ok());
    }
    let lease = loop {
        if let Ok(lease) = client.lease_grant(TTL).await {
            break lease;
        }
    };
    let value = format!(r#"{{"Op":0,"Addr":"{}","Metadata":null}}"#, endpoint.addr);
    let _keeper = lease.keep_alive();
    let put = || Put::new(format!("svc/{}", host.name()), value.clone()).lease(lease.id());
    while client.put_with(put()).await.is_err_and(|error| !error.is_lease_not_found()) {}
    until_it_leaves.await;
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
        world.etcd().with_model(|model| state.advance(model.history(), update.revision(), contains));
        let name = |key: &Bytes| String::from_utf8_lossy(&key[4..]).into_owned();
        let stored: BTreeMap<_, _> =
            state.keys().iter().map(|(key, put)| (name(key), address_of(&put.value))).collect();
        if known != stored {
            let at = update.revision();
            return Err(format!("at revision {at} {known:?} are known: {stored:?} are listed").into());
        }
        if known.contains_key("last") {
            return Ok(update.revision());
        }
    }
    Err("it has ended".into())
}
