//! The project's own chores, in Rust: `cargo xtask --help` lists them.

// A command line speaks to its user on standard output.
#![allow(clippy::print_stdout)]

mod bench;
mod ci;
mod circles;
mod codegen;
mod counted;
mod counts;
mod etcd;
mod fuzz;
mod go;
mod mutants;
mod needs;
mod nextest;
mod public_api;
mod run;
mod simulate;
mod soak;
mod test;
mod tool;

use clap::{Parser, Subcommand};
use etcd_watch_binaries::Version;

use crate::test::Servers;

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Provide what tests need (cargo-nextest, real etcd servers, etcd's Go client), and run the tests of the workspace.
    ///
    /// What has tests for every etcd runs them on some: see `--all-servers`.
    ///
    /// With `-p PACKAGE`, only the tests of that package are run, and only what they need is fetched: `-p etcd-watch-core`
    /// needs no server, and only `etcd-watch-testkit` has tests with the Go client.
    Test {
        /// Run everything on every line of etcd, and with clients on every runtime: the nightly run, which takes hours.
        ///
        /// Otherwise clients on tokio go through the conformance suite on every line, those on smol and async-std on some,
        /// and other tests with a server of every kind run on 3.5 and 3.7, and on what ETCD_BIN names; clusters on 3.7.
        /// This sets ETCD_WATCH_SERVERS=all, and runs what .config/nextest.toml leaves out.
        #[arg(long)]
        all_servers: bool,
        /// Run only tests that need no etcd, no Go and no network: those of the core and the client, the simulator, and the
        /// conformance suite on the model etcd. Takes minutes.
        #[arg(long, conflicts_with_all = ["all_servers", "arguments"])]
        quick: bool,
        /// Arguments for `cargo nextest run`, such as a filter.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Provide the real etcd servers that tests need, and print which there are.
    ///
    /// Servers of etcd 3.4, 3.5, 3.6 and 3.7 are needed. The first two are fetched from Debian's archive; the others are
    /// built with Go from etcd's modules, which takes minutes the first time. ETCD_WATCH_GO, the path of a `go` or its
    /// name on PATH (1.21 or newer), takes the place of the Go on PATH, or of the one that is fetched if there is none.
    ///
    /// ETCD_BIN, the path of an `etcd` (or several, separated like PATH), takes the place of its own line's, or comes in
    /// addition if it is of another line.
    Etcd {
        /// Fetch this very version too; 3.5.1 can be had.
        #[arg(long, value_name = "VERSION")]
        with: Vec<Version>,
    },
    /// Build the program with etcd's Go client that tests run.
    ///
    /// ETCD_WATCH_GO, the path of a `go` or its name on PATH (1.21 or newer), takes the place of the Go on PATH, or of
    /// the one that is fetched if there is none. Modules come from where `go env GOPROXY` says.
    Go,
    /// Run the fuzz targets, or one of them, with cargo-fuzz on a nightly compiler.
    Fuzz {
        /// The target; all of them, one after the other, if left out.
        target: Option<String>,
        /// How long to run each.
        #[arg(long, default_value_t = 5)]
        minutes: u64,
    },
    /// Change the core in more than two thousand ways, one at a time, and see which changes its tests don't find.
    ///
    /// Takes hours; `-- --file core/src/wire/decode.rs` or `-- --shard 0/8` takes less.
    Mutants {
        /// Arguments for cargo-mutants.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Generate the Rust code of the wire messages from the .proto files.
    Codegen {
        /// Change nothing; fail if the code is out of date.
        #[arg(long)]
        check: bool,
    },
    /// Count the instructions and allocations of the core's hot paths under valgrind, print the tables of
    /// docs/performance.md, and fail if a count is above its limit.
    Counts {
        /// Arguments for gungraun, such as a filter: `'*decode*'`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure how fast watches are beside tonic and prost by hand, the crate etcd-client and etcd's Go client.
    ///
    /// Needs two processors with nothing else on them. `--quick` takes two minutes; `-- --help` lists the other arguments.
    Bench {
        /// Only programs of this workspace: without Go, and without the crate etcd-client, which is fetched from crates.io.
        #[arg(long)]
        no_peers: bool,
        /// Arguments for the program `bench`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Write down what the crates offer to other programs, in docs/public-api, with cargo-public-api on a nightly compiler.
    PublicApi {
        /// Change nothing; fail if a file is out of date.
        #[arg(long)]
        check: bool,
    },
    /// Simulate clusters and clients in virtual time, with everything that can go wrong, and check every promise.
    ///
    /// For example `--minutes 10 --jobs 2`, `--seed 42 --transcript`, or `--planted` for bugs planted on purpose.
    Simulate {
        /// Arguments for the simulator; `-- --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Simulate services with the whole client in them in virtual time, with everything that can go wrong, and check every
    /// promise.
    ///
    /// For example `--minutes 10 --jobs 2`, `--first 42 --seeds 1 --only queue`, or `--planted 100` for bugs planted on
    /// purpose.
    SimulateClient {
        /// Arguments for the simulator; `-- --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Break a real cluster of three for as long as you like, and check everything that clients are delivered.
    ///
    /// `cargo xtask soak --minutes 60 --version 3.5.30 --svg soak.svg`; `--help` after `--` tells all of it.
    Soak {
        /// Arguments of the soak.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Everything that has to hold before a change goes in.
    ///
    /// These are the format, prints in libraries, circles of files, the generated code, lints, also by features, docs, the
    /// core without std, the counts of instructions and allocations where valgrind is installed, the tests, with all that
    /// they need, and the doctests.
    Ci,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().chore {
        Chore::Test { quick: true, .. } => test::run_quick(),
        Chore::Test { all_servers, arguments, .. } => test::run_tests(Servers::of(all_servers), &arguments),
        Chore::Etcd { with } => etcd::run(&with),
        Chore::Go => go::run(),
        Chore::Fuzz { target, minutes } => fuzz::run_targets(target.as_deref(), minutes),
        Chore::Mutants { arguments } => mutants::run_mutants(&arguments),
        Chore::Codegen { check } => codegen::run(check),
        Chore::Counts { arguments } => counts::count(&arguments),
        Chore::Bench { no_peers, arguments } => bench::measure(!no_peers, &arguments),
        Chore::PublicApi { check } => public_api::run(check),
        Chore::Simulate { arguments } => simulate::simulate_machines(&arguments),
        Chore::SimulateClient { arguments } => simulate::simulate_client(&arguments),
        Chore::Soak { arguments } => soak::soak(&arguments),
        Chore::Ci => ci::run_all(),
    }
}
