//! `cargo xtask ci`: everything that has to hold before a change goes in.

use std::{
    fmt, fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    circles, codegen, counts,
    needs::Needs,
    nextest::Nextest,
    run::{cargo, program, run, seconds, workspace},
    test::{self, Servers},
};

/// The crates that other programs link, and that therefore never print.
const LIBRARIES: [&str; 5] = ["proto", "core", "client", "runtime-tokio", "runtime-smol"];

/// Targets without a standard library, to build `core` for; any one of them will do.
const NO_STD_TARGETS: [&str; 4] =
    ["x86_64-unknown-none", "aarch64-unknown-none", "thumbv7em-none-eabihf", "wasm32v1-none"];

/// Crates with features, and the sets of them to check apart from the workspace, whose members turn each
/// other's features on. Each takes some ten seconds. Features that touch no common code share a set. The crates of the
/// runtimes hand most of theirs on to the client.
const FEATURES: [(&str, &[&str]); 5] = [
    ("etcd-watch", &["tls-ring", "demo,tls-ring"]),
    (
        "etcd-watch-client",
        &[
            "",
            "discovery,dns-srv",
            "json",
            "metrics",
            "tls",
            "tls-aws-lc",
            "fuzzing",
            "discovery,json,metrics,tls-ring",
        ],
    ),
    ("etcd-watch-tokio", &["", "tonic-channel"]),
    ("etcd-watch-testkit", &["", "certificates", "harness", "lawful", "machines", "sim"]),
    ("etcd-watch-smol", &["", "async-std,metrics,tls-ring"]),
];

/// Crates with examples, and the features that all of those together need: an example whose features are missing
/// would be passed by in silence.
const EXAMPLES: [(&str, &str); 2] = [("etcd-watch-tokio", "json,tonic-channel"), ("etcd-watch-smol", "")];

/// Runs all checks, the quick ones first; the first failure ends it. The seconds that each took are printed at the end.
pub(crate) fn run_all() -> Result<()> {
    let mut steps = Steps::start();
    let result = run_steps(&mut steps);
    println!("{steps}");
    result
}

