//! `cargo xtask test`: every test of the workspace.

use std::thread;

use anyhow::Result;

use crate::{
    etcd, go,
    nextest::Nextest,
    run::{cargo, run},
};

/// Provides what tests need and is missing (nextest, the servers and the Go client), then runs all tests and doctests;
/// `arguments` go to nextest.
pub(crate) fn run_tests(arguments: &[String]) -> Result<()> {
    let nextest = Nextest::provide()?;
    fetch()?;
    run_with(&nextest, arguments)?;
    if arguments.is_empty() {
        run_doctests()
    } else {
        println!("doctests were not run: the arguments given are nextest's (`cargo test --doc --workspace`)");
        Ok(())
    }
}

/// Fetches the servers and the Go client that are missing.
pub(crate) fn fetch() -> Result<()> {
    etcd::run(&[])?;
    go::run()
}

/// Runs the tests that `arguments` of nextest choose; all of them, if there are none.
pub(crate) fn run_with(nextest: &Nextest, arguments: &[String]) -> Result<()> {
    let all: &[&str] = if names_packages(arguments) { &[] } else { &["--workspace"] };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut command = nextest.command();
    command.env("NEXTEST_PROFILE", "xtask").env("NEXTEST_TEST_THREADS", (2 * cores).to_string());
    // Arguments go before both.
    run(command.args(all).args(arguments))
}

/// Runs all doctests, which nextest doesn't.
pub(crate) fn run_doctests() -> Result<()> {
    run(&mut cargo(&["test", "--doc", "--workspace"]))
}

/// Whether the arguments choose among the packages; with `--workspace` the choice would have no effect.
fn names_packages(arguments: &[String]) -> bool {
    let cargos = arguments.iter().take_while(|argument| *argument != "--");
    cargos.into_iter().any(|argument| {
        let is_short = argument.starts_with("-p") && !argument.starts_with("--");
        is_short || argument == "--package" || argument.starts_with("--package=")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_recognized_among_the_arguments_for_cargo_only() {
        let names = |line: &str| names_packages(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for line in ["-p core", "-pcore", "--package core", "--release --package=core"] {
            assert!(names(line), "{line}");
        }
        for line in ["", "some_test", "--profile ci", "--package-set", "-- -p"] {
            assert!(!names(line), "{line}");
        }
    }
}
