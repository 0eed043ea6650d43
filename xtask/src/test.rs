//! `cargo xtask test`: every test of the workspace.

use std::thread;

use anyhow::Result;

use crate::{
    etcd, go,
    needs::{Needs, packages},
    nextest::Nextest,
    run::{cargo, run},
};

/// Which servers are tested by what has tests for every one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Servers {
    /// A choice, for every change.
    Some,
    /// Every line, by clients on every runtime: nightly.
    All,
}

impl Servers {
    pub(crate) fn of(all: bool) -> Self {
        if all { Self::All } else { Self::Some }
    }
}

/// The tests of `--quick`: arguments of nextest for each of its runs. They need no etcd, no Go and no network.
const QUICK: [&[&str]; 2] = [
    &[
        "--package=etcd-watch-proto",
        "--package=etcd-watch-core",
        "--package=etcd-watch-client",
        "--package=xtask",
    ],
    // The machine against the model etcd: every interleaving of small worlds, a slice of the simulator, the corpus of the
    // fuzzers; the whole client in virtual time; and the conformance suite and calls on the model, with clients on every
    // runtime.
    &[
        "--package=etcd-watch-testkit",
        "--lib",
        "--test=conformance",
        "--test=exhaustive",
        "--test=fuzz_corpus",
        "--test=lawful",
        "--test=linearizable",
        "--test=simulation",
        "--test=whole_client",
        "--ignore-default-filter",
        "--filterset",
        "(kind(lib) & not test(/::real_servers::|::command_line::/)) \
         | (kind(test) & not binary(/^(conformance|linearizable)$/)) | test(/::model::/) \
         | (binary(linearizable) & test(/^(model|planted)::/))",
    ],
];

/// Runs the tests that need no etcd, no Go and, where cargo-nextest is there, no network.
pub(crate) fn run_quick() -> Result<()> {
    let nextest = Nextest::provide()?;
    for arguments in QUICK {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        run_with(&nextest, Servers::Some, &arguments)?;
    }
    println!("these were the quick tests alone: `cargo xtask test` runs all");
    Ok(())
}

/// Provides what the chosen tests need and is missing (nextest, the servers and the Go client), then runs all tests and
/// doctests; `arguments` go to nextest.
pub(crate) fn run_tests(servers: Servers, arguments: &[String]) -> Result<()> {
    let nextest = Nextest::provide()?;
    fetch(Needs::of(arguments))?;
    run_with(&nextest, servers, arguments)?;
    if arguments.is_empty() {
        run_doctests()
    } else {
        println!("doctests were not run: the arguments given are nextest's (`cargo test --doc --workspace`)");
        Ok(())
    }
}

/// Fetches what is needed and missing.
pub(crate) fn fetch(needs: Needs) -> Result<()> {
    if needs.servers {
        etcd::run(&[])?;
    }
    if needs.go {
        go::run()?;
    }
    Ok(())
}

/// Runs the tests that `arguments` of nextest choose; all of them, if there are none.
pub(crate) fn run_with(nextest: &Nextest, servers: Servers, arguments: &[String]) -> Result<()> {
    // With `--workspace` a choice of packages would have no effect.
    let all: &[&str] = if packages(arguments).is_empty() { &["--workspace"] } else { &[] };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut command = nextest.command();
    command.env("NEXTEST_PROFILE", "xtask").env("NEXTEST_TEST_THREADS", (4 * cores).to_string());
    if servers == Servers::All {
        command.env("ETCD_WATCH_SERVERS", "all").arg("--ignore-default-filter");
    }
    // Arguments go before both.
    run(command.args(all).args(arguments))
}

/// Runs all doctests, which nextest doesn't.
pub(crate) fn run_doctests() -> Result<()> {
    run(&mut cargo(&["test", "--doc", "--workspace"]))
}
