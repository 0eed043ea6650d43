//! etcd's own client, in Go: its naming, lock and election recipes, run by a program that is driven by lines.

use std::{
    ffi::OsStr,
    fmt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use etcd_watch_binaries::GoTools;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

use super::HarnessError;

/// How long the next line, or the end of a command, may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `tests/go/interop`, a program around Go's `clientv3`, against an endpoint.
///
/// What its commands write and read is told in `tests/go/interop/main.go`. A lock, from here:
///
/// ```no_run
/// # async fn lock(server: etcd_watch_testkit::harness::EtcdServer) -> Result<(), etcd_watch_testkit::harness::HarnessError> {
/// use etcd_watch_testkit::harness::Go;
///
/// let mut holder = Go::interop(server.endpoint())?.spawn(["lock", "name", "--ttl", "5"])?;
/// assert!(holder.line().await?.starts_with("locked name/"));
/// // ... what others do meanwhile ...
/// holder.send("unlock").await?;
/// assert_eq!(holder.end().await?, ["unlocked"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Go {
    program: PathBuf,
    endpoint: String,
}

impl Go {
    /// The program on this machine, aimed at `endpoint`.
    ///
    /// # Errors
    /// If it has not been built, or not from its sources as they are now; the remedy is `cargo xtask go`.
    pub fn interop(endpoint: impl Into<String>) -> Result<Self, HarnessError> {
        Ok(Self { program: GoTools::from_env().find()?, endpoint: endpoint.into() })
    }

    /// The versions of etcd's client and of Go that the program was built with.
    ///
    /// # Errors
    /// If it doesn't run.
    pub async fn versions(&self) -> Result<String, HarnessError> {
        Ok(self.run(["version"]).await?.join("\n"))
    }

    /// Runs a command with nothing to read to its end, and returns the lines it wrote. So run, `lock` unlocks once
    /// it has had the lock, and `elect` resigns once elected.
    ///
    /// # Errors
    /// If it fails, with all it wrote, or takes longer than 30 s.
    pub async fn run<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Vec<String>, HarnessError> {
        self.spawn(arguments)?.end().await
    }

    /// Starts a command that goes on.
    ///
    /// # Errors
    /// If it can't be run.
    pub fn spawn<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<GoProcess, HarnessError> {
        let mut command = Command::new(&self.program);
        command.args(["--endpoint", &self.endpoint]).args(arguments);
        let words = command.as_std().get_args().skip(2).map(OsStr::to_string_lossy);
        let line = words.collect::<Vec<_>>().join(" ");
        let mut child = command
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(HarnessError::io(format!("run {}", self.program.display())))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(|pipe| BufReader::new(pipe).lines());
        let stderr = Arc::new(Mutex::new(String::new()));
        let collecting = child.stderr.take().map(|pipe| tokio::spawn(collect(pipe, Arc::clone(&stderr))));
        Ok(GoProcess { child, command: line, stdin, stdout, stderr, collecting })
    }
}

/// A command that goes on; killed when dropped, so that its session lives on until its TTL has passed.
pub struct GoProcess {
    child: Child,
    command: String,
    stdin: Option<ChildStdin>,
    stdout: Option<Lines<BufReader<ChildStdout>>>,
    stderr: Arc<Mutex<String>>,
    collecting: Option<JoinHandle<()>>,
}

impl GoProcess {
    /// The next line it writes.
    ///
    /// # Errors
    /// If it ends instead, or writes nothing for 30 s, with what it wrote to standard error.
    pub async fn line(&mut self) -> Result<String, HarnessError> {
        match self.next_line().await? {
            Some(line) => Ok(line),
            None => {
                let status = self.wait().await?;
                Err(self.failed(status, ""))
            }
        }
    }

    /// The next line, or `None` if it goes on and writes none within `time`: for what must not happen.
    ///
    /// # Errors
    /// If it ends.
    pub async fn line_within(&mut self, time: Duration) -> Result<Option<String>, HarnessError> {
        timeout(time, self.line()).await.ok().transpose()
    }

    /// Writes a line to it.
    ///
    /// # Errors
    /// If it has ended.
    pub async fn send(&mut self, line: &str) -> Result<(), HarnessError> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        let written = stdin.write_all(format!("{line}\n").as_bytes()).await;
        written.map_err(HarnessError::io(format!("write to `interop {}`", self.command)))
    }

    /// Ends its input, waits for its end, and returns the lines that [`line`](GoProcess::line) has not taken.
    ///
    /// # Errors
    /// If it fails, with what it wrote, or doesn't end within 30 s.
    pub async fn end(mut self) -> Result<Vec<String>, HarnessError> {
        self.stdin = None;
        let mut lines = Vec::new();
        while let Some(line) = self.next_line().await? {
            lines.push(line);
        }
        let status = self.wait().await?;
        if status.success() { Ok(lines) } else { Err(self.failed(status, &lines.join("\n"))) }
    }

    /// Kills it, and waits for its end: what it held stays held until its session's TTL has passed.
    ///
    /// # Errors
    /// If it can't be killed.
    pub async fn kill(mut self) -> Result<(), HarnessError> {
        self.child.kill().await.map_err(HarnessError::io(format!("kill `interop {}`", self.command)))
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn next_line(&mut self) -> Result<Option<String>, HarnessError> {
        let Some(stdout) = &mut self.stdout else { return Ok(None) };
        match timeout(PATIENCE, stdout.next_line()).await {
            Ok(line) => line.map_err(HarnessError::io(format!("read what `interop {}` wrote", self.command))),
            Err(_) => Err(self.hung("wrote no line")),
        }
    }

    /// How it ended, once it has and all it wrote has been collected.
    async fn wait(&mut self) -> Result<ExitStatus, HarnessError> {
        let Ok(status) = timeout(PATIENCE, self.child.wait()).await else {
            return Err(self.hung("did not end"));
        };
        let status = status.map_err(HarnessError::io(format!("wait for `interop {}`", self.command)))?;
        if let Some(collecting) = self.collecting.take()
            && timeout(PATIENCE, collecting).await.is_err()
        {
            return Err(self.hung("did not close its standard error"));
        }
        Ok(status)
    }

    fn failed(&self, status: ExitStatus, stdout: &str) -> HarnessError {
        let output = format!("{stdout}\n{}", self.stderr()).trim().to_owned();
        HarnessError::GoFailed { command: self.command.clone(), status: status.to_string(), output }
    }

    fn hung(&self, missing: &'static str) -> HarnessError {
        HarnessError::GoHung {
            command: self.command.clone(),
            missing,
            waited: PATIENCE,
            stderr: self.stderr(),
        }
    }
}

impl fmt::Debug for GoProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoProcess").field("command", &self.command).finish_non_exhaustive()
    }
}

async fn collect(mut pipe: ChildStderr, collected: Arc<Mutex<String>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let text = String::from_utf8_lossy(&buffer[..count]);
        collected.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
    }
}