fn run_steps(steps: &mut Steps) -> Result<()> {
    steps.step("format", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
    steps.step("prints", check_libraries_never_print)?;
    steps.step("circles of files", || circles::check(&workspace()))?;
    steps.step("generated code", || {
        println!("> codegen --check");
        codegen::run(true)
    })?;
    steps.step("clippy", || {
        run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    steps.step("clippy by features", clippy_by_features)?;
    steps.step("docs", || {
        run(cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    steps.step("core without std", check_core_without_std)?;
    steps.step("counts", check_counts)?;
    let nextest = steps.step("nextest", Nextest::provide)?;
    steps.step("servers and Go client", || test::fetch(Needs::EVERYTHING))?;
    steps.step("tests", || test::run_with(&nextest, Servers::Some, &[]))?;
    steps.step("doctests", test::run_doctests)
}

/// What has been run, and how long it took.
struct Steps {
    started: Instant,
    taken: Vec<(&'static str, Duration)>,
}

impl Steps {
    fn start() -> Self {
        Self { started: Instant::now(), taken: Vec::new() }
    }

    /// Runs a step and notes its time, also if it fails.
    fn step<T>(&mut self, name: &'static str, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let result = run();
        self.taken.push((name, started.elapsed()));
        result
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, taken) in &self.taken {
            writeln!(f, "{name:<22} {:>10}", seconds(*taken))?;
        }
        write!(f, "{:<22} {:>10}", "in all", seconds(self.started.elapsed()))
    }
}

fn clippy_by_features() -> Result<()> {
    for (package, sets) in FEATURES {
        for features in sets {
            let mut check = cargo(&["clippy", "--package", package, "--no-default-features"]);
            run(check.args(["--features", features, "--", "-D", "warnings"]))?;
        }
    }
    for (package, features) in EXAMPLES {
        let check =
            ["clippy", "--package", package, "--features", features, "--examples", "--", "-D", "warnings"];
        run(&mut cargo(&check))?;
    }
    Ok(())
}

/// Valgrind is no part of what builds and tests need, so machines without it pass.
fn check_counts() -> Result<()> {
    if counts::has_valgrind() {
        return counts::count(&[]);
    }
    println!(
        "NOT CHECKED: the core's counts of instructions and allocations, because valgrind is not installed"
    );
    Ok(())
}

/// Looks at the committed files, so that a `#[cfg]` or an `#[allow]` hides nothing from it.
fn check_libraries_never_print() -> Result<()> {
    println!("> looking for prints in {}", LIBRARIES.join(", "));
    let root = workspace();
    let mut found = Vec::new();
    for file in committed_sources(&root)? {
        let text = fs::read_to_string(root.join(&file)).with_context(|| format!("can't read {file}"))?;
        found.extend(
            lines_that_print(&text).map(|(number, line)| format!("{file}:{number}: {}", line.trim())),
        );
    }
    ensure!(found.is_empty(), "a library never prints, `tracing` is the way out:\n{}", found.join("\n"));
    Ok(())
}

fn committed_sources(root: &Path) -> Result<Vec<String>> {
    let patterns = LIBRARIES.map(|library| format!("{library}/src/*.rs"));
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "--"])
        .args(&patterns)
        .output()
        .context("can't run `git ls-files`")?;
    ensure!(output.status.success(), "`git ls-files` failed: {}", String::from_utf8_lossy(&output.stderr));
    let files: Vec<String> = String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect();
    ensure!(!files.is_empty(), "`git ls-files` lists no sources of {}", LIBRARIES.join(", "));
    // A file that is deleted but not yet committed so has nothing to look at.
    Ok(files.into_iter().filter(|file| root.join(file).exists()).collect())
}

/// The lines, counted from 1, that call a macro which writes to the standard streams; comments may show one.
fn lines_that_print(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let prints = |line: &str| {
        let code = line.split("//").next().unwrap_or(line);
        ["println!", "print!", "dbg!"].iter().any(|call| code.contains(call))
    };
    text.lines().zip(1..).filter(move |(line, _)| prints(line)).map(|(line, number)| (number, line))
}

fn check_core_without_std() -> Result<()> {
    let Some(target) = no_std_target()? else {
        println!(
            "NOT CHECKED: that core builds without std, because no such target is installed and rustup can't add one \
             (`rustup target add {}`)",
            NO_STD_TARGETS[0]
        );
        return Ok(());
    };
    run(&mut cargo(&["build", "--package", "etcd-watch-core", "--target", target]))
}

/// A target without a standard library that is installed; the first is added if there is none and rustup can.
fn no_std_target() -> Result<Option<&'static str>> {
    if let Some(target) = installed_no_std_target()? {
        return Ok(Some(target));
    }
    let mut add = program("rustup", &["target", "add", NO_STD_TARGETS[0]]);
    if let Err(error) = run(&mut add) {
        println!("{error:#}");
    }
    installed_no_std_target()
}

fn installed_no_std_target() -> Result<Option<&'static str>> {
    let output =
        program("rustc", &["--print", "sysroot"]).output().context("can't run `rustc --print sysroot`")?;
    let sysroot = String::from_utf8(output.stdout)?;
    let libraries = Path::new(sysroot.trim()).join("lib/rustlib");
    Ok(NO_STD_TARGETS.into_iter().find(|target| libraries.join(target).join("lib").is_dir()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_in_code_are_found_and_those_in_comments_are_not() {
        let text =
            "fn f() {\n    println!(\"1\");\n    // println!(\"2\");\n}\n/// eprintln!(\"3\");\ndbg!(4);\n";
        let numbers: Vec<usize> = lines_that_print(text).map(|(number, _)| number).collect();
        assert_eq!(numbers, [2, 6]);
    }

    #[test]
    fn the_time_of_every_step_is_told_that_of_the_one_that_failed_too() {
        let mut steps = Steps::start();
        steps.step("first", || Ok(())).unwrap();
        let failed: Result<()> = steps.step("second", || anyhow::bail!("no"));
        failed.unwrap_err();
        steps.taken[1].1 = Duration::from_millis(61_250);
        let lines: Vec<String> = steps.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("first ") && lines[0].ends_with("0.0 s"), "{lines:?}");
        assert!(lines[1].starts_with("second ") && lines[1].ends_with(" 61.2 s"), "{lines:?}");
        assert!(lines[2].starts_with("in all "), "{lines:?}");
    }
}
