//! Making the storm of a failing run smaller.

use std::fmt;

use etcd_watch_client::BoxError;

use super::plan::{Plan, PlannedFault};
use super::report::{Cause, Failure, Report};
use super::{Sim, World};
use crate::shrinking::shortest;

/// A run that fails, with as few faults as were found. [`Display`](fmt::Display) shows both.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shrunk {
    /// The faults that are left, in order.
    pub faults: Vec<PlannedFault>,
    /// How many faults there were.
    pub of: usize,
    /// How the run fails with them.
    pub failure: Failure,
}

impl Sim {
    /// Runs a scenario with these faults in the place of those that would come by themselves.
    ///
    /// # Errors
    /// The scenario returned an error or panicked, or took too long.
    ///
    /// # Panics
    /// Within a tokio runtime.
    pub fn run_with_faults<F, S>(
        &self,
        seed: u64,
        faults: &[PlannedFault],
        scenario: F,
    ) -> Result<Report, Box<Failure>>
    where
        F: FnOnce(World) -> S,
        S: Future<Output = Result<(), BoxError>>,
    {
        self.run_planned(seed, Plan::given(faults), scenario).0
    }

    /// Runs a scenario with a seed; if that fails, runs it again with fewer of the faults that came by themselves, at most
    /// `runs` times, as long as it fails for the same reason. `None` if it doesn't fail.
    ///
    /// ```
    /// use etcd_watch_client::BoxError;
    /// use etcd_watch_testkit::sim::{FaultKind, Faults, Sim, World};
    /// use std::time::Duration;
    ///
    /// async fn nobody_sleeps(world: World) -> Result<(), BoxError> {
    ///     let host = world.host("a");
    ///     world.faults(Faults::all()).await;
    ///     for _ in 0..300 {
    ///         let (before, clock) = (world.now(), host.clone());
    ///         host.spawn(async move { clock.sleep(Duration::from_secs(1)).await }).await;
    ///         if world.now() > before + Duration::from_secs(100) {
    ///             return Err("the host has slept".into());
    ///         }
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let sim = Sim::new().limit(Duration::from_secs(86_400));
    /// let failure = sim.run_seeds(0..100, nobody_sleeps).expect_err("a host is suspended some time");
    /// let shrunk = sim.shrink(failure.seed, 100, nobody_sleeps).expect("it fails again");
    /// println!("{shrunk}");
    /// assert_eq!(shrunk.faults.iter().map(|fault| fault.kind).collect::<Vec<_>>(), [FaultKind::Suspend]);
    /// ```
    ///
    /// # Panics
    /// Within a tokio runtime.
    pub fn shrink<F, S>(&self, seed: u64, runs: usize, mut scenario: F) -> Option<Shrunk>
    where
        F: FnMut(World) -> S,
        S: Future<Output = Result<(), BoxError>>,
    {
        let (result, drawn) = self.run_planned(seed, Plan::default(), &mut scenario);
        let failure = *result.err()?;
        let (of, why) = (drawn.len(), reason(&failure.cause));
        let (faults, failure) = shortest(drawn, failure, runs, |faults| {
            let result = self.run_with_faults(seed, faults, &mut scenario);
            result.err().map(|failure| *failure).filter(|failure| reason(&failure.cause) == why)
        });
        Some(Shrunk { faults, of, failure })
    }
}

/// The first line of a cause, without its numbers.
fn reason(cause: &Cause) -> String {
    let text = cause.to_string();
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_ascii_digit()).collect()
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.failure)?;
        write!(f, "{} of {} faults are left:", self.faults.len(), self.of)?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n{fault}"))
    }
}
