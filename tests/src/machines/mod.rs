//! A simulator: whole clusters and clients in virtual time, with everything that can go wrong.
//!
//! Clients run the real core, [`Watcher`](etcd_watch_core::Watcher) and [`Mirror`](etcd_watch_core::Mirror); members
//! are [`ModelEtcd`](crate::model::ModelEtcd)s that apply one log, each in its own time. Between them is a network
//! that delays, cuts, holds and swallows; members stop, freeze, lag, are cut off from each other, lose their
//! leader, are restored from backups and forget tokens; consumers are slow, stall, leave and come back.
//!
//! A run follows from its seed, bit for bit. After every response, and at the end, these are checked:
//!
//! - **the nine rules** of [`checks`](crate::checks) for every watch, against the store's history, and that each
//!   ends only for a reason that there was; for every mirror, that its fold is the store at each revision it
//!   announces;
//! - **bounded**: what waits for consumers stays within the budgets, each watch's and the client's;
//! - **live**: once faults stop, everybody is told of a store that is gone, and comes to the revision of the last
//!   write, within two minutes each, though one consumer never takes anything again (**isolated**); no stream is given
//!   up as silent that was not cut off;
//! - **nothing is left**: once everybody has gone, neither members nor clients hold anything of it.
//!
//! ```
//! use etcd_watch_testkit::machines::{Settings, simulate};
//!
//! let counts = simulate(1, Settings::default()).unwrap_or_else(|failure| panic!("{}", failure.shrink()));
//! assert!(counts.events > 0);
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `plan`, `generate` | what is to happen, made up from a seed |
//! | `world`, `schedule` | virtual time; how a run goes, and how it ends |
//! | `steps` | what each step does |
//! | `cluster` | members and the log they apply; restored stores |
//! | `net` | links with frames under way |
//! | `client`, `calls` | the driver of the real machine, and reads |
//! | `consumer`, `mirror` | who takes what comes, and compares |
//! | `shrink`, `report` | what is told of a run |

mod calls;
mod client;
mod cluster;
mod consumer;
mod generate;
mod mirror;
mod net;
mod plan;
mod report;
mod schedule;
mod shrink;
mod steps;
mod world;

#[cfg(test)]
mod tests;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use plan::{Change, MirrorPlan, Plan, Planted, RangePlan, Servers, Settings, Setup, Step, WatchPlan};
pub use report::Counts;

use world::World;

/// A promise that was broken.
#[derive(Debug)]
pub struct Failure {
    /// What had been planned: run it again to see the same.
    pub plan: Plan,
    /// What was broken.
    pub what: String,
}

impl Failure {
    /// Everything that happened on the way to it, a line each, by virtual time in seconds.
    #[must_use]
    pub fn transcript(&self) -> Vec<String> {
        let mut world = World::new(&self.plan, true);
        // If it panics, what was noted before is what there is to show.
        let _ = catch_unwind(AssertUnwindSafe(|| world.run(&self.plan)));
        world.into_parts().2
    }
}

impl fmt::Display for Failure {
    /// The plan, the end of the transcript, and what was broken.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LINES: usize = 120;
        let transcript = self.transcript();
        writeln!(f, "{}", self.plan)?;
        let skipped = transcript.len().saturating_sub(LINES);
        if skipped > 0 {
            writeln!(f, "({skipped} lines before these)")?;
        }
        for line in &transcript[skipped..] {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {}: {}", self.plan.seed, self.what)
    }
}

impl std::error::Error for Failure {}

/// Runs the plan of a seed.
///
/// # Errors
/// The first promise that was broken.
pub fn simulate(seed: u64, settings: Settings) -> Result<Counts, Box<Failure>> {
    run(&Plan::generate(seed, settings))
}

/// Runs a plan.
///
/// # Errors
/// The first promise that was broken, a panic of the machines among them.
pub fn run(plan: &Plan) -> Result<Counts, Box<Failure>> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(plan, false);
        world.run(plan);
        world.into_parts()
    }));
    let failure = |what| Box::new(Failure { plan: plan.clone(), what });
    match outcome {
        Ok((mut counts, None, _)) => {
            counts.runs = 1;
            Ok(counts)
        }
        Ok((_, Some(what), _)) => Err(failure(what)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
            Err(failure(format!("a panic: {text}")))
        }
    }
}
