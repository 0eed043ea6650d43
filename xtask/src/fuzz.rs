//! `cargo xtask fuzz`: the fuzz targets, by cargo-fuzz on a nightly compiler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use etcd_watch_binaries::target_dir;

use crate::run::{run, succeeds, workspace};

/// An input that takes longer than this, in seconds, counts as one that loops.
const TIMEOUT: u32 = 10;

/// Fuzzes one target after the other, or only the one named, for so many minutes each. What is found ends that
/// target's turn, and is reported again at the end.
///
/// # Errors
/// If a tool is missing, there is no such target, or something was found.
pub(crate) fn run_targets(target: Option<&str>, minutes: u64) -> Result<()> {
    let root = workspace();
    let known = targets(&root)?;
    let chosen: Vec<&String> =
        known.iter().filter(|known| target.is_none_or(|target| target == *known)).collect();
    if let (Some(target), []) = (target, &chosen[..]) {
        bail!("there is no fuzz target {target:?}; there are {}", known.join(", "));
    }
    check_tools()?;
    let mut failed = Vec::new();
    for target in chosen {
        run(&mut build(&root, target))?;
        if let Err(error) = run(&mut fuzz(&root, target, minutes)?) {
            println!("{error}");
            failed.push(target.as_str());
        }
    }
    ensure!(
        failed.is_empty(),
        "found something in {}: the inputs are in fuzz/artifacts; keep each under fuzz/regressions",
        failed.join(", ")
    );
    Ok(())
}

/// The targets' names, by their files.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("can't list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn check_tools() -> Result<()> {
    ensure!(
        succeeds(Command::new("rustup").args(["run", "nightly", "rustc", "--version"])),
        "fuzzing needs a nightly compiler, which there is none of: `rustup toolchain install nightly`"
    );
    ensure!(
        succeeds(nightly_cargo().args(["fuzz", "--version"])),
        "fuzzing needs cargo-fuzz, which is not installed: `cargo install cargo-fuzz`"
    );
    Ok(())
}

pub(crate) fn nightly_cargo() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]);
    command
}

/// Apart from its turn, so that what does not compile is not taken for a finding.
fn build(root: &Path, target: &str) -> Command {
    let mut command = nightly_cargo();
    command.current_dir(root).args(["fuzz", "build", "--sanitizer", "none", target]);
    command
}

/// One target's turn. What it learns goes into a corpus of its own, beside the one that is checked in.
fn fuzz(root: &Path, target: &str, minutes: u64) -> Result<Command> {
    let learned = target_dir().join("fuzz-corpus").join(target);
    fs::create_dir_all(&learned).with_context(|| format!("can't make {}", learned.display()))?;
    let kept = ["corpus", "regressions"].map(|kind| root.join("fuzz").join(kind).join(target));
    let kept: Vec<PathBuf> = kept.into_iter().filter(|folder| folder.is_dir()).collect();
    let mut command = nightly_cargo();
    // Nothing here is unsafe, so there is nothing for a sanitizer to see that is worth half the speed.
    command.current_dir(root).args(["fuzz", "run", "--sanitizer", "none", target]).arg(learned).args(kept);
    let seconds = minutes.saturating_mul(60);
    command.arg("--").arg(format!("-max_total_time={seconds}")).arg(format!("-timeout={TIMEOUT}"));
    command.args(["-print_final_stats=1"]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_and_an_unknown_one_is_refused_by_name() {
        let names = targets(&workspace()).unwrap();
        assert!(names.contains(&"decoder".to_owned()), "{names:?}");
        let error = run_targets(Some("nonsense"), 1).unwrap_err().to_string();
        assert!(error.contains("\"nonsense\"") && error.contains("decoder"), "{error}");
    }
}
