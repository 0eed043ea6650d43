//! How fast watches are, beside other clients: `cargo xtask bench` builds all programs and runs this.
//!
//! Every run is a process of its own, with the server on one processor and the client on another. Programs take turns,
//! so that whatever else the computer does hits all of them, and each is compared with tonic and prost by hand in the
//! same round. The median of the rounds' ratios counts.

// A command line speaks to its user on standard output.
#![allow(clippy::print_stdout)]

mod budgets;
mod events;
mod idle;
mod latency;
mod opening;
mod plot;
mod programs;
mod results;
mod stuck;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use etcd_watch_testkit::harness::binaries::Version;

use crate::{programs::Programs, results::Results};

/// Measures watches beside other clients.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    /// Few short rounds: three minutes, and figures that differ more from run to run.
    #[arg(long)]
    quick: bool,
    /// Rounds of each workload. [default: 5; 3 if quick]
    #[arg(long)]
    rounds: Option<usize>,
    /// Run only these parts.
    #[arg(long, value_enum)]
    part: Vec<Part>,
    /// Only events, and of those only workloads whose name contains this text.
    #[arg(long, conflicts_with = "part")]
    workload: Option<String>,
    /// Write what was measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the tables of a whole run into docs/performance.md.
    #[arg(long, conflicts_with_all = ["part", "workload"])]
    markdown: bool,
    /// The program around etcd's Go client.
    #[arg(long)]
    interop: Option<PathBuf>,
    /// The program around the crate etcd-client.
    #[arg(long)]
    etcd_client: Option<PathBuf>,
    /// The program that scrapes metrics.
    #[arg(long)]
    scrape: Option<PathBuf>,
    /// The etcd for what needs a real one: one that `cargo xtask etcd` provides, or ETCD_BIN names.
    #[arg(long, default_value = "3.5.30")]
    etcd: Version,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Processor time of events, by their size, their number in a response and the number of watches.
    Events,
    /// The time until 10,000 watches are created, and until they have resumed.
    Opening,
    /// A consumer that takes nothing, among others.
    Stuck,
    /// The time from sending an event to taking it.
    Latency,
    /// The memory of watches that nothing happens to, and the time of their statistics.
    Idle,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Effort {
    rounds: usize,
    is_quick: bool,
}

impl Effort {
    /// The order in which so many programs take their turns, for each round. In every other round it is reversed, so that
    /// none always comes behind the same one.
    fn turns(self, count: usize) -> impl Iterator<Item = Vec<usize>> {
        (0..self.rounds).map(move |round| {
            let mut turns: Vec<usize> = (0..count).collect();
            turns.rotate_left(round % count.max(1));
            if !round.is_multiple_of(2) {
                turns.reverse();
            }
            turns
        })
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 3 } else { 5 });
    ensure!(rounds > 0, "at least one round is needed");
    let effort = Effort { rounds, is_quick: arguments.quick };
    let programs = Programs::find(arguments.interop, arguments.etcd_client, arguments.scrape)?;
    let mut results = Results::default();
    let parts = match (&arguments.workload, &arguments.part[..]) {
        (Some(_), _) => &[Part::Events],
        (None, []) => Part::value_variants(),
        (None, parts) => parts,
    };
    for part in parts {
        match part {
            Part::Events => events::measure(&programs, effort, arguments.workload.as_deref(), &mut results)?,
            Part::Opening => opening::measure(&programs, effort, arguments.etcd, &mut results)?,
            Part::Stuck => stuck::measure(&programs, effort, &mut results)?,
            Part::Latency => latency::measure(&programs, effort, &mut results)?,
            Part::Idle => idle::measure(&programs, &mut results)?,
        }
    }
    let is_whole = arguments.part.is_empty() && arguments.workload.is_none();
    results.add(budgets::table(&results, is_whole));
    if let Some(file) = arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&results)?)?;
    }
    if arguments.markdown {
        results.write_markdown()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_program_always_comes_behind_the_same_one() {
        let effort = Effort { rounds: 4, is_quick: true };
        let turns: Vec<_> = effort.turns(3).collect();
        assert_eq!(turns, [[0, 1, 2], [0, 2, 1], [2, 0, 1], [2, 1, 0]]);
        assert_eq!(effort.turns(0).count(), 4);
    }
}
