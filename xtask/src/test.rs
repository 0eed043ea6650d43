//! `cargo xtask test`: every test of the workspace.

use std::process::Command;

use anyhow::Result;

use crate::{
    etcd,
    run::{cargo, run},
};

/// Fetches the servers that are missing, then runs all tests and doctests; `arguments` go to the test runner.
pub(crate) fn run_tests(arguments: &[String]) -> Result<()> {
    etcd::run(&[])?;
    if !has_nextest() {
        return run(cargo(&["test", "--workspace"]).args(arguments));
    }
    run(cargo(&["nextest", "run", "--workspace"]).args(arguments))?;
    if arguments.is_empty() {
        run(&mut cargo(&["test", "--doc", "--workspace"]))
    } else {
        println!("doctests were not run: the arguments given are nextest's (`cargo test --doc --workspace`)");
        Ok(())
    }
}

fn has_nextest() -> bool {
    let mut version: Command = cargo(&["nextest", "--version"]);
    version.output().is_ok_and(|output| output.status.success())
}
