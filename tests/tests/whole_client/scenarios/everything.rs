//! All parts in one world.
//!
//! Three hosts run one long-lived client each, which watches, calls, caches, sessions, an observer, the configuration's
//! reader and discovery's follower share. Three more run processes that are killed, with a client for contenders of a lock
//! and candidates of an election; and two run instances of a service.

use std::time::Duration;

use etcd_watch_client::{BoxError, Client};
use etcd_watch_testkit::sim::{FaultKind, Faults, Host, World};

use super::agreement::{Watches, watches_agree};
use super::alone::REQUEST_TIMEOUT;
use super::caches::always_the_store_at_one_revision;
use super::configs::{Reader, are_the_last_good_value};
use super::discoveries::{Instance, Instances, follow_the_leases};
use super::elections::{self, Candidate, Candidates, Limits};
use super::linearizable::{Calls, Puts, calls_are_those_of_one_store};
use super::queue::{self, Contender, Contenders};
use super::sessions::{Service, Services, are_told_in_time};
use super::stage::{Part, Site, Stage, play_at};
use super::told::Told;
use super::trouble::{run_processes, stand_still_in_turn};

/// The time to live of sessions and registrations.
const TTL: Duration = Duration::from_secs(12);

/// The greatest pace.
const SLOWEST: u32 = 16;

/// All faults but one: a storm suspends hosts for up to 35 minutes, which may be all of its own time. So hosts are suspended
/// by parts, for less.
fn storm(pace: u32) -> Faults {
    Faults::all().without(FaultKind::Suspend).every(pace * Duration::from_secs(3))
}

/// All promises hold at the same time, under a storm that lasts for so long.
///
/// The pace is random: in some worlds a fault meets what the last one has left behind, in others everything has come to rest
/// before the next one.
pub(super) async fn everything_holds(world: World, lasts: Duration) -> Result<(), BoxError> {
    let pace = world.rng().u32(1..=SLOWEST);
    world.note(format_args!("the pace is {pace}"));
    play_at(pace, world, storm(pace), lasts, |stage| {
        let sites = stage.sites_within(REQUEST_TIMEOUT, &["a", "b", "c"])?;
        let watches = Watches { sites: sites.clone(), per_site: 2, pause: 4000, least: 1, told: Told::Truly };
        let calls = Calls { sites: sites.clone(), per_site: 1, pause: 4000, least: 1, puts: Puts::AsTheyAre };
        let services = Services {
            sites: sites[..2].to_vec(),
            ttl: 6..18,
            pause: 60_000,
            least: 0,
            service: Service::Sound,
        };
        let instances = Instances {
            hosts: ["instance-0", "instance-1"].map(|name| stage.world().host(name)).to_vec(),
            follower: sites[0].clone(),
            ttl: TTL,
            without_delays: false,
            how: Instance::Sound,
        };
        // Everybody's turn has to come soon after the storm.
        let turns = 15_000 * u64::from(pace.min(4));
        let sleepers = sites.iter().map(|site| site.host.clone()).collect();
        let parts: [Part; 8] = [
            Box::pin(watches_agree(stage.clone(), watches)),
            Box::pin(calls_are_those_of_one_store(stage.clone(), calls)),
            Box::pin(always_the_store_at_one_revision(stage.clone(), sites[1].client.clone(), 4000, 1)),
            Box::pin(are_the_last_good_value(stage.clone(), sites[2].clone(), 6000, 1, Reader::Sound)),
            Box::pin(are_told_in_time(stage.clone(), services)),
            Box::pin(follow_the_leases(stage.clone(), instances)),
            Box::pin(contenders_and_candidates(stage.clone(), sites[2].clone(), turns)),
            Box::pin(stand_still_in_turn(stage.clone(), sleepers)),
        ];
        Ok(parts.into())
    })
    .await
}

/// Contenders for a lock and candidates for an election, who share the clients of processes that are killed, and rest for up
/// to `pause` milliseconds.
async fn contenders_and_candidates(stage: Stage, observer: Site, pause: u64) -> Result<(), BoxError> {
    let hosts = ["service-0", "service-1", "service-2"].map(|name| stage.world().host(name));
    let observers = elections::watch_from(&[observer], Candidate::Sound);
    let contenders = Contenders { count: 1, ttl: TTL, pause, how: Contender::Sound };
    let candidates = Candidates { count: 1, ttl: TTL, pause, how: Candidate::Sound };
    let on_stage = stage.clone();
    let start = move |host: &Host, client: &Client| {
        let mut running = queue::contend(&on_stage, host, client, contenders);
        running.extend(elections::stand(&on_stage, host, client, candidates));
        running
    };
    run_processes(&stage, hosts, 90, "everybody has had the lock, and has led", start).await?;
    queue::check(&stage, TTL, 1).await?;
    elections::check(&stage, observers, &Limits { ttl: TTL, terms: 1, late: usize::MAX }).await
}
