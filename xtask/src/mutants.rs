//! `cargo xtask mutants`: changes of `core` that its tests should find, by cargo-mutants.
//!
//! It takes two rounds. The first builds and runs the quick tests only, which find nearly every change within a second.
//! The second runs all tests on the few changes that the first has missed.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use etcd_watch_binaries::target_dir;

use crate::run::{cargo, succeeds};

/// The tests of the first round. They have to be chosen for the build as well as for the run, which
/// `--cargo-test-arg` does not do.
const QUICK: &[&str] = &["--lib", "--test=transitions", "--test=mirror"];

/// The tests of the second round: all but those in the documentation.
const ALL: &[&str] = &["--tests"];

/// How long the quick tests may take, in seconds, before the change counts as one that loops.
const QUICK_TIMEOUT: &str = "30";

/// The same for all tests, of which some work for seconds.
const TIMEOUT: &str = "120";

/// What speeds up a thousand test runs: few random cases, and no search for the smallest one that fails.
const ENVIRONMENT: [(&str, &str); 3] =
    [("PROPTEST_CASES", "20"), ("PROPTEST_MAX_SHRINK_ITERS", "0"), ("RUST_BACKTRACE", "0")];

/// The libraries that tests use are built once and run a thousand times.
const OPTIMISED: &str = "--config=profile.mutants.package.\"*\".opt-level=2";

/// What cargo-mutants ends with when it has tried all changes: all were found, some were missed, some ran out of time.
const COMPLETE: [i32; 3] = [0, 2, 3];

/// The same where no change was missed. One that runs out of time is found.
const ALL_FOUND: [i32; 2] = [0, 3];

/// Tries every change in the core, or those that `arguments` of cargo-mutants choose. The changes that no test has
/// found are listed in `target/mutants.out/missed.txt`, the outcomes of all in `target/mutants-quick/mutants.out`.
///
/// # Errors
/// If cargo-mutants is missing, the tests fail on the code as it is, or a change was not found.
pub(crate) fn run_mutants(arguments: &[String]) -> Result<()> {
    ensure!(
        succeeds(&mut cargo(&["mutants", "--version"])),
        "cargo-mutants is not installed: `cargo install cargo-mutants`"
    );
    let quick = target_dir().join("mutants-quick");
    fs::create_dir_all(&quick).with_context(|| format!("can't make {}", quick.display()))?;
    let mut first = cargo_mutants(&quick, QUICK, QUICK_TIMEOUT);
    ends_with(first.args(arguments), &COMPLETE)?;
    let missed = quick.join("mutants.out/missed.txt");
    let missed = fs::read_to_string(&missed).with_context(|| format!("can't read {}", missed.display()))?;
    if missed.is_empty() {
        return Ok(());
    }
    let mut second = cargo_mutants(&target_dir(), ALL, TIMEOUT);
    for change in missed.lines() {
        second.arg(format!("--re=^{}$", escaped(change)));
    }
    ends_with(&mut second, &ALL_FOUND)
}

/// cargo-mutants for the core, with these tests.
fn cargo_mutants(output: &Path, tests: &[&str], timeout: &str) -> Command {
    let mut command = cargo(&["mutants", "--package", "etcd-watch-core", "--profile", "mutants"]);
    command.args(["--timeout", timeout, "--output"]).arg(output).envs(ENVIRONMENT);
    for argument in tests.iter().chain([&OPTIMISED]) {
        command.arg(format!("--cargo-arg={argument}"));
    }
    command
}

/// Runs a command that must end with one of these codes.
fn ends_with(command: &mut Command, codes: &[i32]) -> Result<()> {
    let status = command.status().context("can't run cargo-mutants")?;
    ensure!(status.code().is_some_and(|code| codes.contains(&code)), "cargo-mutants: {status}");
    Ok(())
}

/// A regular expression for this text alone.
fn escaped(text: &str) -> String {
    let is_special = |c: char| "\\.+*?()|[]{}^$".contains(c);
    text.chars().flat_map(|c| is_special(c).then_some('\\').into_iter().chain([c])).collect()
}
