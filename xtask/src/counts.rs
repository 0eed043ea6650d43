//! `cargo xtask counts`: instructions and allocations of the core's hot paths, counted by gungraun under valgrind.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use etcd_watch_binaries::{Staging, target_dir};

use crate::{
    counted::Counted,
    run::{cargo, program, run, seconds, succeeds},
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
    let version = library_version()?;
    let tools = target_dir().join("tools");
    let name = format!("gungraun-runner-{version}");
    let executable = format!("gungraun-runner{}", std::env::consts::EXE_SUFFIX);
    let path = tools.join(&name).join(&executable);
    if !path.exists() {
        println!("building gungraun-runner {version}");
        build(&tools, &name, &executable, &version)?;
    }
    Ok(path)
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

/// Builds the runner with Cargo, apart from everything else, and puts it where it is found in one step.
fn build(tools: &Path, name: &str, executable: &str, version: &str) -> Result<()> {
    let started = Instant::now();
    // Removed at the end, with all that was built on the way.
    let staging = Staging::new(tools)?;
    let root = staging.dir("root")?;
    let mut install = cargo(&["install", "gungraun-runner", "--locked", "--version"]);
    install.arg(format!("={version}")).arg("--root").arg(&root);
    install.arg("--target-dir").arg(staging.dir("build")?);
    // It waits for valgrind, and has little to compute.
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
    run(&mut install)?;
    staging.publish_dir(&root.join("bin"), name, executable)?;
    println!("built gungraun-runner {version} in {}", seconds(started.elapsed()));
    Ok(())
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
