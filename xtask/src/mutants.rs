//! `cargo xtask mutants`: changes of `core` that its tests should find, by cargo-mutants.

use anyhow::{Result, ensure};
use etcd_watch_binaries::target_dir;

use crate::run::{cargo, run, succeeds};

/// How long a test run may take, in seconds, before the change counts as one that loops.
const TIMEOUT: &str = "30";

/// So few cases that a thousand test runs take an hour, not a day.
const CASES: &str = "40";

/// Tries every change in the machine, the mirror and the decoder, or what `arguments` of cargo-mutants choose. What no
/// test has found is listed in `target/mutants.out/missed.txt`.
///
/// # Errors
/// If cargo-mutants is missing, or a change was not found.
pub(crate) fn run_mutants(arguments: &[String]) -> Result<()> {
    ensure!(
        succeeds(&mut cargo(&["mutants", "--version"])),
        "cargo-mutants is not installed: `cargo install cargo-mutants`"
    );
    let mut command = cargo(&["mutants", "--package", "etcd-watch-core", "--profile", "mutants"]);
    command.args(["--timeout", TIMEOUT, "--output"]).arg(target_dir());
    run(command.env("PROPTEST_CASES", CASES).args(arguments))
}
