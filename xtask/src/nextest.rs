//! cargo-nextest, which runs the tests: the one of this machine, or else a pinned one that is built once.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    run::{cargo, program},
    tool::{Tool, tools},
};

/// The version that is built where none is installed.
const PINNED: Version = (0, 9, 151);

/// The Rust that [`PINNED`] needs, which is newer than the oldest that the workspace itself builds with.
const PINNED_NEEDS_RUST: &str = "1.91";

/// The oldest installed version that is used: it knows all settings of `.config/nextest.toml`, and it is the newest
/// that the workspace's own `rust-version` builds.
const OLDEST: Version = (0, 9, 114);

type Version = (u64, u64, u64);

/// A cargo-nextest that has been found.
pub(crate) enum Nextest {
    /// Cargo finds it, as it does any subcommand.
    Installed(Version),
    /// Built by this xtask, and kept in the target directory.
    Kept(PathBuf),
}

impl Nextest {
    /// Finds one, or builds the pinned one, and says which is used. Needs the network only to build.
    ///
    /// # Errors
    /// If there is none and it can't be built; the error says what to do.
    pub(crate) fn provide() -> Result<Self> {
        let installed = installed();
        let nextest = match installed {
            Some(version) if version >= OLDEST => Self::Installed(version),
            _ => Self::Kept(kept(&tools(), installed)?),
        };
        match &nextest {
            Self::Installed(version) => println!("using cargo-nextest {}, installed", dotted(*version)),
            Self::Kept(path) => println!("using cargo-nextest {} in {}", dotted(PINNED), path.display()),
        }
        Ok(nextest)
    }

    /// The command that runs tests, without arguments.
    pub(crate) fn command(&self) -> Command {
        match self {
            Self::Installed(_) => cargo(&["nextest", "run"]),
            Self::Kept(path) => program(path, &["nextest", "run"]),
        }
    }
}

/// The version that `cargo nextest` is here, if it is installed at all.
fn installed() -> Option<Version> {
    version_told_by(&mut cargo(&["nextest", "--version"]))
}

fn version_told_by(command: &mut Command) -> Option<Version> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    version_in(&String::from_utf8_lossy(&output.stdout))
}

/// The version in the first line of `cargo nextest --version`, such as `cargo-nextest 0.9.114 (a1b2c3 2025-11-17)`.
fn version_in(output: &str) -> Option<Version> {
    let mut words = output.lines().next()?.split_whitespace();
    let (name, version) = (words.next()?, words.next()?);
    let released = version.split_once('-').map_or(version, |(released, _)| released);
    let mut numbers = released.split('.').map(str::parse);
    let version = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    (name == "cargo-nextest" && numbers.next().is_none()).then_some(version)
}

fn dotted((major, minor, patch): Version) -> String {
    format!("{major}.{minor}.{patch}")
}

/// The pinned one in the target directory; built now if it is not there yet.
fn kept(tools: &Path, installed: Option<Version>) -> Result<PathBuf> {
    let nextest = Tool {
        package: "cargo-nextest",
        executable: "cargo-nextest",
        directory: "nextest",
        version: dotted(PINNED),
        // Without the default features: they include the one with which nextest replaces itself.
        arguments: &["--no-default-features", "--features", "default-no-update"],
    };
    if !nextest.path(tools).exists() {
        match installed {
            Some(version) => println!(
                "cargo-nextest {} is installed, but {} or newer is needed",
                dotted(version),
                dotted(OLDEST)
            ),
            None => println!("cargo-nextest is not installed"),
        }
    }
    let path = nextest.provide(tools).with_context(remedy)?;
    match version_told_by(&mut program(&path, &["nextest", "--version"])) {
        Some(PINNED) => Ok(path),
        _ => bail!("{} doesn't run here: remove its directory, and it is built again", path.display()),
    }
}

fn remedy() -> String {
    let (pinned, oldest) = (dotted(PINNED), dotted(OLDEST));
    format!(
        "the tests are run by cargo-nextest, and {pinned} could not be built: that needs Rust {PINNED_NEEDS_RUST} or \
         newer and access to crates.io. Or install {oldest} or newer yourself, which is then used: \
         `cargo install --locked cargo-nextest` (with an older Rust, add `--version {oldest}`), or a binary from \
         https://nexte.st/docs/installation/pre-built-binaries/"
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_version_is_read_from_the_first_line() {
        let output = "cargo-nextest 0.9.151 (59807616e 2026-10-14)\nrelease: 0.9.151\n";
        assert_eq!(version_in(output), Some((0, 9, 151)));
        assert_eq!(version_in("cargo-nextest 0.9.114\n"), Some((0, 9, 114)));
        assert_eq!(version_in("cargo-nextest 0.9.114-rc.1\n"), Some((0, 9, 114)));
        for other in ["", "cargo-nextest", "cargo-nextest 0.9", "cargo-nextest 0.9.1.2", "cargo 1.95.0"] {
            assert_eq!(version_in(other), None, "{other}");
        }
    }

    #[test]
    fn a_kept_one_that_does_not_run_is_an_error_with_the_remedy() {
        let tools = tempfile::tempdir().unwrap();
        let dir = tools.path().join(format!("nextest-{}", dotted(PINNED)));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(format!("cargo-nextest{}", std::env::consts::EXE_SUFFIX)), "not a program")
            .unwrap();
        let error = kept(tools.path(), None).unwrap_err().to_string();
        assert!(error.contains("remove its directory") && error.contains("0.9.151"), "{error}");
    }

    #[test]
    fn the_remedy_names_the_versions_and_the_rust_that_are_needed() {
        let text = remedy();
        for part in ["0.9.151", "0.9.114", "Rust 1.91", "cargo install --locked cargo-nextest"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
