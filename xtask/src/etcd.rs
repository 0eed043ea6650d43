//! `cargo xtask etcd`: the real servers that tests run against.

use anyhow::{Context, Result};
use etcd_watch_binaries::{Binaries, Line, Version};

/// Fetches or builds what is missing, fetches these versions too, and prints what tests use.
pub(crate) fn run(with: &[Version]) -> Result<()> {
    let binaries = Binaries::from_env();
    let mut say = |line: &str| println!("{line}");
    binaries.fetch(&mut say).context("providing the etcd servers that tests need")?;
    for line in Line::REQUIRED {
        println!("using {}", binaries.find(line)?);
    }
    for binary in binaries.additional()? {
        println!("using {binary}");
    }
    for &version in with {
        println!("also {}", binaries.fetch_exact(version, &mut say)?);
    }
    Ok(())
}
