//! Programs that another one starts and whose output it reads, also on a processor of their own.

use std::{
    env,
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags, poll},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use serde::de::DeserializeOwned;

/// A run that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// How often it is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Another program of the bench, beside this one.
///
/// # Errors
/// It is not there.
pub fn beside(name: &str) -> Result<PathBuf> {
    let path = env::current_exe()?.with_file_name(format!("{name}{}", env::consts::EXE_SUFFIX));
    ensure!(path.exists(), "{} is missing: build the package etcd-watch-bench", path.display());
    Ok(path)
}

/// A process whose output is read. Dropping this kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
    name: String,
}

impl Process {
    /// Starts it on one processor, or on all that this one may use.
    ///
    /// # Errors
    /// It can't be started, or there is no such processor.
    pub fn start(command: &mut Command, cpu: Option<usize>) -> Result<Self> {
        let name = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let started = match cpu {
            Some(cpu) => start_on(command, cpu)?,
            None => command.spawn(),
        };
        let mut child = started.with_context(|| format!("can't run {name}"))?;
        let output = BufReader::new(child.stdout.take().context("its output is read")?);
        Ok(Self { child, output, name })
    }

    /// The next line that it prints.
    ///
    /// # Errors
    /// It prints nothing for two minutes, or has ended.
    pub fn line(&mut self) -> Result<String> {
        if self.output.buffer().is_empty() {
            let mut waiting = [PollFd::new(self.output.get_ref(), PollFlags::IN)];
            let some = poll(&mut waiting, Some(&DEADLINE.try_into()?))?;
            ensure!(some > 0, "{} has printed nothing within {DEADLINE:?}", self.name);
        }
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "{} has ended early", self.name);
        Ok(line.trim().to_owned())
    }

    /// Waits until it has ended, and reads what else it has printed, as JSON.
    ///
    /// # Errors
    /// It fails or prints something else, or has not ended after two minutes.
    pub fn end<T: DeserializeOwned>(mut self) -> Result<T> {
        let status = self.status()?;
        ensure!(status.success(), "{} failed: {status}", self.name);
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        serde_json::from_str(&text).with_context(|| format!("{} has printed {text:?}", self.name))
    }

    fn status(&mut self) -> Result<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(LOOK);
        }
        bail!("{} has not ended within {DEADLINE:?}", self.name)
    }
}

/// Starts a process on one processor; what came of it.
fn start_on(command: &mut Command, cpu: usize) -> Result<io::Result<Child>> {
    // A child inherits the processors of the thread that starts it.
    let allowed = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    one.set(cpu);
    ensure!(allowed.is_set(cpu), "processor {cpu} is missing: two are needed, 0 and 1");
    sched_setaffinity(None, &one)?;
    let started = command.spawn();
    sched_setaffinity(None, &allowed)?;
    Ok(started)
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended, most of the time.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
