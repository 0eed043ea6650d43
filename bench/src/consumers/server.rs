//! The server beside this program.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::Scenario;

/// A `replay` of its own. Dropping this kills it.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    child: Child,
    /// Held open: it prints what it has sent.
    _output: BufReader<ChildStdout>,
}

impl Server {
    /// One that sends so many frames in all.
    pub(crate) fn start(scenario: Scenario, frames: u64) -> Result<Self> {
        let path = env::current_exe()?.with_file_name(format!("replay{}", env::consts::EXE_SUFFIX));
        ensure!(path.exists(), "{} is missing: build the package etcd-watch-bench", path.display());
        let mut command = Command::new(path);
        let numbers = [
            ("--events", scenario.events_per_frame.into()),
            ("--watches", scenario.watches.into()),
            ("--responses", frames),
        ];
        for (name, number) in numbers {
            command.args([name, &number.to_string()]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("the server has an output")?);
        let mut endpoint = String::new();
        output.read_line(&mut endpoint)?;
        Ok(Self { endpoint: endpoint.trim_end().to_owned(), child, _output: output })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
