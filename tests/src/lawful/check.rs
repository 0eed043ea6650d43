//! Running histories until one is not coped with, and making that one small.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::failure::Origin;
use super::mirror::MirrorSide;
use super::watch::WatchSide;
use super::world::{Run, World};
use super::{Coverage, Failure, History, MirrorConsumer, Settings, WatchConsumer, histories};

/// Hands random histories to consumers of a mirror, a new one for each, which `make` makes.
///
/// # Errors
/// The first history that a consumer does not cope with, made small.
pub fn check_mirror<C: MirrorConsumer>(
    settings: &Settings,
    make: impl Fn() -> C,
) -> Result<Coverage, Failure> {
    check(settings, |history, is_written| run_mirror(history, &make, is_written))
}

/// Hands random histories to consumers of a watch, a new one for each, which `make` makes.
///
/// # Errors
/// The first history that a consumer does not cope with, made small.
pub fn check_watch<C: WatchConsumer>(settings: &Settings, make: impl Fn() -> C) -> Result<Coverage, Failure> {
    check(settings, |history, is_written| run_watch(history, &make, is_written))
}

impl History {
    /// Hands this history to a consumer of a mirror: for `proptest!`, and for histories written by hand.
    /// `make` makes the consumer, and the fresh one of a restart.
    ///
    /// # Errors
    /// The consumer does not cope with it.
    pub fn feed_mirror<C: MirrorConsumer>(&self, make: impl Fn() -> C) -> Result<Coverage, Failure> {
        feed(self, |history, is_written| run_mirror(history, &make, is_written))
    }

    /// Hands this history to a consumer of a watch: for `proptest!`, and for histories written by hand.
    /// `make` makes the consumer, and the fresh one of a restart.
    ///
    /// # Errors
    /// The consumer does not cope with it.
    pub fn feed_watch<C: WatchConsumer>(&self, make: impl Fn() -> C) -> Result<Coverage, Failure> {
        feed(self, |history, is_written| run_watch(history, &make, is_written))
    }
}

fn run_mirror<C: MirrorConsumer>(history: &History, make: &impl Fn() -> C, is_written: bool) -> Run {
    let world = World::new(history, is_written);
    let side = MirrorSide::new(&world, make);
    world.run(side)
}

fn run_watch<C: WatchConsumer>(history: &History, make: &impl Fn() -> C, is_written: bool) -> Run {
    let mut world = World::new(history, is_written);
    let side = WatchSide::new(&mut world, make);
    world.run(side)
}

fn feed(history: &History, run: impl Fn(&History, bool) -> Run) -> Result<Coverage, Failure> {
    let first = run(history, false);
    match first.outcome {
        Ok(()) => Ok(first.coverage),
        Err(broken) => {
            let transcript = run(history, true).transcript;
            Err(Failure::new(history.clone(), broken, transcript, None))
        }
    }
}

fn check(settings: &Settings, run: impl Fn(&History, bool) -> Run) -> Result<Coverage, Failure> {
    let strategy = histories(settings);
    let mut coverage = Coverage::default();
    for case in 0..settings.cases {
        let seed = settings.seed.wrapping_add(case.into());
        let config =
            Config { rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
        let mut tree = strategy.new_tree(&mut TestRunner::new(config)).expect("the strategy rejects nothing");
        let first = run(&tree.current(), false);
        coverage.add(&first.coverage);
        if first.outcome.is_err() {
            let steps = tree.current().steps().len();
            let mut has_next = tree.simplify();
            while has_next {
                has_next = if run(&tree.current(), false).outcome.is_err() {
                    tree.simplify()
                } else {
                    tree.complicate()
                };
            }
            let history = tree.current();
            let last = run(&history, true);
            // Runs are deterministic, but a consumer may not be.
            let broken = last.outcome.err().or_else(|| first.outcome.err()).expect("the first run failed");
            let origin = Origin { seed, cases: case + 1, steps };
            return Err(Failure::new(history, broken, last.transcript, Some(origin)));
        }
    }
    Ok(coverage)
}
