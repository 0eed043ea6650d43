//! Runs the whole client in virtual time with many seeds, until a promise is broken:
//!
//! ```sh
//! cargo run --release -p etcd-watch-testkit --example simulate-client -- --seeds 1000
//! cargo run --release -p etcd-watch-testkit --example simulate-client -- --minutes 10 --jobs 2
//! cargo run --release -p etcd-watch-testkit --example simulate-client -- --first 42 --seeds 1 --only lock
//! cargo run --release -p etcd-watch-testkit --example simulate-client -- --planted 100
//! cargo run --release -p etcd-watch-testkit --example simulate-client -- --register 100
//! ```
//!
//! `--seconds` says for how long faults come in the scenarios of sessions, queues, elections, configurations and discovery,
//! an hour of virtual time by default. `--planted` looks for the planted bugs with so many seeds; `--register` runs the
//! experiment with a register under a lock with so many seeds, in each of its modes.
#![allow(clippy::print_stdout, reason = "it is what the program is for")]

#[path = "../tests/whole_client/scenarios/mod.rs"]
mod scenarios;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etcd_watch_testkit::sim::Report;

use scenarios::register::{self, Holder};

struct Arguments {
    first: u64,
    seeds: Option<u64>,
    minutes: Option<u64>,
    jobs: usize,
    only: Option<String>,
    lasts: Duration,
    planted: Option<u64>,
    register: Option<u64>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            first: 0,
            seeds: None,
            minutes: None,
            jobs: 1,
            only: None,
            lasts: Duration::from_secs(3600),
            planted: None,
            register: None,
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{word} {value}: not a number"));
        match word.as_str() {
            "--first" => arguments.first = number()?,
            "--seeds" => arguments.seeds = Some(number()?),
            "--minutes" => arguments.minutes = Some(number()?),
            "--jobs" => arguments.jobs = usize::try_from(number()?).unwrap_or(1).max(1),
            "--seconds" => arguments.lasts = Duration::from_secs(number()?),
            "--planted" => arguments.planted = Some(number()?),
            "--register" => arguments.register = Some(number()?),
            "--only" => arguments.only = Some(value),
            _ => {
                let names = scenarios::ALL.map(|(name, _)| name).join(", ");
                return Err(format!(
                    "{word}: use --first N, --seeds N, --minutes N, --jobs N, --seconds N, --planted SEEDS, --register SEEDS, \
                     --only SCENARIO ({names})"
                ));
            }
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(what) => {
            println!("{what}");
            return ExitCode::from(2);
        }
    };
    if let Some(seeds) = arguments.planted {
        return find_planted(&arguments, seeds);
    }
    if let Some(seeds) = arguments.register {
        return add_to_a_register(&arguments, seeds);
    }
    let names = scenarios::ALL.map(|(name, _)| name).into_iter();
    let names: Vec<_> =
        names.filter(|name| arguments.only.as_ref().is_none_or(|only| only == name)).collect();
    if names.is_empty() {
        println!("there is no such scenario");
        return ExitCode::from(2);
    }
    let totals = Mutex::new(vec![Report::default(); names.len()]);
    let ends = arguments.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let unless_given = if arguments.minutes.is_some() { u64::MAX / 2 } else { 1000 };
    let last = arguments.first + arguments.seeds.unwrap_or(unless_given);
    let next = AtomicU64::new(arguments.first);
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = seed >= last || ends.is_some_and(|end| Instant::now() >= end);
                    if is_over || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    for (name, at) in names.iter().zip(0..) {
                        match scenarios::run(name, arguments.lasts, [seed]) {
                            Ok(report) => totals.lock().expect("nobody panics with it")[at] += &report,
                            Err(failure) => {
                                failed.store(true, Ordering::Relaxed);
                                println!("{name}:\n{failure}");
                            }
                        }
                    }
                }
            });
        }
    });
    for (name, total) in names.iter().zip(totals.into_inner().expect("nobody panicked with it")) {
        println!("{name}: {total}");
    }
    if failed.into_inner() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Says by which seed each planted bug is found.
fn find_planted(arguments: &Arguments, seeds: u64) -> ExitCode {
    let mut all_found = true;
    for (what, told, scenario) in scenarios::PLANTED {
        let seeds = arguments.first..arguments.first + seeds;
        match scenarios::find(scenario, arguments.lasts, seeds) {
            Some(failure) => {
                all_found &= failure.cause.to_string().contains(told);
                println!("{what}: seed {}: {}", failure.seed, failure.cause);
            }
            None => {
                all_found = false;
                println!("{what}: not found");
            }
        }
    }
    if all_found { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says how many additions to a register under a lock are lost, by how the holder makes sure that it has the lock.
fn add_to_a_register(arguments: &Arguments, seeds: u64) -> ExitCode {
    for holder in [Holder::Believes, Holder::Asks, Holder::Fenced] {
        let seeds = arguments.first..arguments.first + seeds;
        match register::run(holder, arguments.lasts, seeds) {
            Ok(additions) => println!("{holder:?}: {additions:?}"),
            Err(failure) => {
                println!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
