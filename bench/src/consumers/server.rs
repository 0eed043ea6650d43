//! The server beside this program.

use std::process::Command;

use anyhow::Result;
use etcd_watch_bench::process::{Process, beside};

use crate::Scenario;

/// A `replay` of its own. Dropping this kills it.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    /// Held, with its output: it prints what it has sent.
    _process: Process,
}

impl Server {
    /// One that sends so many frames in all.
    pub(crate) fn start(scenario: Scenario, frames: u64) -> Result<Self> {
        let mut command = Command::new(beside("replay")?);
        let numbers = [
            ("--events", scenario.events_per_frame.into()),
            ("--watches", scenario.watches.into()),
            ("--responses", frames),
        ];
        for (name, number) in numbers {
            command.args([name, &number.to_string()]);
        }
        let mut process = Process::start(&mut command, None)?;
        Ok(Self { endpoint: process.line()?, _process: process })
    }
}
