//! Simulates until it is told to stop, or a promise is broken:
//!
//! ```sh
//! cargo run --release -p etcd-watch-testkit --example simulate -- --seeds 10000
//! cargo run --release -p etcd-watch-testkit --example simulate -- --minutes 10 --jobs 2
//! cargo run --release -p etcd-watch-testkit --example simulate -- --seed 42 --transcript
//! cargo run --release -p etcd-watch-testkit --example simulate -- --planted
//! ```
#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etcd_watch_testkit::machines::{Counts, Failure, Plan, Planted, Settings, run, simulate};

struct Arguments {
    first: u64,
    seeds: Option<u64>,
    minutes: Option<u64>,
    jobs: usize,
    settings: Settings,
    seed: Option<u64>,
    transcript: bool,
    planted: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        first: 0,
        seeds: None,
        minutes: None,
        jobs: 1,
        settings: Settings::default(),
        seed: None,
        transcript: false,
        planted: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{word} {value}: not a number"))
        };
        match word.as_str() {
            "--first" => arguments.first = number()?,
            "--seeds" => arguments.seeds = Some(number()?),
            "--minutes" => arguments.minutes = Some(number()?),
            "--jobs" => arguments.jobs = usize::try_from(number()?).unwrap_or(1).max(1),
            "--seconds" => arguments.settings.duration = Duration::from_secs(number()?),
            "--pace" => arguments.settings.pace = Duration::from_millis(number()?.max(1)),
            "--seed" => arguments.seed = Some(number()?),
            "--transcript" => arguments.transcript = true,
            "--planted" => arguments.planted = true,
            _ => {
                return Err(format!(
                    "{word}: use --first N, --seeds N, --minutes N, --jobs N, --seconds N (simulated, of a run), \
                     --pace MS (between two steps), --seed N [--transcript], or --planted"
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
    let is_well = if arguments.planted {
        find_planted(&arguments)
    } else if let Some(seed) = arguments.seed {
        one(seed, &arguments)
    } else {
        many(&arguments)
    };
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, arguments: &Arguments) -> bool {
    match simulate(seed, arguments.settings) {
        Ok(counts) => {
            if arguments.transcript {
                let plan = Plan::generate(seed, arguments.settings);
                let all = Failure { plan, what: String::new() }.transcript();
                all.iter().for_each(|line| println!("{line}"));
            }
            println!("{counts}");
            true
        }
        Err(failure) => {
            println!("{}", failure.shrink());
            false
        }
    }
}

fn many(arguments: &Arguments) -> bool {
    let begun = Instant::now();
    let next = AtomicU64::new(arguments.first);
    let unless_given = if arguments.minutes.is_some() { u64::MAX / 2 } else { 1_000 };
    let last = arguments.first + arguments.seeds.unwrap_or(unless_given);
    let ends = arguments.minutes.map(|minutes| begun + Duration::from_secs(60 * minutes));
    let total = Mutex::new(Counts::default());
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
                    match simulate(seed, arguments.settings) {
                        Ok(counts) => {
                            let mut total = total.lock().expect("no one panics with it");
                            *total += &counts;
                            if total.runs.is_multiple_of(50_000) {
                                println!(
                                    "after {:.0?}, {}",
                                    begun.elapsed(),
                                    total.to_string().lines().next().unwrap_or("")
                                );
                            }
                        }
                        Err(failure) => {
                            if !failed.swap(true, Ordering::Relaxed) {
                                println!("seed {seed} fails after {:.1?}: {}", begun.elapsed(), failure.what);
                                println!("{}", failure.shrink());
                            }
                        }
                    }
                }
            });
        }
    });
    let total = total.into_inner().expect("no one panicked with it");
    let seconds = begun.elapsed().as_secs_f64();
    println!("{total}");
    println!(
        "{:.0} s on {} threads: {:.0} watch-seconds a second on each",
        seconds,
        arguments.jobs,
        total.watch_time.as_secs_f64() / seconds / arguments.jobs as f64
    );
    !failed.into_inner()
}

/// The first seed by which each planted bug is found.
fn find_planted(arguments: &Arguments) -> bool {
    let mut all_found = true;
    for planted in Planted::ALL {
        let failure =
            (arguments.first..arguments.first + arguments.seeds.unwrap_or(1_000)).find_map(|seed| {
                let plan = Plan { planted: Some(planted), ..Plan::generate(seed, arguments.settings) };
                run(&plan).err()
            });
        match failure {
            Some(failure) => {
                let seeds = failure.plan.seed - arguments.first + 1;
                let smallest = failure.shrink();
                println!(
                    "{planted:?}: found with seed {seeds} of these, {} steps: {}",
                    smallest.plan.steps.len(),
                    smallest.what
                );
                if arguments.transcript {
                    println!("{smallest}");
                }
            }
            None => {
                println!("{planted:?}: NOT FOUND");
                all_found = false;
            }
        }
    }
    all_found
}
