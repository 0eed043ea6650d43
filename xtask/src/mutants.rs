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
/// A change that makes the tests run out of time is found.
const COMPLETE: [i32; 3] = [0, 2, 3];

/// Changes that no test can find since they change nothing that a caller could see, each with how many there are.
const EQUIVALENT: [(&str, usize); 5] = [
    // The second byte of a length is looked at in the wrong place, and the general way is taken for it.
    ("replace + with * in extent", 1),
    // Bits that no two of the parts have in common.
    ("replace | with ^ in long_varint", 2),
    ("replace | with ^ in packed", 2),
    // The bits that it adds are bits that the word does not have.
    ("replace ^ with | in varint_of_word", 1),
    // It asks more often whether there is room to give back; the answer is the same.
    ("replace > with >= in Frame::read", 1),
];

/// Tries every change in the core, or those that `arguments` of cargo-mutants choose. The changes that no test has
/// found are listed in `target/mutants.out/missed.txt`, the outcomes of all in `target/mutants-quick/mutants.out`.
///
/// # Errors
/// If cargo-mutants is missing, the tests fail on the code as it is, or a change was not found that is not known to
/// change nothing.
pub(crate) fn run_mutants(arguments: &[String]) -> Result<()> {
    ensure!(
        succeeds(&mut cargo(&["mutants", "--version"])),
        "cargo-mutants is not installed: `cargo install cargo-mutants`"
    );
    let quick = target_dir().join("mutants-quick");
    fs::create_dir_all(&quick).with_context(|| format!("can't make {}", quick.display()))?;
    complete(cargo_mutants(&quick, QUICK, QUICK_TIMEOUT).args(arguments))?;
    let missed = read_missed(&quick)?;
    if missed.is_empty() {
        return Ok(());
    }
    let mut second = cargo_mutants(&target_dir(), ALL, TIMEOUT);
    for change in missed.lines() {
        second.arg(format!("--re=^{}$", escaped(change)));
    }
    complete(&mut second)?;
    let missed = read_missed(&target_dir())?;
    let unknown: Vec<&str> = missed.lines().filter(|change| !is_equivalent(change, &missed)).collect();
    ensure!(unknown.is_empty(), "no test finds these changes:\n{}", unknown.join("\n"));
    Ok(())
}

/// The changes that a round has missed, one a line.
fn read_missed(output: &Path) -> Result<String> {
    let path = output.join("mutants.out/missed.txt");
    fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))
}

/// Whether a change is known to change nothing, and no more changes of its kind were missed than are known.
fn is_equivalent(change: &str, missed: &str) -> bool {
    let is_of = |change: &str, known: &str| change.split_once(": ").is_some_and(|(_, text)| text == known);
    let count = |known: &str| missed.lines().filter(|change| is_of(change, known)).count();
    EQUIVALENT.iter().any(|&(known, most)| is_of(change, known) && count(known) <= most)
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

/// Runs cargo-mutants, which must get through all changes.
fn complete(command: &mut Command) -> Result<()> {
    let status = command.status().context("can't run cargo-mutants")?;
    ensure!(status.code().is_some_and(|code| COMPLETE.contains(&code)), "cargo-mutants: {status}");
    Ok(())
}

/// A regular expression for this text alone.
fn escaped(text: &str) -> String {
    let is_special = |c: char| "\\.+*?()|[]{}^$".contains(c);
    text.chars().flat_map(|c| is_special(c).then_some('\\').into_iter().chain([c])).collect()
}
