//! What the tests of the binary share.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use etcd_watch_testkit::{model::ModelConfig, server::EmbeddedEtcd};
use etcd_watch_tokio::proto::etcdserverpb::{DeleteRangeRequest, PutRequest};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An etcd, and the tool aimed at it.
pub(crate) struct World {
    pub(crate) etcd: EmbeddedEtcd,
}

impl World {
    pub(crate) async fn new() -> Self {
        let config = ModelConfig {
            cluster_id: 14_841_639_068_965_178_418,
            member_id: 10_276_657_743_932_975_437,
            ..ModelConfig::default()
        };
        Self { etcd: EmbeddedEtcd::start(config).await.expect("an etcd") }
    }

    /// The tool, aimed at the etcd.
    pub(crate) fn tool(&self, arguments: &[&str]) -> Command {
        tool_for(&self.etcd.endpoint(), arguments)
    }

    /// Runs the tool to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        output(self.tool(arguments)).await
    }

    pub(crate) fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> i64 {
        let (key, value) = (key.to_owned().into(), value.into().into());
        let request = PutRequest { key, value, ..PutRequest::default() };
        self.etcd.with_model(|model| model.put(&request).expect("a put")).header.expect("a header").revision
    }

    pub(crate) fn delete(&self, key: &str) {
        let request = DeleteRangeRequest { key: key.to_owned().into(), ..DeleteRangeRequest::default() };
        self.etcd.with_model(|model| model.delete_range(&request).expect("a delete"));
    }

    pub(crate) fn watchers(&self) -> usize {
        self.etcd.with_model(|model| model.watcher_count())
    }

    /// Returns once the etcd has so many watches.
    pub(crate) async fn until_watchers(&self, count: usize) {
        let reached = async {
            while self.watchers() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("the number of watches on the server");
    }
}

/// The tool, without any of its variables.
pub(crate) fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-watch"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCDCTL_") {
            command.env_remove(name);
        }
    }
    command
}

/// The tool, aimed at a server.
pub(crate) fn tool_for(endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command.env("ETCDCTL_ENDPOINTS", endpoint);
    command
}

pub(crate) async fn output(mut command: Command) -> Output {
    timeout(PATIENCE, command.output()).await.expect("the end of the tool").expect("the tool runs")
}

/// A run of the tool that goes on.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the tool runs");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time");
        line.expect("its output").expect("another line")
    }

    pub(crate) async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..count {
            lines.push(self.line().await);
        }
        lines
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let pid = id.and_then(rustix::process::Pid::from_raw).expect("it runs");
        rustix::process::kill_process(pid, signal).expect("a signal");
    }

    /// Closes the reading end of its output.
    pub(crate) async fn stop_reading(mut self) -> (ExitStatus, String) {
        drop(self.lines);
        let status =
            timeout(PATIENCE, self.child.wait()).await.expect("the end of the tool").expect("a status");
        let mut stderr = String::new();
        self.child.stderr.take().expect("its errors").read_to_string(&mut stderr).await.expect("its errors");
        (status, stderr)
    }

    /// Waits for its end; what it still wrote, and its errors.
    pub(crate) async fn end(mut self) -> (ExitStatus, Vec<String>, String) {
        let mut rest = Vec::new();
        while let Some(line) =
            timeout(PATIENCE, self.lines.next_line()).await.expect("a line").expect("output")
        {
            rest.push(line);
        }
        let (status, stderr) = self.stop_reading().await;
        (status, rest, stderr)
    }
}

/// The signal that has ended a process.
#[cfg(unix)]
pub(crate) fn signal_of(status: ExitStatus) -> Option<rustix::process::Signal> {
    std::os::unix::process::ExitStatusExt::signal(&status).and_then(rustix::process::Signal::from_named_raw)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
