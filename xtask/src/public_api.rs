//! `cargo xtask public-api`: what the crates offer to other programs, one line for each item, as files that a change shows
//! up in.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{
    fuzz::nightly_cargo,
    run::{cargo, succeeds, workspace},
};

/// The crates that other programs link.
const CRATES: [&str; 4] = ["etcd-watch-core", "etcd-watch-client", "etcd-watch-tokio", "etcd-watch-smol"];

/// Writes `docs/public-api/CRATE.txt` for every crate; with `check` it changes nothing, and fails if one is out of date.
///
/// # Errors
/// If cargo-public-api or a nightly compiler is missing, or a file is out of date.
pub(crate) fn run(check: bool) -> Result<()> {
    ensure!(
        succeeds(&mut cargo(&["public-api", "--version"])),
        "cargo-public-api is not installed: `cargo install cargo-public-api --locked`"
    );
    let mut stale = Vec::new();
    for name in CRATES {
        println!("> reading the public items of {name}");
        let listing = listing(name)?;
        let file = file_of(name);
        if fs::read_to_string(&file).is_ok_and(|known| known == listing) {
            continue;
        }
        if check {
            stale.push(name);
        } else {
            fs::write(&file, listing).with_context(|| format!("can't write {}", file.display()))?;
        }
    }
    ensure!(
        stale.is_empty(),
        "docs/public-api is out of date for {}: run `cargo xtask public-api`, and look at what it changes",
        stale.join(", ")
    );
    Ok(())
}

fn file_of(name: &str) -> PathBuf {
    workspace().join("docs/public-api").join(format!("{name}.txt"))
}

/// The items of one crate, with every feature, without the traits that follow from their fields.
fn listing(name: &str) -> Result<String> {
    let mut command = nightly_cargo();
    command.args(["public-api", "-sss", "--all-features", "--package", name]).current_dir(workspace());
    let output = command.output().context("can't run cargo-public-api")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cargo-public-api failed for {name}; it needs a nightly compiler (`rustup toolchain install nightly`):\n{told}"
    );
    String::from_utf8(output.stdout).context("cargo-public-api printed what is no text")
}
