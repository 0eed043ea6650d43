//! The driver on the embedded model etcd, behind a proxy that cuts: it prints exactly the model's history.

#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "a test says what it has seen")]

use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use etcd_watch_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
use etcd_watch_testkit::{
    harness::wait_until,
    model::ModelConfig,
    proxy::{Cut, FaultProxy},
    server::EmbeddedEtcd,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than HTTP/2's windows and frames: it has to be given back to the flow control, and put together.
const LARGE: usize = 200 << 10;
/// After how many bytes connections are cut: within the first frames, a prefix, a message, a large one.
const CUTS: [u64; 8] = [40, 300, 1_001, 5_003, 20_011, 60_013, 150_001, 300_007];

/// The driver, running.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_h2-driver"));
        command.args(arguments).kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    /// The next line it prints; `None` once it has closed its output.
    async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time").expect("its output is text")
    }

    /// Ctrl-C.
    fn interrupt(&self) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.try_into().expect("a process id")));
        kill_process(pid.expect("it runs"), Signal::INT).expect("it is there");
    }

    /// Waits for its end: how it ended, what else it printed, and what it said.
    async fn end(mut self) -> (ExitStatus, Vec<String>, String) {
        let mut rest = Vec::new();
        while let Some(line) = self.line().await {
            rest.push(line);
        }
        let status = timeout(PATIENCE, self.child.wait()).await.expect("its end in time").expect("a status");
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().expect("its errors");
        stderr.read_to_string(&mut said).await.expect("its errors are text");
        (status, rest, said)
    }
}

fn put(etcd: &EmbeddedEtcd, key: &str, value: impl Into<String>) {
    let request = PutRequest { key: key.to_owned().into(), value: value.into().into(), ..Default::default() };
    etcd.with_model(|model| model.put(&request)).expect("it is put");
}

fn delete(etcd: &EmbeddedEtcd, prefix: &str, end: &str) {
    let (key, range_end) = (prefix.to_owned().into(), end.to_owned().into());
    let request = DeleteRangeRequest { key, range_end, prev_kv: false };
    etcd.with_model(|model| model.delete_range(&request)).expect("it is deleted");
}

/// Revisions of every kind: puts, large puts, deletes of several keys, keys that are not watched.
fn write(etcd: &EmbeddedEtcd, count: usize) {
    for index in 0..count {
        match index % 10 {
            3 => put(etcd, "k/large", "x".repeat(LARGE)),
            7 => delete(etcd, "k/", "k0"),
            8 => put(etcd, "other", "not watched"),
            _ => put(etcd, &format!("k/{index}"), format!("value {index}")),
        }
    }
}

/// The model's history as the driver is to print it.
fn history(etcd: &EmbeddedEtcd) -> Vec<String> {
    let line = |event: &etcd_watch_testkit::model::HistoryEvent| {
        let (key, value) = (event.key.escape_ascii(), event.value.escape_ascii());
        format!("{} {:?} {key} {value}", event.revision, event.kind)
    };
    etcd.with_model(|model| {
        let history = model.history().iter();
        history.filter(|event| event.key.starts_with(b"k/")).map(|event| line(event)).collect()
    })
}

async fn embedded() -> (EmbeddedEtcd, FaultProxy) {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("it starts");
    let proxy = FaultProxy::start(etcd.address()).await.expect("the proxy starts");
    (etcd, proxy)
}

fn watchers(etcd: &EmbeddedEtcd) -> usize {
    etcd.with_model(|model| model.watcher_count())
}

#[test]
fn it_is_as_short_as_the_documentation_says() {
    let lines = include_str!("../src/main.rs").lines().count();
    assert!(lines <= 200, "{lines} lines");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_prints_exactly_the_history_through_cuts_and_a_restart() {
    let (mut etcd, proxy) = embedded().await;
    write(&etcd, 50);
    let mut running = Running::start(&[&proxy.address().to_string(), "k/", "1"]);
    let mut printed = vec![running.line().await.expect("a line")];
    for (number, bytes) in CUTS.into_iter().enumerate() {
        let cuts = proxy.cuts();
        proxy.cut_next_after_bytes(bytes, if number % 2 == 0 { Cut::Reset } else { Cut::Close });
        write(&etcd, 20);
        while printed.len() < history(&etcd).len() {
            printed.push(running.line().await.expect("a line"));
        }
        assert!(proxy.cuts() > cuts, "{bytes} bytes: what was written is more than that");
    }
    etcd.stop().await;
    write(&etcd, 30);
    etcd.restart().await.expect("it starts again");
    write(&etcd, 30);
    let expected = history(&etcd);
    while printed.len() < expected.len() {
        printed.push(running.line().await.expect("a line"));
    }
    running.interrupt();
    let (status, rest, said) = running.end().await;
    println!("{} events through {} cuts and a restart; it said:\n{said}", printed.len(), proxy.cuts());
    assert!(status.success(), "{status}");
    assert_eq!(printed.iter().zip(&expected).find(|(printed, expected)| printed != expected), None);
    assert_eq!((printed.len(), rest), (expected.len(), vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_from_now_on_begins_with_the_next_change_and_ends_on_ctrl_c() {
    let (etcd, proxy) = embedded().await;
    write(&etcd, 5);
    let seen = history(&etcd).len();
    let mut running = Running::start(&[&proxy.address().to_string(), "k/"]);
    wait_until("it watches", PATIENCE, || watchers(&etcd) == 1).await;
    put(&etcd, "k/a", "after");
    assert_eq!(running.line().await.as_ref(), history(&etcd).get(seen));
    running.interrupt();
    let (status, rest, said) = running.end().await;
    assert!(status.success(), "{status}: {said}");
    assert_eq!(rest, [""; 0]);
    wait_until("its watch is gone", PATIENCE, || watchers(&etcd) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_connection_is_noticed() {
    let (etcd, proxy) = embedded().await;
    let mut running = Running::start(&[&proxy.address().to_string(), "k/", "1"]);
    put(&etcd, "k/a", "before");
    let mut printed = vec![running.line().await.expect("a line")];
    proxy.black_hole();
    put(&etcd, "k/a", "after");
    // The connection stays dead, but a new one is not.
    proxy.restore();
    printed.push(running.line().await.expect("a line"));
    assert_eq!(printed, history(&etcd));
    running.interrupt();
    let (status, _, said) = running.end().await;
    assert!(status.success() && said.contains("no answer to a ping"), "{status}: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_that_history_is_compacted() {
    let (etcd, proxy) = embedded().await;
    write(&etcd, 5);
    let revision = etcd.with_model(|model| model.revision());
    let request = CompactionRequest { revision, physical: true };
    etcd.with_model(|model| model.compact(&request)).expect("it is compacted");
    let (status, printed, said) = Running::start(&[&proxy.address().to_string(), "k/", "2"]).end().await;
    assert!(!status.success());
    assert_eq!(printed, [""; 0]);
    assert!(said.contains(&format!("compact_revision: {revision}")), "{said}");
}
