//! `cargo xtask soak`: hours on a real cluster under fire.

use std::process::Command;

use anyhow::Result;

use crate::{etcd, run::cargo};

/// Fetches the servers that are missing, then soaks; `arguments` are the soak's own.
pub(crate) fn soak(arguments: &[String]) -> Result<()> {
    etcd::run(&[])?;
    let mut command = cargo(&["run", "--release", "--quiet", "--package", "etcd-watch-soak", "--"]);
    become_it(command.args(arguments))
}

/// So that Ctrl-C is for the soak alone, which has a report to make then.
#[cfg(unix)]
fn become_it(command: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(error.into())
}

#[cfg(not(unix))]
fn become_it(command: &mut Command) -> Result<()> {
    crate::run::run(command)
}
