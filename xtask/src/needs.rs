//! What the tests of packages need that is not in the workspace.

use anyhow::{Context, Result, ensure};

use crate::run::cargo;

/// The crate that finds and starts real servers for tests: whoever's tests use it may start some.
const TESTKIT: &str = "etcd-watch-testkit";

/// The packages with tests against etcd's Go client.
const WITH_GO: [&str; 1] = [TESTKIT];

/// What has to be fetched before tests can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) servers: bool,
    pub(crate) go: bool,
}

impl Needs {
    /// What some test or other of the workspace needs.
    pub(crate) const EVERYTHING: Self = Self { servers: true, go: true };

    /// What the tests of the packages need that the arguments of nextest choose; everything, if they choose none.
    pub(crate) fn of(arguments: &[String]) -> Self {
        let packages = packages(arguments);
        if packages.is_empty() {
            return Self::EVERYTHING;
        }
        // A package that is not known is Cargo's to tell, when the tests are to be built.
        Self::of_packages(&packages).unwrap_or(Self::EVERYTHING)
    }

    fn of_packages(packages: &[&str]) -> Result<Self> {
        let chosen = tree(packages, &["--depth", "0"])?;
        let used = tree(packages, &[])?;
        let go = chosen.iter().any(|name| WITH_GO.contains(&name.as_str()));
        Ok(Self { servers: used.iter().any(|name| name == TESTKIT), go })
    }
}

/// The packages that are chosen by arguments for Cargo.
pub(crate) fn packages(arguments: &[String]) -> Vec<&str> {
    let mut packages = Vec::new();
    let mut arguments = arguments.iter().map(String::as_str).take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        if matches!(argument, "-p" | "--package") {
            packages.extend(arguments.next());
        } else if let Some(package) = argument.strip_prefix("--package=") {
            packages.push(package);
        } else if let (Some(package), false) = (argument.strip_prefix("-p"), argument.starts_with("--")) {
            packages.push(package.trim_start_matches('='));
        }
    }
    packages
}

/// The names of the packages, and of what they and their tests depend on.
fn tree(packages: &[&str], flags: &[&str]) -> Result<Vec<String>> {
    let mut tree =
        cargo(&["tree", "--quiet", "--prefix", "none", "--edges", "normal,dev", "--format", "{p}"]);
    tree.args(flags);
    for package in packages {
        tree.args(["--package", package]);
    }
    let output = tree.output().context("can't run `cargo tree`")?;
    ensure!(output.status.success(), "`cargo tree` failed: {}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout)?;
    Ok(lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use super::*;
    use crate::run::workspace;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn packages_are_recognized_among_the_arguments_for_cargo_only() {
        for line in ["-p core", "-pcore", "-p=core", "--package core", "--release --package=core x"] {
            assert_eq!(packages(&words(line)), ["core"], "{line}");
        }
        for line in ["", "some_test", "--profile ci", "--package-set", "-- -p core"] {
            assert!(packages(&words(line)).is_empty(), "{line}");
        }
        assert_eq!(packages(&words("-p a --lib --package b")), ["a", "b"]);
    }

    #[test]
    fn only_what_the_chosen_packages_need_is_fetched() {
        let (nothing, servers) = (Needs { servers: false, go: false }, Needs { servers: true, go: false });
        let cases = [
            ("-p etcd-watch-core", nothing),
            ("-p etcd-watch-client -p etcd-watch-proto --lib", nothing),
            ("-p xtask", nothing),
            ("-p etcd-watch", servers),
            ("-p etcd-watch-core --package=etcd-watch-soak", servers),
            ("-p etcd-watch-testkit", Needs::EVERYTHING),
            ("-p no-such-package", Needs::EVERYTHING),
            ("some_test", Needs::EVERYTHING),
            ("", Needs::EVERYTHING),
        ];
        for (line, expected) in cases {
            assert_eq!(Needs::of(&words(line)), expected, "{line}");
        }
    }

    /// The packages whose sources mention a type.
    fn packages_that_mention(text: &str) -> Vec<String> {
        let output = Command::new("git")
            .current_dir(workspace())
            .args(["grep", "--files-with-matches", "--fixed-strings", text, "--", "*.rs"])
            .output()
            .expect("git runs");
        let files = String::from_utf8(output.stdout).expect("text");
        let mut names: Vec<String> = files.lines().map(|file| package_of(&workspace().join(file))).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| name != "xtask");
        names
    }

    fn package_of(file: &Path) -> String {
        let manifest = file.ancestors().map(|folder| folder.join("Cargo.toml")).find(|path| path.exists());
        let manifest = fs::read_to_string(manifest.expect("a package")).expect("it is read");
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")).expect("a name");
        name.trim_end_matches('"').to_owned()
    }

    #[test]
    fn the_packages_with_tests_against_the_go_client_are_known() {
        assert_eq!(packages_that_mention("GoProcess"), WITH_GO);
    }
}
