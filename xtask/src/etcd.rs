//! `cargo xtask etcd`: the real servers that tests run against.

use anyhow::{Context, Result};
use etcd_watch_binaries::{Binaries, Version};

/// Fetches what is missing, and these versions too, and prints what tests use.
pub(crate) fn run(with: &[Version]) -> Result<()> {
    let binaries = Binaries::from_env();
    let mut say = |line: &str| println!("{line}");
    binaries.fetch(&mut say).context("fetching the etcd servers that tests need")?;
    for binary in binaries.under_test()? {
        println!("using {binary}");
    }
    for &version in with {
        println!("also {}", binaries.fetch_exact(version, &mut say)?);
    }
    Ok(())
}
