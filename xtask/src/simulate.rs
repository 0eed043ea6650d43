//! `cargo xtask simulate` and `cargo xtask simulate-client`: the simulators, for as long as one likes.

use anyhow::Result;

use crate::run::{cargo, run};

/// Runs an example of the testkit. `arguments` are the example's, which says what they are.
fn run_example(example: &str, arguments: &[String]) -> Result<()> {
    let example = ["run", "--release", "--package", "etcd-watch-testkit", "--example", example, "--"];
    run(cargo(&example).args(arguments))
}

/// The core's machines and clusters.
pub(crate) fn simulate_machines(arguments: &[String]) -> Result<()> {
    run_example("simulate", arguments)
}

/// The whole client.
pub(crate) fn simulate_client(arguments: &[String]) -> Result<()> {
    run_example("simulate-client", arguments)
}
