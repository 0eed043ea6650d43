//! A service with the whole client in it, in virtual time: from one seed, bit for bit repeatable.
//!
//! [`run`] gives a scenario a [`World`]: hosts, a network and an etcd cluster. The client on a host is the real one, with
//! its connections, HTTP/2 and gRPC; the network carries its bytes; at the other end are the gRPC servers of the
//! [model](crate::model). Nothing waits for real time: an hour passes when everybody waits for it.
//!
//! ```
//! use etcd_watch_client::{KeyRange, WatchRequest};
//! use etcd_watch_testkit::sim;
//! use std::time::Duration;
//!
//! let report = sim::run(7, |world| async move {
//!     let client = world.client().connect().await?;
//!     let mut watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(1))?;
//!     for member in 0..3 {
//!         let cut_off = world.link(&world.host("client"), member).partition();
//!         tokio::spawn(cut_off.lasting(Duration::from_secs(1800)));
//!     }
//!     let revision = world.etcd().put("k", "v");
//!     let response = watch.try_next().await?.expect("it goes on");
//!     assert_eq!(response.events().next().expect("the put").mod_revision(), revision);
//!     assert!(world.now() >= Duration::from_secs(1800));
//!     Ok(())
//! });
//! let report = report.unwrap_or_else(|failure| panic!("{failure}"));
//! assert!(report.wall_time < Duration::from_secs(60));
//! ```
//!
//! What has to hold is checked by the scenario, with its own assertions or with [`checks`](crate::checks). A run fails if
//! the scenario returns an error, if it or a task of a host panics, and if it takes too long; the [`Failure`] shows the
//! seed, and what happened last. [`Sim`] has the settings, and runs many seeds.
//!
//! A run repeats itself if the code in it does. The executor is tokio's, on one thread with a paused clock, so tasks,
//! timers and channels of tokio's are in virtual time too. What isn't repeatable by itself:
//!
//! - `tokio::select!` polls its branches in random order unless it begins with `biased;`. Built with
//!   `RUSTFLAGS="--cfg tokio_unstable"`, that follows from the seed too.
//! - The order of a `HashMap`; random numbers other than those of [`World::rng`] and of `fastrand`'s functions, which
//!   are seeded; real clocks, threads, `spawn_blocking`, sockets.
//! - h2 forgets streams that it has reset after 30 s of real time: a run should take less.
//!
//! | file | owns |
//! |---|---|
//! | `world`, `etcd`, `host`, `link` | what a scenario works with |
//! | `server` | servers of a scenario's own, beside the cluster |
//! | `storm`, `fault` | faults that come by themselves, and that last |
//! | `plan`, `shrink` | the faults that a storm has drawn; finding the few that a failure needs |
//! | `runtime`, `gate` | the client's runtime; tasks that are frozen and killed |
//! | `socket` | bytes under way |
//! | `core`, `clock`, `transcript`, `report` | what all share; virtual time; what is told of a run |

mod clock;
mod core;
mod etcd;
mod fault;
mod gate;
mod host;
mod link;
mod plan;
mod report;
mod runtime;
mod server;
mod shrink;
mod socket;
mod storm;
mod transcript;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{self, Duration};

use etcd_watch_client::BoxError;
use tokio::runtime::Builder;

use crate::model::ModelConfig;

pub use crate::server::Users;
pub use etcd::{Backup, Etcd};
pub use fault::Fault;
pub use host::{Host, Task};
pub use link::{Direction, Link};
pub use plan::PlannedFault;
pub use report::{Cause, Counts, Failure, Report};
pub use runtime::SimRuntime;
pub use server::Server;
pub use shrink::Shrunk;
pub use socket::Socket;
pub use storm::{FaultKind, Faults};
pub use world::World;

/// Runs a scenario with every setting at its default: three members, and an hour of virtual time at most.
///
/// # Errors
/// The scenario returned an error or panicked, or took too long.
///
/// # Panics
/// Within a tokio runtime.
pub fn run<F, S>(seed: u64, scenario: F) -> Result<Report, Box<Failure>>
where
    F: FnOnce(World) -> S,
    S: Future<Output = Result<(), BoxError>>,
{
    Sim::new().run(seed, scenario)
}

/// The settings of a run.
#[derive(Clone, Debug)]
#[must_use]
pub struct Sim {
    members: usize,
    model: ModelConfig,
    limit: Duration,
    latency: Duration,
    users: Users,
}

impl Default for Sim {
    fn default() -> Self {
        let limit = Duration::from_secs(3600);
        let (model, users, latency) = (ModelConfig::default(), Users::new(), Duration::from_millis(3));
        Self { members: 3, model, limit, latency, users }
    }
}

impl Sim {
    /// Every setting at its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many members the cluster has, from 1 to 9. Default: 3.
    pub fn members(mut self, members: usize) -> Self {
        self.members = members.clamp(1, 9);
        self
    }

