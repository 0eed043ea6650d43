//! Simulates until it is told to stop, or a promise is broken:
//!
//! ```sh
//! cargo xtask simulate --seeds 10000
//! cargo xtask simulate --minutes 10 --jobs 2
//! cargo xtask simulate --seed 42 --transcript
//! cargo xtask simulate --planted
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is what the program is for")]

mod seeds;

use std::num::NonZeroU64;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use etcd_watch_testkit::machines::{Counts, Failure, Plan, Planted, Settings, run, simulate};

use seeds::Seeds;

/// Simulates clusters and clients in virtual time until a promise is broken.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    seeds: Seeds,
    /// How long a run lasts, in seconds of virtual time.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// The mean time between two steps, in milliseconds.
    #[arg(long, value_name = "MS")]
    pace: Option<NonZeroU64>,
    /// Only this seed.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["first", "seeds", "minutes", "jobs", "planted"])]
    seed: Option<u64>,
    /// Print what happens, step by step.
    #[arg(long)]
    transcript: bool,
    /// Say by which seed each planted bug is found, and by how few steps.
    #[arg(long, conflicts_with_all = ["minutes", "jobs"])]
    planted: bool,
}

impl Arguments {
    fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        if let Some(seconds) = self.seconds {
            settings.duration = Duration::from_secs(seconds);
        }
        if let Some(pace) = self.pace {
            settings.pace = Duration::from_millis(pace.get());
        }
        settings
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
    match simulate(seed, arguments.settings()) {
        Ok(counts) => {
            if arguments.transcript {
                let plan = Plan::generate(seed, arguments.settings());
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
    let (begun, settings, mut total) = (Instant::now(), arguments.settings(), Counts::default());
    let result = arguments.seeds.run(|seed| simulate(seed, settings), |counts| total += &counts);
    let is_well = result.is_ok();
    if let Err((seed, failure)) = result {
        println!("seed {seed} fails after {:.1?}: {}", begun.elapsed(), failure.what);
        println!("{}", failure.shrink());
    }
    let (seconds, jobs) = (begun.elapsed().as_secs_f64(), arguments.seeds.jobs);
    println!("{total}");
    println!(
        "{seconds:.0} s on {jobs} threads: {:.0} watch-seconds a second on each",
        total.watch_time.as_secs_f64() / seconds / jobs.get() as f64
    );
    is_well
}

/// The first seed by which each planted bug is found.
fn find_planted(arguments: &Arguments) -> bool {
    let mut all_found = true;
    let (first, settings) = (arguments.seeds.first, arguments.settings());
    for planted in Planted::ALL {
        let failure = arguments.seeds.range().find_map(|seed| {
            let plan = Plan { planted: Some(planted), ..Plan::generate(seed, settings) };
            run(&plan).err()
        });
        match failure {
            Some(failure) => {
                let seeds = failure.plan.seed - first + 1;
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
