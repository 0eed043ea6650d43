//! Lists of large ranges from a real etcd: `cargo run --release -p etcd-watch-bench --bin lists -- --version 3.7.3`.
//!
//! It fills an etcd of its own with two ranges, one ten times as large as the other, and lists each by a mirror and by a
//! cache: how long it takes, and the most memory that the process has. Each list is made by a process of its own. With
//! `--interop`, the program of `cargo xtask go`, it is compared with one unpaged `Get` of etcd's Go client.
//!
//! Times depend on the computer and on what else it does, so what counts are the ratios within one run; processor time
//! depends less on what else there is.

// A command line speaks to its user on standard output.
#![allow(clippy::print_stdout)]

mod cpu;
mod etcd;
mod measure;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion, binaries::Version};
use tokio::runtime::Runtime;

use measure::{How, Measured};

/// Measures lists of large ranges.
#[derive(Parser)]
#[command(name = "lists")]
struct Arguments {
    /// The version of etcd to run: one that `cargo xtask etcd` provides, or ETCD_BIN names.
    #[arg(long, required_unless_present = "child")]
    version: Option<Version>,
    /// The program around etcd's Go client, to compare with.
    #[arg(long)]
    interop: Option<PathBuf>,
    /// How many keys the large range has; the small one has a tenth of them.
    #[arg(long, default_value_t = 1_000_000)]
    keys: usize,
    /// The size of a value, in bytes.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// How often each list is made; the least of each figure counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Lists this way, and says what it took: what the processes are told that this one starts.
    #[arg(long, hide = true, requires = "endpoint", requires = "prefix")]
    child: Option<How>,
    #[arg(long, hide = true)]
    endpoint: Option<String>,
    #[arg(long, hide = true)]
    prefix: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let (Some(how), Some(endpoint), Some(prefix)) =
        (arguments.child, &arguments.endpoint, &arguments.prefix)
    {
        println!("{}", runtime.block_on(how.list(endpoint, prefix))?);
        return Ok(());
    }
    let version = arguments.version.context("--version is missing: which etcd is to be run?")?;
    compare(&runtime, version, &arguments)
}

/// What lists a range.
#[derive(Clone, Copy)]
enum Way<'a> {
    Ours(How),
    Go(&'a Path),
}

impl Way<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Ours(How::Mirror) => "mirror",
            Self::Ours(How::Cache) => "cache",
            Self::Go(_) => "clientv3, one Get",
        }
    }

    fn measure(self, server: &EtcdServer, prefix: &str) -> Result<Measured> {
        let before = etcd::cpu_of(server)?;
        let measured = match self {
            Self::Ours(how) => Measured::by_child(how, &server.endpoint(), prefix)?,
            Self::Go(interop) => Measured::by_go(interop, &server.endpoint(), prefix)?,
        };
        Ok(Measured { server_cpu: etcd::cpu_of(server)? - before, ..measured })
    }
}

fn compare(runtime: &Runtime, version: Version, arguments: &Arguments) -> Result<()> {
    let server = etcd::start(EtcdVersion::Exact(version))?;
    let ranges = [("large/", arguments.keys), ("small/", arguments.keys / 10)];
    for (prefix, keys) in ranges {
        runtime.block_on(etcd::fill(&server.endpoint(), prefix, keys, arguments.value_bytes))?;
    }
    println!("etcd {version}: {} keys of {} B", arguments.keys, arguments.value_bytes);
    println!(
        "| | {} keys | {} keys | ratio | CPU of the client | of the server | memory |",
        ranges[0].1, ranges[1].1
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    let go = arguments.interop.as_deref().map(Way::Go);
    for way in go.into_iter().chain([How::Mirror, How::Cache].map(Way::Ours)) {
        let best = |prefix: &str, keys: usize| -> Result<Measured> {
            let mut best: Option<Measured> = None;
            for _ in 0..arguments.runs.max(1) {
                let measured = way.measure(&server, prefix)?;
                ensure!(measured.keys == keys, "{} keys were listed of {keys}", measured.keys);
                best = Some(best.map_or(measured, |best| best.least(measured)));
            }
            Ok(best.unwrap_or_default())
        };
        let [large, small] = [best(ranges[0].0, ranges[0].1)?, best(ranges[1].0, ranges[1].1)?];
        println!(
            "| {} | {:.2} s | {:.3} s | {:.1} | {:.2} s | {:.2} s | {} MiB |",
            way.name(),
            large.seconds,
            small.seconds,
            large.seconds / small.seconds,
            large.client_cpu,
            large.server_cpu,
            large.peak_kib >> 10,
        );
    }
    Ok(())
}
