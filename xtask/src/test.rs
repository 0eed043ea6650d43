//! `cargo xtask test`: every test of the workspace.

use std::thread;

use anyhow::Result;

use crate::{
    etcd, go,
    run::{cargo, run, succeeds},
};

/// Fetches the servers and the Go client that are missing, then runs all tests and doctests; `arguments` go to the
/// test runner.
pub(crate) fn run_tests(arguments: &[String]) -> Result<()> {
    etcd::run(&[])?;
    go::run()?;
    let all: &[&str] = if names_packages(arguments) { &[] } else { &["--workspace"] };
    if !succeeds(&mut cargo(&["nextest", "--version"])) {
        return run(cargo(&["test"]).args(all).args(arguments));
    }
    // Arguments go before both.
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut nextest = cargo(&["nextest", "run"]);
    nextest.env("NEXTEST_PROFILE", "xtask").env("NEXTEST_TEST_THREADS", (2 * cores).to_string());
    run(nextest.args(all).args(arguments))?;
    if arguments.is_empty() {
        run(&mut cargo(&["test", "--doc", "--workspace"]))
    } else {
        println!("doctests were not run: the arguments given are nextest's (`cargo test --doc --workspace`)");
        Ok(())
    }
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
