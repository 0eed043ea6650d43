//! What the tests share: a store that remembers what was written to it, and a loop that watches it.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use etcd_watch_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, kv_client::KvClient,
    request_op::Request as Op,
};
use etcd_watch_testkit::harness::EtcdServer;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};
use tonic::transport::Channel;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The loop with polled sockets.
pub(crate) const READINESS: &str = env!("CARGO_BIN_EXE_readiness-loop");
/// The loop on `compio`.
pub(crate) const IO_URING: &str = env!("CARGO_BIN_EXE_io-uring-loop");

/// Writes to a server, and keeps the history as the loops are to print it.
pub(crate) struct Store {
    kv: KvClient<Channel>,
    pub(crate) history: Vec<String>,
}

impl Store {
    pub(crate) async fn of(server: &EtcdServer) -> Self {
        let channel = Channel::from_shared(server.endpoint()).expect("an endpoint").connect().await;
        Self { kv: KvClient::new(channel.expect("the server is there")), history: Vec::new() }
    }

    pub(crate) async fn put(&mut self, key: &str, value: &str) -> i64 {
        self.txn(&[(key, Some(value))]).await
    }

    pub(crate) async fn delete(&mut self, key: &str) -> i64 {
        self.txn(&[(key, None)]).await
    }

    /// Puts the keys with values and deletes those without, in one revision, which is returned.
    pub(crate) async fn txn(&mut self, changes: &[(&str, Option<&str>)]) -> i64 {
        let op = |&(key, value): &(&str, Option<&str>)| {
            let key = key.to_owned().into();
            let request = match value {
                Some(value) => Op::RequestPut(PutRequest {
                    key,
                    value: value.to_owned().into(),
                    ..PutRequest::default()
                }),
                None => Op::RequestDeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }),
            };
            RequestOp { request: Some(request) }
        };
        let txn = TxnRequest { success: changes.iter().map(op).collect(), ..TxnRequest::default() };
        let done = self.kv.txn(txn).await.expect("it is written").into_inner();
        let revision = done.header.expect("etcd sends headers").revision;
        self.history.extend(changes.iter().map(|(key, value)| match value {
            Some(value) => format!("PUT {key} {value} @{revision}"),
            None => format!("DELETE {key} @{revision}"),
        }));
        revision
    }

    pub(crate) async fn compact(&mut self, revision: i64) {
        let request = CompactionRequest { revision, physical: true };
        self.kv.compact(request).await.expect("it is compacted");
    }
}

/// A loop that runs.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    stderr: ChildStderr,
}

impl Running {
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let stderr = child.stderr.take().expect("its errors");
        Self { child, stdin, lines, stderr }
    }

    /// The next line it prints; `None` once it has closed its output.
    pub(crate) async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time").expect("its output is text")
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end: how it ended, what else it printed, and what it said.
    pub(crate) async fn end(mut self) -> (ExitStatus, Vec<String>, String) {
        let mut rest = Vec::new();
        while let Some(line) = self.line().await {
            rest.push(line);
        }
        let status = timeout(PATIENCE, self.child.wait()).await.expect("its end in time").expect("a status");
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).await.expect("its errors are text");
        (status, rest, said)
    }
}
