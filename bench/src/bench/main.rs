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
mod pinned;
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
    /// Few short rounds: two minutes, and figures that differ more from run to run.
    #[arg(long)]
    quick: bool,
    /// Rounds of each workload. [default: 5; 3 if quick]
    #[arg(long)]
    rounds: Option<usize>,
    /// Run only these parts.
    #[arg(long, value_enum)]
    part: Vec<Part>,
    /// Only workloads of events whose name contains this text.
    #[arg(long)]
    workload: Option<String>,
    /// Write what was measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the tables into docs/performance.md.
    #[arg(long)]
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

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 3 } else { 5 });
    ensure!(rounds > 0, "at least one round is needed");
    let effort = Effort { rounds, is_quick: arguments.quick };
    let programs = Programs::find(arguments.interop, arguments.etcd_client, arguments.scrape)?;
    let mut results = Results::default();
    for part in Part::value_variants() {
        if !arguments.part.is_empty() && !arguments.part.contains(part) {
            continue;
        }
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
