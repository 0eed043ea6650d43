//! `cargo xtask counts`: instructions and allocations of the core's hot paths, counted by gungraun under valgrind.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    counted::Counted,
    run::{cargo, program, succeeds},
    tool::{Tool, tools},
};

/// Counts, prints the tables of docs/performance.md, and fails if a count is above its limit. `arguments` are those of
/// gungraun, such as a filter.
pub(crate) fn count(arguments: &[String]) -> Result<()> {
    ensure!(
        has_valgrind(),
        "valgrind is not installed: install it with the system's package manager (apt install valgrind)"
    );
    let mut bench = cargo(&["bench", "--package", "etcd-watch-bench-counts", "--bench", "counts", "--"]);
    bench.arg("--output-format=json").args(arguments);
    bench.env("GUNGRAUN_RUNNER", runner()?);
    // What goes wrong, and the limits that are exceeded, are told on standard error.
    let ended = bench.stderr(Stdio::inherit()).output().context("can't run `cargo bench`")?;
    let counted = Counted::read(&String::from_utf8(ended.stdout)?)?;
    print!("{counted}");
    ensure!(ended.status.success(), "counts are above their limits, or were not taken: see above");
    Ok(())
}

/// Whether counting is possible here.
pub(crate) fn has_valgrind() -> bool {
    succeeds(program("valgrind", &[]).arg("--version"))
}

/// The program that runs gungraun's benches, of the same version as the library that they are built with; built once.
fn runner() -> Result<PathBuf> {
    let runner = Tool {
        package: "gungraun-runner",
        executable: "gungraun-runner",
        directory: "gungraun-runner",
        version: library_version()?,
        arguments: &[],
    };
    runner.provide(&tools())
}

/// The version in `Cargo.lock`: the only place that says it.
fn library_version() -> Result<String> {
    let output = cargo(&["pkgid", "gungraun"]).output().context("can't run `cargo pkgid`")?;
    let id = String::from_utf8(output.stdout)?;
    match version_in(&id) {
        Some(version) => Ok(version.to_owned()),
        None => bail!("`cargo pkgid gungraun` tells no version: {id:?}"),
    }
}

/// The version in a package's id, such as `registry+https://github.com/rust-lang/crates.io-index#gungraun@0.20.0`.
fn version_in(id: &str) -> Option<&str> {
    id.trim_end().rsplit_once('@').map(|(_, version)| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_a_packages_id() {
        let id = "registry+https://github.com/rust-lang/crates.io-index#gungraun@0.20.0\n";
        assert_eq!(version_in(id), Some("0.20.0"));
        assert_eq!(version_in("gungraun"), None);
    }
}
