//! Runs the whole client in virtual time with many seeds, until a promise is broken:
//!
//! ```sh
//! cargo xtask simulate-client --seeds 1000
//! cargo xtask simulate-client --minutes 10 --jobs 2
//! cargo xtask simulate-client --only everything --seeds 100000 --jobs 2 --seconds 160
//! cargo xtask simulate-client --first 42 --seeds 1 --only queue
//! cargo xtask simulate-client --planted 100
//! cargo xtask simulate-client --register 100 --seconds 600
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is what the program is for")]

#[path = "../tests/whole_client/scenarios/mod.rs"]
mod scenarios;
mod seeds;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use etcd_watch_testkit::sim::Report;

use scenarios::Scenario;
use scenarios::register::{self, Additions, Holder};
use seeds::Seeds;

/// Runs the whole client in virtual time with many seeds, until a promise is broken.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    seeds: Seeds,
    /// Only this scenario.
    #[arg(long, value_name = "SCENARIO", value_parser = PossibleValuesParser::new(scenarios::ALL.map(|(name, _)| name)))]
    only: Option<String>,
    /// How long faults come, in seconds of virtual time, where a scenario has no time of its own.
    #[arg(long, value_name = "N", default_value_t = 3600)]
    seconds: u64,
    /// Look for each planted bug with up to so many seeds, and say by which it is found.
    #[arg(long, value_name = "SEEDS", conflicts_with_all = ["seeds", "minutes", "jobs", "only", "register"])]
    planted: Option<u64>,
    /// Add to a register under a lock with so many seeds, and say how many additions are lost, by how the holder makes sure
    /// that it has the lock.
    #[arg(long, value_name = "SEEDS", conflicts_with_all = ["seeds", "minutes", "only"])]
    register: Option<u64>,
}

impl Arguments {
    fn lasts(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_well = match (arguments.planted, arguments.register) {
        (Some(seeds), _) => find_planted(&arguments, seeds),
        (_, Some(seeds)) => add_to_a_register(&arguments, seeds),
        _ => run_scenarios(&arguments),
    };
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs each scenario with each seed.
fn run_scenarios(arguments: &Arguments) -> bool {
    let is_chosen = |(name, _): &(&str, Scenario)| arguments.only.as_ref().is_none_or(|only| only == name);
    let chosen: Vec<_> = scenarios::ALL.into_iter().filter(is_chosen).collect();
    let mut totals = vec![Report::default(); chosen.len()];
    let run = |seed| {
        let one = |(name, scenario): &(&'static str, Scenario)| {
            scenarios::run(*scenario, arguments.lasts(), [seed]).map_err(|failure| (*name, failure))
        };
        chosen.iter().map(one).collect::<Result<Vec<_>, _>>()
    };
    let result = arguments.seeds.run(run, |reports| {
        totals.iter_mut().zip(&reports).for_each(|(total, report)| *total += report);
    });
    if let Err((_, (name, failure))) = &result {
        println!("{name}:\n{failure}");
    }
    for ((name, _), total) in chosen.iter().zip(totals) {
        println!("{name}: {total}");
    }
    result.is_ok()
}

/// Says by which seed each planted bug is found.
fn find_planted(arguments: &Arguments, seeds: u64) -> bool {
    let mut are_found = true;
    let seeds = Seeds { seeds: Some(seeds), ..arguments.seeds };
    for (what, told, scenario) in scenarios::PLANTED {
        match scenarios::run(scenario, arguments.lasts(), seeds.range()) {
            Err(failure) => {
                are_found &= failure.cause.to_string().contains(told);
                println!("{what}: seed {}: {}", failure.seed, failure.cause);
            }
            Ok(_) => {
                are_found = false;
                println!("{what}: not found");
            }
        }
    }
    are_found
}

/// Says how many additions to a register under a lock are lost.
fn add_to_a_register(arguments: &Arguments, seeds: u64) -> bool {
    let seeds = Seeds { seeds: Some(seeds), ..arguments.seeds };
    for holder in [Holder::Believes, Holder::Asks, Holder::Fenced] {
        let mut all = Additions::default();
        let run = |seed| register::run(holder, arguments.lasts(), seed);
        if let Err((_, failure)) = seeds.run(run, |additions| all += additions) {
            println!("{failure}");
            return false;
        }
        println!("{holder:?}: {all:?}");
    }
    true
}
