//! `cargo xtask simulate`: the simulator, for as long as one likes.

use anyhow::Result;

use crate::run::{cargo, run};

/// `arguments` are those of the testkit's example `simulate`, which says what they are.
pub(crate) fn run_seeds(arguments: &[String]) -> Result<()> {
    let example = ["run", "--release", "--package", "etcd-watch-testkit", "--example", "simulate", "--"];
    run(cargo(&example).args(arguments))
}
