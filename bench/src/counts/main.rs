//! Counts the instructions and allocations of the core's hot paths: `cargo run --release -p etcd-watch-bench --bin counts`.
//!
//! The program runs itself under valgrind's callgrind, once for each workload and size. Instruction counts hardly
//! differ from run to run and don't depend on what else the computer does, so a change of one per cent shows.
//! They do differ between compilers and C libraries (the allocator's instructions are counted too).

// A command line speaks to its user on standard output.
#![allow(clippy::print_stdout)]

mod callgrind;
mod decode;
mod machine;
mod report;
mod server;
mod workload;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::{
    report::Counted,
    workload::{Case, NOTHING, cases},
};

/// Counts the instructions of the core's hot paths, under valgrind.
#[derive(Parser)]
#[command(name = "counts")]
struct Arguments {
    /// Only the workloads whose names contain one of these words.
    words: Vec<String>,
    /// Print the workloads' names and count nothing.
    #[arg(long)]
    list: bool,
    /// Fail if a count is above its ceiling, or grows too much with the size of the machine.
    #[arg(long)]
    check: bool,
    /// Print the counts as tables in Markdown.
    #[arg(long)]
    markdown: bool,
    /// Run one workload, without valgrind. The program calls itself with this.
    #[arg(long, hide = true, value_name = "NAME")]
    run: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(name) = arguments.run {
        let named = cases().chain([NOTHING]).find(|case| case.to_string() == name);
        named.with_context(|| format!("no workload is named {name}; --list prints their names"))?.run();
        return Ok(());
    }
    let is_wanted = |case: &Case| {
        let name = case.to_string();
        arguments.words.is_empty() || arguments.words.iter().any(|word| name.contains(&**word))
    };
    let wanted: Vec<Case> = cases().filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "no workload's name contains these words; --list prints their names");
    if arguments.list {
        wanted.iter().for_each(|case| println!("{case}"));
        return Ok(());
    }
    ensure!(!cfg!(debug_assertions), "counts of a debug build mean nothing: run with --release");
    let overhead = callgrind::count(NOTHING)?;
    let mut counted = Vec::new();
    for case in wanted {
        let counts = Counted::new(case, callgrind::count(case)?, overhead);
        if !arguments.markdown {
            print!("{counts}");
        }
        counted.push(counts);
    }
    if arguments.markdown {
        print!("{}", report::markdown(&counted));
    }
    if arguments.check {
        report::check(&counted)?;
    }
    Ok(())
}