    /// What the members are and how they behave. Default: a member of etcd 3.5.
    pub fn model(mut self, config: ModelConfig) -> Self {
        self.model = config;
        self
    }

    /// For how long in virtual time a scenario may go on. Default: an hour.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How long the network takes at most, one way, when nothing is wrong; in milliseconds. Default: 3 ms.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Who is let into the cluster, with a token. Default: everybody, without one.
    pub fn users(mut self, users: Users) -> Self {
        self.users = users;
        self
    }

    /// Runs a scenario.
    ///
    /// # Errors
    /// The scenario returned an error or panicked, or took too long.
    ///
    /// # Panics
    /// Within a tokio runtime.
    pub fn run<F, S>(&self, seed: u64, scenario: F) -> Result<Report, Box<Failure>>
    where
        F: FnOnce(World) -> S,
        S: Future<Output = Result<(), BoxError>>,
    {
        self.run_planned(seed, plan::Plan::default(), scenario).0
    }

    /// The same, with the storms as planned; also returns what they have brought.
    fn run_planned<F, S>(
        &self,
        seed: u64,
        plan: plan::Plan,
        scenario: F,
    ) -> (Result<Report, Box<Failure>>, Vec<PlannedFault>)
    where
        F: FnOnce(World) -> S,
        S: Future<Output = Result<(), BoxError>>,
    {
        let began = time::Instant::now();
        fastrand::seed(seed);
        let mut builder = Builder::new_current_thread();
        seed_select(&mut builder, seed);
        let clock = Arc::<clock::Clock>::default();
        builder.on_thread_unpark({
            let clock = clock.clone();
            move || clock.read()
        });
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime needs nothing");
        let (core, ended) = {
            let _entered = runtime.enter();
            let core = Arc::new(core::Core::new(seed, self.latency, plan, clock));
            let etcd = Etcd::new(&core, self.members, self.model.clone(), self.users.clone());
            let world = World::new(core.clone(), etcd);
            let ended =
                catch_unwind(AssertUnwindSafe(|| runtime.block_on(self.play(&core, scenario(world)))));
            (core, ended)
        };
        // The virtual clock is only to be had in the runtime.
        let (at, client_time) = runtime.block_on(async { (core.now(), core.client_time()) });
        let cause = match ended {
            Ok(Ok(())) => None,
            Ok(Err(cause)) => Some(core.take_cause().unwrap_or(cause)),
            Err(panic) => Some(Cause::Panic(core::words(&*panic))),
        };
        let result = {
            let mut transcript = core.transcript();
            let hash = transcript.hash();
            match cause {
                None => {
                    let mut counts = transcript.counts.clone();
                    counts.polls = core.polls();
                    let wall_time = Duration::ZERO;
                    Ok(Report { runs: 1, virtual_time: at, client_time, wall_time, counts, hash })
                }
                Some(cause) => {
                    let (transcript, left_out) = transcript.take_lines();
                    Err(Box::new(Failure { seed, cause, at, transcript, left_out, hash }))
                }
            }
        };
        core.end();
        drop(runtime);
        let drawn = std::mem::take(&mut core::lock(&core.plan).drawn);
        (result.map(|report| Report { wall_time: began.elapsed(), ..report }), drawn)
    }

    async fn play(
        &self,
        core: &core::Core,
        scenario: impl Future<Output = Result<(), BoxError>>,
    ) -> Result<(), Cause> {
        tokio::select! {
            biased;
            cause = core.failed() => Err(cause),
            result = scenario => result.map_err(|error| Cause::Error(told(&*error))),
            () = tokio::time::sleep(self.limit) => {
                let last_event = core.transcript().last_at();
                Err(Cause::Limit { limit: self.limit, last_event })
            }
        }
    }

    /// Runs a scenario once with each of the seeds. All runs together.
    ///
    /// # Errors
    /// The first run that did not end well.
    ///
    /// # Panics
    /// Within a tokio runtime.
    pub fn run_seeds<F, S>(
        &self,
        seeds: impl IntoIterator<Item = u64>,
        mut scenario: F,
    ) -> Result<Report, Box<Failure>>
    where
        F: FnMut(World) -> S,
        S: Future<Output = Result<(), BoxError>>,
    {
        let mut all = Report::default();
        for seed in seeds {
            all += &self.run(seed, &mut scenario)?;
        }
        Ok(all)
    }
}

/// An error with its causes.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

/// `tokio::select!` follows from the seed, where tokio lets it.
#[allow(unexpected_cfgs, reason = "tokio's users set this one")]
fn seed_select(builder: &mut Builder, seed: u64) {
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    #[cfg(not(tokio_unstable))]
    let _ = (builder, seed);
}
