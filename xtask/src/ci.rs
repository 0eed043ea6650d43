//! `cargo xtask ci`: everything that has to hold before a change goes in.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{
    codegen,
    run::{cargo, run, workspace},
    test,
};

/// The crates that other programs link, and that therefore never print.
const LIBRARIES: [&str; 5] = ["proto", "core", "client", "runtime-tokio", "runtime-smol"];

/// Targets without a standard library, to build `core` for; any one of them will do.
const NO_STD_TARGETS: [&str; 4] =
    ["x86_64-unknown-none", "aarch64-unknown-none", "thumbv7em-none-eabihf", "wasm32v1-none"];

/// Crates with features, and the sets of them to check apart from the workspace, whose members turn each
/// other's features on. (`tls-aws-lc` is left out: it needs CMake on some machines.)
const FEATURES: [(&str, &[&str]); 3] = [
    (
        "etcd-watch-client",
        &[
            "",
            "discovery",
            "json",
            "metrics",
            "tls",
            "tls-ring",
            "fuzzing",
            "discovery,json,metrics,tls-ring",
        ],
    ),
    ("etcd-watch-tokio", &["", "discovery", "json", "metrics", "tls-ring", "tonic-channel"]),
    ("etcd-watch-smol", &["", "async-std", "discovery", "json", "async-std,metrics,tls-ring"]),
];

/// Crates with examples, and the features that all of those together need: an example whose features are missing
/// would be passed by in silence.
const EXAMPLES: [(&str, &str); 2] = [("etcd-watch-tokio", "json,tonic-channel"), ("etcd-watch-smol", "")];

/// Runs all checks, the quick ones first; the first failure ends it.
pub(crate) fn run_all() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    check_libraries_never_print()?;
    println!("> codegen --check");
    codegen::run(true)?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    for (package, sets) in FEATURES {
        for features in sets {
            let check = ["clippy", "--package", package, "--features", features, "--", "-D", "warnings"];
            run(&mut cargo(&check))?;
        }
    }
    for (package, features) in EXAMPLES {
        let check =
            ["clippy", "--package", package, "--features", features, "--examples", "--", "-D", "warnings"];
        run(&mut cargo(&check))?;
    }
    run(cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    check_core_without_std()?;
    test::run_tests(&[])
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
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .context("can't run `rustc --print sysroot`")?;
    let sysroot = String::from_utf8(output.stdout)?;
    let libraries = Path::new(sysroot.trim()).join("lib/rustlib");
    let installed = NO_STD_TARGETS.iter().find(|target| libraries.join(target).join("lib").is_dir());
    let Some(target) = installed else {
        println!("NOT CHECKED: that core builds without std (`rustup target add {}`)", NO_STD_TARGETS[0]);
        return Ok(());
    };
    run(&mut cargo(&["build", "--package", "etcd-watch-core", "--target", target]))
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
}
