//! Many consumers of one client on all processors: `cargo build --release -p etcd-watch-bench` builds `consumers` and the
//! server `replay`, which it starts beside itself.
//!
//! One watch is taken by one task, many watches by one task, and many by a task each, in turns. A table tells what an
//! event takes. Built with `RUSTFLAGS="--cfg etcd_watch_lock_times"` the program tells how long the lock between the
//! driver and the consumers was held, too; the table means nothing then, since measuring takes longer than most of what it
//! measures.

// A command line speaks to its user on standard output.
#![allow(clippy::print_stdout)]

#[cfg(etcd_watch_lock_times)]
mod held;
mod server;
mod take;

use anyhow::Result;
use clap::Parser;
use etcd_watch_bench::median;

use crate::take::{Taken, take};

/// Takes from many watches with one consumer, and with one for each.
#[derive(Parser)]
#[command(name = "consumers")]
struct Arguments {
    /// How many watches there are.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    watches: u32,
    /// How many frames are taken in each run, at least.
    #[arg(long, default_value_t = 500_000)]
    frames: u64,
    /// How often each is run; the medians count.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// What is taken, and by how many.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    events_per_frame: u32,
    watches: u32,
    consumers: u32,
}

fn main() -> Result<()> {
    let Arguments { watches, frames, rounds } = Arguments::parse();
    #[cfg(etcd_watch_lock_times)]
    held::measure();
    let scenarios = [1, 100].into_iter().flat_map(|events_per_frame| {
        let of = move |(watches, consumers)| Scenario { events_per_frame, watches, consumers };
        [(1, 1), (watches, 1), (watches, watches)].map(of)
    });
    let scenarios: Vec<Scenario> = scenarios.collect();
    let mut runs = vec![Vec::new(); scenarios.len()];
    for _ in 0..rounds {
        for (scenario, runs) in scenarios.iter().zip(&mut runs) {
            #[cfg(etcd_watch_lock_times)]
            {
                // The end of the run before is not part of this one.
                held::times();
                println!("{scenario:?}");
            }
            runs.push(take(*scenario, frames)?);
        }
    }
    println!("| events a frame | watches | consumers | CPU of an event | events/s |\n|--:|--:|--:|--:|--:|");
    for (scenario, runs) in scenarios.iter().zip(&runs) {
        row(*scenario, runs);
    }
    Ok(())
}

fn row(scenario: Scenario, runs: &[Taken]) {
    let Scenario { events_per_frame, watches, consumers } = scenario;
    let nanos = median(runs.iter().map(|run| run.cpu.as_secs_f64() / run.events as f64 * 1e9));
    let speed = median(runs.iter().map(|run| run.events as f64 / run.wall.as_secs_f64()));
    println!("| {events_per_frame} | {watches} | {consumers} | {nanos:.0} ns | {speed:.0} |");
}
