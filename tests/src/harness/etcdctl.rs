//! `etcdctl`, the command-line client that came with a server.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt, iter,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use etcd_watch_binaries::EtcdBinary;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

use super::{EtcdVersion, HarnessError};

/// How long a command, or the next line of one that goes on, may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `etcdctl` against an endpoint: a real server's, the model's or a proxy's.
///
/// Commands are asynchronous, so that a server on the same single-threaded runtime can answer them.
#[derive(Clone)]
pub struct Etcdctl {
    program: PathBuf,
    endpoint: String,
    /// Variables rather than flags: a password has no place where every process can read it, or in an error.
    settings: Vec<(&'static str, OsString)>,
}

impl Etcdctl {
    /// The `etcdctl` of this version, aimed at `endpoint`.
    ///
    /// # Errors
    /// If it is not on this machine, with the remedy.
    pub fn new(version: impl Into<EtcdVersion>, endpoint: impl Into<String>) -> Result<Self, HarnessError> {
        Self::of(&version.into().find()?, endpoint)
    }

    /// The `etcdctl` that came with this server, aimed at `endpoint`.
    ///
    /// # Errors
    /// If none came with it and there is none on `PATH`.
    pub fn of(binary: &EtcdBinary, endpoint: impl Into<String>) -> Result<Self, HarnessError> {
        Ok(Self { program: binary.etcdctl()?.to_owned(), endpoint: endpoint.into(), settings: Vec::new() })
    }

    /// What makes data for this server out of a snapshot: its `etcdutl` if it has one, as from 3.6 on, or else its
    /// `etcdctl`.
    pub(super) fn restorer(binary: &EtcdBinary) -> Result<Self, HarnessError> {
        Ok(Self { program: binary.restorer()?.to_owned(), endpoint: String::new(), settings: Vec::new() })
    }

    /// Runs commands as this user.
    pub fn user(self, name: &str, password: &str) -> Self {
        self.set("ETCDCTL_USER", format!("{name}:{password}"))
    }

    /// Trusts servers whose certificate this authority issued; a file with its certificate.
    pub fn cacert(self, path: impl Into<PathBuf>) -> Self {
        self.set("ETCDCTL_CACERT", path.into())
    }

    /// Shows servers this certificate; files with it and with its key.
    pub fn certificate(self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.set("ETCDCTL_CERT", certificate.into()).set("ETCDCTL_KEY", key.into())
    }

    /// Runs commands against another endpoint, all else being as it is.
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = endpoint.into();
        self
    }

    /// The last value counts.
    fn set(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.settings.push((name, value.into()));
        self
    }

    /// Runs a command to its end, and returns its standard output if it succeeds.
    ///
    /// # Errors
    /// If it fails, with all it wrote, or doesn't end within 30 s.
    pub async fn run<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, HarnessError> {
        self.run_with_input(arguments, "").await
    }

    /// The same with something on its standard input, as `txn` needs it.
    ///
    /// # Errors
    /// As [`run`](Etcdctl::run).
    pub async fn run_with_input<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Result<String, HarnessError> {
        let output = self.output(arguments, input).await?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let text = output.stdout + &output.stderr;
        Err(HarnessError::EtcdctlFailed {
            command: output.command,
            status: output.status.to_string(),
            output: text,
        })
    }

    /// Runs a command to its end, whether it succeeds or not.
    ///
    /// # Errors
    /// If it can't be run, or doesn't end within 30 s.
    pub async fn output<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Result<EtcdctlOutput, HarnessError> {
        let mut process = self.spawn(arguments)?;
        process.write(input).await?;
        process.finish().await
    }

    /// Starts a command that goes on, such as `watch` or `lease keep-alive`.
    ///
    /// # Errors
    /// If it can't be run.
    pub fn spawn<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<EtcdctlProcess, HarnessError> {
        let mut command = Command::new(&self.program);
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCDCTL_")) {
            command.env_remove(name);
        }
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        // A variable, too: `etcdutl` has no flag for it.
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", &self.endpoint).args(arguments);
        let program = self.program.file_name().unwrap_or_default();
        let words = iter::once(program).chain(command.as_std().get_args()).map(OsStr::to_string_lossy);
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
        Ok(EtcdctlProcess { child, command: line, stdin, stdout, stderr, collecting })
    }
}

impl fmt::Debug for Etcdctl {
    /// Without its settings, which may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (program, endpoint) = (&self.program, &self.endpoint);
        f.debug_struct("Etcdctl")
            .field("program", program)
            .field("endpoint", endpoint)
            .finish_non_exhaustive()
    }
}

/// How a command ended, and what it wrote.
#[derive(Clone, Debug)]
pub struct EtcdctlOutput {
    /// The program and its arguments, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// A command that goes on; killed when dropped.
pub struct EtcdctlProcess {
    child: Child,
    command: String,
    stdin: Option<ChildStdin>,
    stdout: Option<Lines<BufReader<ChildStdout>>>,
    stderr: Arc<Mutex<String>>,
    collecting: Option<JoinHandle<()>>,
}

impl EtcdctlProcess {
    /// The next line it writes to standard output; `None` once it has closed it.
    ///
    /// # Errors
    /// If no line comes within 30 s, with what it wrote to standard error.
    pub async fn next_line(&mut self) -> Result<Option<String>, HarnessError> {
        let Some(stdout) = &mut self.stdout else { return Ok(None) };
        match timeout(PATIENCE, stdout.next_line()).await {
            Ok(line) => line.map_err(HarnessError::io(format!("read what `etcdctl {}` wrote", self.command))),
            Err(_) => Err(self.hung("wrote no line")),
        }
    }

    /// Writes to its standard input, as `watch -i` needs it.
    ///
    /// # Errors
    /// If it has closed it.
    pub async fn write(&mut self, input: &str) -> Result<(), HarnessError> {
        let Some(stdin) = self.stdin.as_mut().filter(|_| !input.is_empty()) else { return Ok(()) };
        let written = stdin.write_all(input.as_bytes()).await;
        written.map_err(HarnessError::io(format!("write to `{}`", self.command)))
    }

    /// Closes its standard input, and waits for its end; the output is what has not been taken by
    /// [`next_line`](EtcdctlProcess::next_line).
    ///
    /// # Errors
    /// If it doesn't end within 30 s.
    pub async fn finish(mut self) -> Result<EtcdctlOutput, HarnessError> {
        self.stdin = None;
        let mut stdout = String::new();
        while let Some(line) = self.next_line().await? {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        let Ok(status) = timeout(PATIENCE, self.child.wait()).await else {
            return Err(self.hung("did not end"));
        };
        let status = status.map_err(HarnessError::io(format!("wait for `{}`", self.command)))?;
        if let Some(collecting) = self.collecting.take()
            && timeout(PATIENCE, collecting).await.is_err()
        {
            return Err(self.hung("did not close its standard error"));
        }
        Ok(EtcdctlOutput { status, stdout, stderr: self.stderr(), command: self.command })
    }

    /// Kills it, and waits for its end.
    ///
    /// # Errors
    /// If it can't be killed.
    pub async fn kill(mut self) -> Result<(), HarnessError> {
        self.child.kill().await.map_err(HarnessError::io(format!("kill `{}`", self.command)))
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hung(&self, missing: &'static str) -> HarnessError {
        HarnessError::EtcdctlHung {
            command: self.command.clone(),
            missing,
            waited: PATIENCE,
            stderr: self.stderr(),
        }
    }
}

async fn collect(mut pipe: ChildStderr, collected: Arc<Mutex<String>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let text = String::from_utf8_lossy(&buffer[..count]);
        collected.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
    }
}
