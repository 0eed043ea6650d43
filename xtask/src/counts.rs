//! `cargo xtask counts`: instruction counts of the core's hot paths.

use anyhow::Result;

use crate::run::{cargo, run};

/// `arguments` are those of the program `counts`; without any, the counts are checked against their ceilings.
pub(crate) fn count(arguments: &[String]) -> Result<()> {
    let mut counts = cargo(&["run", "--release", "--package", "etcd-watch-bench", "--bin", "counts", "--"]);
    match arguments {
        [] => run(counts.arg("--check")),
        arguments => run(counts.args(arguments)),
    }
}
