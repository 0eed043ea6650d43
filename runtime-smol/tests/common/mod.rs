//! What the tests share.
#![allow(dead_code, reason = "each test uses some of it")]

use std::time::Duration;

use etcd_watch_smol::{ClientBuilder, KeyRange, Watch, WatchRequest};
use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion, wait_until_blocking};

/// Begins a client on the runtime that a test is for.
pub(crate) type On = fn() -> ClientBuilder;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// For any one thing a test waits for: much longer than it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Starts a server without any async runtime.
pub(crate) fn serve(version: EtcdVersion) -> EtcdServer {
    EtcdServer::builder(version).start().expect("etcd starts")
}

pub(crate) fn everything_from(revision: i64) -> WatchRequest {
    WatchRequest::new(KeyRange::all()).start_revision(revision)
}

/// The future's output, which has to come before the deadline. The timer is smol's, on any runtime.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let late = async {
        smol::Timer::after(DEADLINE).await;
        panic!("waited {DEADLINE:?} in vain until {what}")
    };
    futures_lite::future::or(future, late).await
}

/// The revisions of all events up to this one, and of what came together with it.
pub(crate) async fn revisions_through(watch: &mut Watch, last: i64) -> Vec<i64> {
    let mut revisions = Vec::new();
    while revisions.last().is_none_or(|&seen| seen < last) {
        let next = in_time(&format!("revision {last} comes"), watch.next()).await;
        let response = next.expect("the watch goes on").expect("it does not fail");
        revisions.extend(response.events().map(|event| event.mod_revision()));
    }
    revisions
}

/// Waits until nothing of a client is left on the server.
pub(crate) fn nothing_is_left_on(server: &EtcdServer) {
    wait_until_blocking("no watch is left", DEADLINE, || server.watcher_count().ok() == Some(0));
    wait_until_blocking("no stream is left", DEADLINE, || server.watch_stream_count().ok() == Some(0));
    #[cfg(target_os = "linux")]
    wait_until_blocking("no connection is left", DEADLINE, || connections_to(server.address().port()) == 0);
}

/// How many connections this process has to a port. The server has one to itself.
#[cfg(target_os = "linux")]
pub(crate) fn connections_to(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let files = std::fs::read_dir("/proc/self/fd").expect("Linux has it");
    let own: Vec<_> = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok()).collect();
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("Linux has it");
    let is_one = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[2].ends_with(&format!(":{port:04X}"))
            && fields[3] == ESTABLISHED
            && own.contains(&format!("socket:[{}]", fields[9]).into())
    };
    table.lines().skip(1).filter(is_one).count()
}

/// The names of the process's threads.
#[cfg(target_os = "linux")]
pub(crate) fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has it");
    // A thread may end while its name is read.
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    tasks.filter_map(name).map(|name| name.trim_end().to_owned()).collect()
}
