//! What the client promises, each as a scenario that runs with any seed: here a few of them, and thousands by the
//! example `simulate-client`.

mod agreement;
mod alone;
mod caches;
mod calls;
mod configs;
mod consumers;
mod discoveries;
mod elections;
mod everything;
mod linearizable;
mod planted;
mod queue;
pub(crate) mod register;
mod sessions;
mod sleepers;
mod stage;
mod told;
mod trouble;
pub(crate) mod truth;
pub(crate) mod watch;

use std::time::Duration;

use etcd_watch_client::{BoxError, BoxFuture};
use etcd_watch_testkit::sim::{Failure, Report, World};

use configs::Reader;
use consumers::Saves;
use discoveries::Instance;
use elections::Candidate;
use linearizable::Puts;
use queue::Contender;
use sessions::Service;
use told::Told;

pub(crate) use planted::PLANTED;
pub(crate) use stage::sim;

/// A promise, and what checks it, under faults for so long.
pub(crate) type Scenario = fn(World, Duration) -> BoxFuture<'static, Result<(), BoxError>>;

/// All of them, by name. The first six last for as long as they need.
pub(crate) const ALL: [(&str, Scenario); 13] = [
    ("watch", |world, _| Box::pin(alone::watch(world))),
    ("agreement", |world, _| Box::pin(alone::agreement(world, Told::Truly))),
    ("calls", |world, _| Box::pin(alone::calls(world))),
    ("linearizable", |world, _| Box::pin(alone::linearizable(world, Puts::AsTheyAre))),
    ("sleeper", |world, _| Box::pin(sleepers::a_session_is_lost_when_its_host_wakes_up(world))),
    ("cache", |world, _| Box::pin(alone::cache(world))),
    ("session", |world, lasts| Box::pin(alone::session(world, lasts, Service::Sound))),
    ("queue", |world, lasts| Box::pin(alone::queue(world, lasts, Contender::Sound))),
    ("election", |world, lasts| Box::pin(alone::election(world, lasts, Candidate::Sound))),
    ("config", |world, lasts| Box::pin(alone::config(world, lasts, Reader::Sound))),
    ("discovery", |world, lasts| Box::pin(alone::discovery(world, lasts, Instance::Sound))),
    ("consumer", |world, lasts| Box::pin(alone::consumer(world, lasts, Saves::Revisions))),
    ("everything", |world, lasts| Box::pin(everything::everything_holds(world, lasts))),
];

/// Runs one of them with seeds, for so long each.
pub(crate) fn run(
    scenario: Scenario,
    lasts: Duration,
    seeds: impl IntoIterator<Item = u64>,
) -> Result<Report, Box<Failure>> {
    sim().run_seeds(seeds, |world| scenario(world, lasts))
}
