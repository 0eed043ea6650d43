//! The whole client in virtual time: what it promises, under faults, from seeds; and what the simulation promises.
//!
//! `WHOLE_CLIENT_FIRST` and `WHOLE_CLIENT_SEEDS` run other seeds and more of them; thousands are for the example
//! `simulate-client`.

#![allow(clippy::print_stdout, reason = "what was simulated is told")]

mod failures;
mod hosts;
mod lag;
mod mended;
mod network;
mod planted;
mod promises;
mod repeatable;
mod scenarios;
mod shrinking;
mod streams;
mod users;

use std::env;
use std::ops::Range;
use std::time::Duration;

use etcd_watch_client::BoxError;
use etcd_watch_testkit::sim::{self, Report, World};

use scenarios::Scenario;

/// How long faults come in the scenarios that go on for as long as they are told to: an hour by `simulate-client`.
const LASTS: Duration = Duration::from_secs(120);

fn number(variable: &str, default: u64) -> u64 {
    let Ok(value) = env::var(variable) else { return default };
    value.parse().unwrap_or_else(|_| panic!("{variable}={value}: not a number"))
}

/// The seeds of a test that runs so many.
fn seeds(count: u64) -> Range<u64> {
    let first = number("WHOLE_CLIENT_FIRST", 0);
    first..first + number("WHOLE_CLIENT_SEEDS", count)
}

/// The scenario of that name.
fn named(name: &str) -> Scenario {
    let scenario = scenarios::ALL.into_iter().find(|(known, _)| *known == name);
    scenario.expect("a scenario").1
}

/// A run that ends well.
fn well<S: Future<Output = Result<(), BoxError>>>(seed: u64, scenario: impl FnOnce(World) -> S) -> Report {
    sim::run(seed, scenario).unwrap_or_else(|failure| panic!("{failure}"))
}
