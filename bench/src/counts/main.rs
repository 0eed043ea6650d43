//! Counts the instructions of the core's hot paths: `cargo run --release -p etcd-watch-bench --bin counts`.
//!
//! The program runs itself under valgrind's callgrind, once for each workload. Instruction counts hardly
//! differ from run to run and don't depend on what else the machine does, so a change of one per cent shows.
//! They do differ between compilers and C libraries (the allocator's instructions are counted too).

// A command line speaks to its user on standard output.
#![allow(clippy::print_stdout)]

mod callgrind;
mod decode;
mod workload;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::workload::{CALLS, NOTHING, Workload, workloads};

/// Counts the instructions of the core's hot paths, under valgrind.
#[derive(Parser)]
#[command(name = "counts")]
struct Arguments {
    /// Only the workloads whose names contain one of these words.
    words: Vec<String>,
    /// Print the workloads' names and count nothing.
    #[arg(long)]
    list: bool,
    /// Run one workload, without valgrind. The program calls itself with this.
    #[arg(long, hide = true, value_name = "NAME")]
    run: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(name) = arguments.run {
        let named = workloads().chain([&NOTHING]).find(|workload| workload.name == name);
        named.with_context(|| format!("no workload is named {name}; --list prints their names"))?.run();
        return Ok(());
    }
    let is_wanted = |workload: &&Workload| {
        arguments.words.is_empty() || arguments.words.iter().any(|word| workload.name.contains(&**word))
    };
    let wanted: Vec<_> = workloads().filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "no workload's name contains these words; --list prints their names");
    if arguments.list {
        wanted.iter().for_each(|workload| println!("{}", workload.name));
        return Ok(());
    }
    ensure!(!cfg!(debug_assertions), "counts of a debug build mean nothing: run with --release");
    let overhead = callgrind::count(NOTHING.name)?;
    println!("{:<48} {:>12}", "workload", "instructions");
    for workload in wanted {
        let all = callgrind::count(workload.name)?.saturating_sub(overhead);
        for &(unit, units) in workload.units {
            let each = all as f64 / f64::from(CALLS) / f64::from(units);
            println!("{:<48} {each:>12.1} per {unit}", workload.name);
        }
    }
    Ok(())
}
