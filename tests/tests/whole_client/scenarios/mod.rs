//! What the client promises, each as a scenario that runs with any seed: here a few of them, and thousands by the
//! example `simulate-client`.

pub(crate) mod agreement;
mod caches;
mod calls;
mod configs;
mod discoveries;
mod elections;
pub(crate) mod linearizable;
mod locks;
mod queue;
pub(crate) mod register;
mod sessions;
mod sleepers;
pub(crate) mod told;
mod trouble;
mod truth;
mod watch;

use std::time::Duration;

use etcd_watch_client::{BoxError, BoxFuture};
use etcd_watch_testkit::sim::{Failure, Report, Sim, World};

use configs::{Reader, are_the_last_good_value};
use discoveries::{Instance, follow_the_leases};
use elections::{Candidate, are_seen};
use linearizable::Puts;
use queue::{Contender, is_fair};
use sessions::{Service, are_told_in_time};
use told::Told;

/// A promise, and what checks it, under faults for so long.
pub(crate) type Scenario = fn(World, Duration) -> BoxFuture<'static, Result<(), BoxError>>;

/// All of them, by name. The first seven last for as long as they need.
pub(crate) const ALL: [(&str, Scenario); 12] = [
    ("watch", |world, _| Box::pin(watch::receives_exactly_the_history(world))),
    ("agreement", |world, _| Box::pin(agreement::watches_agree(world, Told::Truly))),
    ("calls", |world, _| Box::pin(calls::tell_what_became_of_them(world))),
    ("linearizable", |world, _| Box::pin(linearizable::calls_are_those_of_one_store(world, Puts::AsTheyAre))),
    ("lock", |world, _| Box::pin(locks::one_holder_at_a_time(world))),
    ("sleeper", |world, _| Box::pin(sleepers::a_session_is_lost_when_its_host_wakes_up(world))),
    ("cache", |world, _| Box::pin(caches::always_the_store_at_one_revision(world))),
    ("session", |world, lasts| Box::pin(are_told_in_time(world, lasts, Service::Sound))),
    ("queue", |world, lasts| Box::pin(is_fair(world, lasts, Contender::Sound))),
    ("election", |world, lasts| Box::pin(are_seen(world, lasts, Candidate::Sound))),
    ("config", |world, lasts| Box::pin(are_the_last_good_value(world, lasts, Reader::Sound))),
    ("discovery", |world, lasts| Box::pin(follow_the_leases(world, lasts, Instance::Sound))),
];

/// The same with a bug in the service: what it is, what is told when it is found, and the scenario.
pub(crate) const PLANTED: [(&str, &str, Scenario); 15] = [
    ("session: an answer is remembered", "believes in a lease", |world, lasts| {
        Box::pin(are_told_in_time(world, lasts, Service::Remembers))
    }),
    ("session: a clock that sleeps", "believes in a lease", |world, lasts| {
        Box::pin(are_told_in_time(world, lasts, Service::SleepyClock))
    }),
    ("session: a timer that sleeps", "told after the lease had ended", |world, lasts| {
        Box::pin(are_told_in_time(world, lasts, Service::Timer))
    }),
    ("mutex: no look after the wait", "before its turn", |world, lasts| {
        Box::pin(is_fair(world, lasts, Contender::WithoutLooking))
    }),
    ("mutex: no fencing token", "the owner", |world, lasts| {
        Box::pin(is_fair(world, lasts, Contender::Unconditional))
    }),
    ("queue: a place that is given up", "had to queue again", |world, lasts| {
        Box::pin(is_fair(world, lasts, Contender::Impatient))
    }),
    ("queue: a lock that is never unlocked", "everybody has had the lock", |world, lasts| {
        Box::pin(is_fair(world, lasts, Contender::Forgets))
    }),
    ("election: a value without the lease", "everybody has led", |world, lasts| {
        Box::pin(are_seen(world, lasts, Candidate::PlainPut))
    }),
    ("election: no fencing token", "the owner", |world, lasts| {
        Box::pin(are_seen(world, lasts, Candidate::Unconditional))
    }),
    ("election: an observer that polls", "missed a leader", |world, lasts| {
        Box::pin(are_seen(world, lasts, Candidate::Polled))
    }),
    ("config: two values for one", "not the last good value", |world, lasts| {
        Box::pin(are_the_last_good_value(world, lasts, Reader::TwoValues))
    }),
    ("config: nought for nonsense", "not the last good value", |world, lasts| {
        Box::pin(are_the_last_good_value(world, lasts, Reader::Defaults))
    }),
    ("discovery: no lease", "after its end", |world, lasts| {
        Box::pin(follow_the_leases(world, lasts, Instance::WithoutLease))
    }),
    ("discovery: one put", "are alive", |world, lasts| {
        Box::pin(follow_the_leases(world, lasts, Instance::PutsOnce))
    }),
    ("discovery: nothing is removed", "are listed", |world, lasts| {
        Box::pin(follow_the_leases(world, lasts, Instance::OnlyAdded))
    }),
];

pub(crate) fn sim() -> Sim {
    // Hosts may be suspended for an hour at a time.
    Sim::new().limit(Duration::from_secs(7 * 86_400))
}

/// Runs one of them with seeds, for so long each.
pub(crate) fn run(
    name: &str,
    lasts: Duration,
    seeds: impl IntoIterator<Item = u64>,
) -> Result<Report, Box<Failure>> {
    run_in(&sim(), name, lasts, seeds)
}

/// The same, in a world with other settings.
pub(crate) fn run_in(
    sim: &Sim,
    name: &str,
    lasts: Duration,
    seeds: impl IntoIterator<Item = u64>,
) -> Result<Report, Box<Failure>> {
    let (_, scenario) = ALL.into_iter().find(|(known, _)| *known == name).expect("a scenario");
    sim.run_seeds(seeds, |world| scenario(world, lasts))
}

/// The first of these seeds that finds a bug, and what it tells; `None` if none does.
pub(crate) fn find(
    scenario: Scenario,
    lasts: Duration,
    seeds: impl IntoIterator<Item = u64>,
) -> Option<Box<Failure>> {
    sim().run_seeds(seeds, |world| scenario(world, lasts)).err()
}

/// Waits for what has to come once all is well.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> Result<T, BoxError> {
    let waited = tokio::time::timeout(Duration::from_secs(300), future).await;
    waited.map_err(|_| format!("not within five minutes of calm: {what}").into())
}
