//! Each part in a world of its own.

use std::time::Duration;

use etcd_watch_client::{BoxError, Client};
use etcd_watch_testkit::sim::{FaultKind, Faults, Host, World};

use super::agreement::{self, Watches};
use super::configs::{self, Reader};
use super::consumers::{self, Saves};
use super::discoveries::{self, Instance, Instances};
use super::elections::{self, Candidate, Candidates, Limits};
use super::linearizable::{self, Calls, Puts};
use super::queue::{self, Contender, Contenders};
use super::sessions::{self, Service, Services};
use super::stage::{Part, play};
use super::told::Told;
use super::trouble::{on_the_way, run_processes, stand_still_in_turn};
use super::{caches, calls, watch};

/// How long a storm lasts in a scenario that has no time of its own.
const SHORT: Duration = Duration::from_secs(60);
/// The time to live of sessions and registrations.
const TTL: Duration = Duration::from_secs(5);
/// A client that gives calls up does so after this time, as most faults that last are longer.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) async fn watch(world: World) -> Result<(), BoxError> {
    let faults = Faults::all().without(FaultKind::Compaction).every(Duration::from_secs(3));
    play(world, faults, 3 * SHORT, |stage| {
        let site = stage.site("watcher")?;
        Ok(vec![Box::pin(watch::receives_exactly_the_history(stage.clone(), site))])
    })
    .await
}

pub(super) async fn agreement(world: World, told: Told) -> Result<(), BoxError> {
    play(world, Faults::all().every(Duration::from_secs(2)), SHORT, |stage| {
        let sites = stage.sites(&["a", "b", "c"])?;
        let watches = Watches { sites, per_site: 4, pause: 800, least: 500, told };
        Ok(vec![Box::pin(agreement::watches_agree(stage.clone(), watches))])
    })
    .await
}

pub(super) async fn calls(world: World) -> Result<(), BoxError> {
    play(world, Faults::all().every(Duration::from_secs(1)), SHORT, |stage| {
        let sites = stage.sites(&["a", "b", "c"])?;
        Ok(vec![Box::pin(calls::tell_what_became_of_them(stage.clone(), sites))])
    })
    .await
}

pub(super) async fn linearizable(world: World, puts: Puts) -> Result<(), BoxError> {
    play(world, Faults::all().every(Duration::from_secs(1)), SHORT, |stage| {
        let sites = stage.sites_within(REQUEST_TIMEOUT, &["a", "b", "c"])?;
        let calls = Calls { sites, per_site: 2, pause: 500, least: 50, puts };
        Ok(vec![Box::pin(linearizable::calls_are_those_of_one_store(stage.clone(), calls))])
    })
    .await
}

pub(super) async fn cache(world: World) -> Result<(), BoxError> {
    play(world, Faults::all().every(Duration::from_secs(2)), 2 * SHORT, |stage| {
        let client = stage.site("reader")?.client;
        Ok(vec![Box::pin(caches::always_the_store_at_one_revision(stage.clone(), client, 500, 10))])
    })
    .await
}

pub(super) async fn session(world: World, lasts: Duration, service: Service) -> Result<(), BoxError> {
    play(world, on_the_way(), lasts, |stage| {
        let sites = stage.sites(&["a", "b", "c", "d"])?;
        let naps = sites.iter().map(|site| Box::pin(sessions::nap(stage.clone(), site.host.clone())) as Part);
        let mut parts: Vec<Part> = naps.collect();
        let services = Services { sites, ttl: 2..15, pause: 30_000, least: 4, service };
        let told = sessions::are_told_in_time(stage.clone(), services);
        parts.push(Box::pin(told));
        Ok(parts)
    })
    .await
}

/// Dozens wait for a lock on hosts that are killed, suspended, starved and cut off.
pub(super) async fn queue(world: World, lasts: Duration, how: Contender) -> Result<(), BoxError> {
    play(world, on_the_way(), lasts, |stage| {
        let hosts = hosts(stage.world(), 6);
        let (stage, on_stage) = (stage.clone(), stage.clone());
        let contenders = Contenders { count: 5, ttl: TTL, pause: 2000, how };
        let start = move |host: &Host, client: &Client| queue::contend(&on_stage, host, client, contenders);
        Ok(vec![Box::pin(async move {
            run_processes(&stage, hosts, 90, "everybody has had the lock", start).await?;
            queue::check(&stage, TTL, 5).await
        })])
    })
    .await
}

/// Candidates lead in turn; observers on hosts that sleep follow them.
pub(super) async fn election(world: World, lasts: Duration, how: Candidate) -> Result<(), BoxError> {
    play(world, on_the_way(), lasts, |stage| {
        let sites = stage.sites(&["observer-0", "observer-1"])?;
        let observers = elections::watch_from(&sites, how);
        let sleepers = sites.into_iter().map(|site| site.host).collect();
        let sleepers = stand_still_in_turn(stage.clone(), sleepers);
        let hosts = hosts(stage.world(), 4);
        let (stage, on_stage) = (stage.clone(), stage.clone());
        let candidates = Candidates { count: 2, ttl: TTL, pause: 2000, how };
        let start = move |host: &Host, client: &Client| elections::stand(&on_stage, host, client, candidates);
        let candidates = async move {
            run_processes(&stage, hosts, 60, "everybody has led", start).await?;
            elections::check(&stage, observers, &Limits { ttl: TTL, terms: 5, late: 3 }).await
        };
        Ok(vec![Box::pin(candidates), Box::pin(sleepers)])
    })
    .await
}

pub(super) async fn config(world: World, lasts: Duration, how: Reader) -> Result<(), BoxError> {
    play(world, on_the_way().every(Duration::from_secs(3)), lasts, |stage| {
        let site = stage.site("reader")?;
        let sleeper = stand_still_in_turn(stage.clone(), vec![site.host.clone()]);
        let reader = configs::are_the_last_good_value(stage.clone(), site, 1000, 10, how);
        Ok(vec![Box::pin(reader), Box::pin(sleeper)])
    })
    .await
}

pub(super) async fn discovery(world: World, lasts: Duration, how: Instance) -> Result<(), BoxError> {
    play(world, discoveries::without_delays(), lasts, |stage| {
        let follower = stage.site("client")?;
        let sleeper = stand_still_in_turn(stage.clone(), vec![follower.host.clone()]);
        let hosts = hosts(stage.world(), 5);
        let instances = Instances { hosts, follower, ttl: TTL, without_delays: true, how };
        Ok(vec![Box::pin(discoveries::follow_the_leases(stage.clone(), instances)), Box::pin(sleeper)])
    })
    .await
}

pub(super) async fn consumer(world: World, lasts: Duration, saves: Saves) -> Result<(), BoxError> {
    let faults = Faults::all().without(FaultKind::Compaction).without(FaultKind::Suspend);
    play(world, faults, lasts, |stage| {
        let host = stage.world().host("consumer");
        Ok(vec![Box::pin(consumers::everything_is_seen(stage.clone(), host, saves))])
    })
    .await
}

fn hosts(world: &World, count: usize) -> Vec<Host> {
    (0..count).map(|number| world.host(&format!("host-{number}"))).collect()
}
