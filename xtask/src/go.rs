//! `cargo xtask go`: etcd's own client, in Go, that tests run against ours.

use anyhow::{Context, Result};
use etcd_watch_binaries::GoTools;

/// Fetches Go if there is none, builds the program that tests run, and prints what it was built with.
pub(crate) fn run() -> Result<()> {
    let mut say = |line: &str| println!("{line}");
    let client =
        GoTools::from_env().prepare(&mut say).context("preparing the Go client of etcd that tests need")?;
    println!("using {client}");
    Ok(())
}
