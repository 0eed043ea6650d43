//! One real member: its configuration, and when it is ready.

use std::{
    fmt::Display,
    fs, io,
    net::SocketAddr,
    path::Path,
    process::ExitStatus,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use etcd_watch_binaries::{EtcdBinary, Version};
use tempfile::TempDir;

use super::{
    EtcdVersion, Etcdctl, HarnessError, http,
    ports::Ports,
    process::{Log, Process},
    wait::INTERVAL,
};

/// How long a page of the server may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a server may take to end after SIGTERM. With open streams etcd itself waits up to 7 s.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How many lines of log an error shows.
const TAIL: usize = 40;
/// How many pairs of ports are tried.
const PORT_ATTEMPTS: usize = 5;

/// What a server is to be like; made by [`EtcdServer::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is started before `start`"]
pub struct EtcdServerBuilder {
    version: EtcdVersion,
    flags: Vec<(String, String)>,
    progress_notify_interval: Option<Duration>,
    ready_within: Duration,
}

impl EtcdServerBuilder {
    /// Any flag of `etcd`, without its dashes: `.flag("max-txn-ops", 1024)`. The last value of a flag counts.
    pub fn flag(mut self, name: &str, value: impl Display) -> Self {
        self.flags.push((name.trim_start_matches('-').to_owned(), value.to_string()));
        self
    }

    /// How often a synced watch that asked for it hears of the store's progress. Default: 10 minutes, etcd's own.
    pub fn progress_notify_interval(mut self, interval: Duration) -> Self {
        self.progress_notify_interval = Some(interval);
        self
    }

    /// The largest request that is accepted, in bytes; fragments are cut 512 KiB above it. Default: 1.5 MiB,
    /// etcd's own.
    pub fn max_request_bytes(self, bytes: usize) -> Self {
        self.flag("max-request-bytes", bytes)
    }

    /// Compacts history older than this, over and over. Default: never.
    pub fn auto_compaction(self, retention: Duration) -> Self {
        self.flag("auto-compaction-mode", "periodic")
            .flag("auto-compaction-retention", go_duration(retention))
    }

    /// After how many transactions a snapshot is written to disk. Default: 100,000, etcd's own.
    pub fn snapshot_count(self, transactions: u64) -> Self {
        self.flag("snapshot-count", transactions)
    }

    /// How long the server may take to serve before its start is an error. Default: 30 s, for machines that are
    /// busy with other tests; it takes half a second where they aren't.
    pub fn ready_within(mut self, deadline: Duration) -> Self {
        self.ready_within = deadline;
        self
    }

    /// Starts the server and waits, blocking the thread, until it serves.
    ///
    /// # Errors
    /// If there is no such server on this machine, or it ends or doesn't serve in time, with the end of its log.
    pub fn start(self) -> Result<EtcdServer, HarnessError> {
        let mut server = self.build()?;
        server.restart()?;
        Ok(server)
    }

    /// The same without blocking the thread, for tests on a single-threaded runtime.
    ///
    /// # Errors
    /// As [`start`](EtcdServerBuilder::start).
    pub async fn start_async(self) -> Result<EtcdServer, HarnessError> {
        let mut server = self.build()?;
        server.restart_async().await?;
        Ok(server)
    }

    fn build(self) -> Result<EtcdServer, HarnessError> {
        let binary = self.version.find()?;
        let temporary = tempfile::Builder::new().prefix("etcd-watch-").tempdir();
        let directory = temporary.map_err(HarnessError::io("make a directory for a server"))?;
        let ports = Ports::free().map_err(HarnessError::io("find free ports"))?;
        let mut flags = self.flags;
        if let Some(interval) = self.progress_notify_interval {
            let name = progress_notify_flag(binary.version).to_owned();
            flags.insert(0, (name, go_duration(interval)));
        }
        if binary.version >= Version::new(3, 5, 0) {
            // Tests kill the process, never the machine, and that leaves the system's own buffers alone.
            flags.insert(0, ("unsafe-no-fsync".to_owned(), "true".to_owned()));
        }
        Ok(EtcdServer {
            process: None,
            log: Log::new(directory.path().join("etcd.log")),
            name: unique_name(),
            binary,
            flags,
            ports,
            ready_within: self.ready_within,
            has_served: false,
            directory,
        })
    }
}

/// A real etcd server of one member, with ports and data of its own, killed and removed when dropped.
///
/// If it is dropped by a panic, the end of its log is printed to standard error.
pub struct EtcdServer {
    // Before the directory: the process goes first.
    process: Option<Process>,
    log: Log,
    name: String,
    binary: EtcdBinary,
    flags: Vec<(String, String)>,
    ports: Ports,
    ready_within: Duration,
    /// Whether these ports have been its own, so that they stay.
    has_served: bool,
    directory: TempDir,
}

impl EtcdServer {
    /// A server of this version, with etcd's own defaults.
    pub fn builder(version: impl Into<EtcdVersion>) -> EtcdServerBuilder {
        EtcdServerBuilder {
            version: version.into(),
            flags: Vec::new(),
            progress_notify_interval: None,
            ready_within: Duration::from_secs(30),
        }
    }

    /// Where clients reach it, as `http://127.0.0.1:port`; the same over all restarts.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The address clients reach it at.
    pub fn address(&self) -> SocketAddr {
        self.ports.client_address()
    }

    /// What it runs.
    pub fn binary(&self) -> &EtcdBinary {
        &self.binary
    }

    /// Its exact version.
    pub fn version(&self) -> Version {
        self.binary.version
    }

    /// The id of its process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The file that everything it wrote is in; gone when the server is dropped.
    pub fn log_path(&self) -> &Path {
        self.log.path()
    }

    /// The last lines it wrote.
    pub fn log_tail(&self, lines: usize) -> String {
        self.log.tail(lines)
    }

    /// The `etcdctl` that came with it, aimed at this server.
    ///
    /// # Errors
    /// If no `etcdctl` came with it and there is none on `PATH`.
    pub fn etcdctl(&self) -> Result<Etcdctl, HarnessError> {
        Etcdctl::of(&self.binary, self.endpoint())
    }

    /// Kills it (SIGKILL) and waits for its end. Connections to it are reset. Nothing happens if it doesn't run.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to end (SIGTERM), as an operator would, and waits until it has. It takes its leave of its clients
    /// first, and with open streams that lasts up to 7 s.
    ///
    /// # Errors
    /// If it doesn't run, or doesn't end within 20 s and is killed.
    pub fn stop(&mut self) -> Result<ExitStatus, HarnessError> {
        let mut process = self.process.take().ok_or(HarnessError::NotRunning { action: "stop it" })?;
        let ended = process.terminate(STOP_PATIENCE).map_err(HarnessError::io("stop etcd"))?;
        ended.ok_or_else(|| HarnessError::NotStopped { waited: STOP_PATIENCE, log: self.log.tail(TAIL) })
    }

    /// Freezes it (SIGSTOP): connections stay open, the kernel still accepts bytes, nothing answers. It has stopped
    /// when this returns.
    ///
    /// # Errors
    /// If it doesn't run.
    pub fn pause(&self) -> Result<(), HarnessError> {
        let process = self.process.as_ref().ok_or(HarnessError::NotRunning { action: "pause it" })?;
        process.freeze().map_err(HarnessError::io("pause etcd"))
    }

    /// Lets it go on after [`pause`](EtcdServer::pause) (SIGCONT).
    ///
    /// # Errors
    /// If it doesn't run.
    pub fn resume(&self) -> Result<(), HarnessError> {
        let process = self.process.as_ref().ok_or(HarnessError::NotRunning { action: "resume it" })?;
        process.thaw().map_err(HarnessError::io("resume etcd"))
    }

    /// Kills it if it runs, starts it again on the same ports with its data, and waits, blocking the thread, until
    /// it serves.
    ///
    /// # Errors
    /// If it ends or doesn't serve in time, with the end of its log.
    pub fn restart(&mut self) -> Result<(), HarnessError> {
        let mut start = Start::new(self)?;
        while !start.step(self, |probe| probe.run())? {
            thread::sleep(INTERVAL);
        }
        Ok(())
    }

    /// The same without blocking the thread, so that a client on a single-threaded runtime goes on meanwhile.
    ///
    /// # Errors
    /// As [`restart`](EtcdServer::restart).
    pub async fn restart_async(&mut self) -> Result<(), HarnessError> {
        let mut start = Start::new(self)?;
        loop {
            let probe = Probe::of(self);
            let found = tokio::task::spawn_blocking(move || probe.run())
                .await
                .map_err(|error| HarnessError::io("look at etcd")(io::Error::other(error)))?;
            if start.step(self, |_| found)? {
                return Ok(());
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// The value of one of its metrics, summed over the metric's labels.
    ///
    /// # Errors
    /// If the server doesn't answer, or has no such metric.
    pub fn metric(&self, name: &str) -> Result<f64, HarnessError> {
        let page = http::get(self.address(), "/metrics", PAGE_TIMEOUT);
        let page = page.map_err(HarnessError::io("read etcd's metrics"))?;
        sum_of_metric(&page, name).ok_or_else(|| HarnessError::NoMetric {
            name: name.to_owned(),
            version: self.version().to_string(),
        })
    }

    /// How many watches it holds, over all clients.
    ///
    /// # Errors
    /// If the server doesn't answer.
    pub fn watcher_count(&self) -> Result<u64, HarnessError> {
        Ok(self.metric("etcd_debugging_mvcc_watcher_total")? as u64)
    }

    /// How many of its watches still catch up with history.
    ///
    /// # Errors
    /// If the server doesn't answer.
    pub fn slow_watcher_count(&self) -> Result<u64, HarnessError> {
        Ok(self.metric("etcd_debugging_mvcc_slow_watcher_total")? as u64)
    }

    /// How many watch streams it holds, over all clients.
    ///
    /// # Errors
    /// If the server doesn't answer.
    pub fn watch_stream_count(&self) -> Result<u64, HarnessError> {
        Ok(self.metric("etcd_debugging_mvcc_watch_stream_total")? as u64)
    }

    fn launch(&mut self) -> Result<(), HarnessError> {
        let (client, peer) = (self.endpoint(), format!("http://{}", self.ports.peer_address()));
        let data = self.directory.path().join("data").display().to_string();
        let mut flags = vec![
            format!("--name={}", self.name),
            format!("--data-dir={data}"),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={}={peer}", self.name),
            "--logger=zap".to_owned(),
            "--log-outputs=stderr".to_owned(),
        ];
        flags.extend(self.flags.iter().map(|(name, value)| format!("--{name}={value}")));
        let server = &self.binary.server;
        let started = Process::start(server, &flags, &self.log);
        self.process = Some(started.map_err(HarnessError::io(format!("start {}", server.display())))?);
        Ok(())
    }

    /// Takes other ports; only for a member that never served, since its data names the ports.
    fn move_to_other_ports(&mut self) -> Result<(), HarnessError> {
        self.ports = Ports::free().map_err(HarnessError::io("find free ports"))?;
        match fs::remove_dir_all(self.directory.path().join("data")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(HarnessError::io("remove a server's data")(error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for EtcdServer {
    #[allow(clippy::print_stderr, reason = "shown with the failure of the test that panics")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the end of the log of etcd {} at {}:", self.version(), self.endpoint());
            eprintln!("{}", self.log.tail(TAIL));
        }
    }
}

/// A start under way.
struct Start {
    end: Instant,
    log_length: u64,
    ports_tried: usize,
}

impl Start {
    fn new(server: &mut EtcdServer) -> Result<Start, HarnessError> {
        server.kill();
        let log_length = server.log.length();
        server.launch()?;
        Ok(Start { end: Instant::now() + server.ready_within, log_length, ports_tried: 1 })
    }

    /// Looks at the server once; whether it serves.
    fn step(
        &mut self,
        server: &mut EtcdServer,
        probe: impl FnOnce(Probe) -> Result<(), String>,
    ) -> Result<bool, HarnessError> {
        let process = server.process.as_mut().ok_or(HarnessError::NotRunning { action: "wait for it" })?;
        if let Some(status) = process.ended().map_err(HarnessError::io("wait for etcd"))? {
            self.recover_from_end(server, status)?;
            return Ok(false);
        }
        match probe(Probe::of(server)) {
            Ok(()) => {
                server.has_served = true;
                Ok(true)
            }
            Err(_) if Instant::now() < self.end => Ok(false),
            Err(last) => {
                server.kill();
                let log = server.log.tail(TAIL);
                Err(HarnessError::NotReady { waited: server.ready_within, last, log })
            }
        }
    }

    /// A server whose ports somebody else took starts over: on other ports, or once they are free again if clients
    /// know them.
    fn recover_from_end(&mut self, server: &mut EtcdServer, status: ExitStatus) -> Result<(), HarnessError> {
        let clashed = server.log.since(self.log_length).contains("address already in use");
        let try_again = clashed
            && if server.has_served { Instant::now() < self.end } else { self.ports_tried < PORT_ATTEMPTS };
        server.kill();
        if !try_again {
            return Err(HarnessError::Exited { status: status.to_string(), log: server.log.tail(TAIL) });
        }
        if !server.has_served {
            self.ports_tried += 1;
            server.move_to_other_ports()?;
        }
        self.log_length = server.log.length();
        server.launch()
    }
}

/// A look at whether a server serves.
struct Probe {
    ports: Ports,
    name: String,
}

impl Probe {
    fn of(server: &EtcdServer) -> Probe {
        Probe { ports: server.ports, name: server.name.clone() }
    }

    /// The member list comes from the peer port and names the member: so both ports are this server's, and not of
    /// another one that took them first. Healthy is one that has a leader and commits.
    fn run(self) -> Result<(), String> {
        let members = page(self.ports.peer_address(), "/members")?;
        if !members.contains(&format!("\"{}\"", self.name)) {
            return Err(format!("another server is on port {}: {members}", self.ports.peer));
        }
        let health = page(self.ports.client_address(), "/health")?;
        if health.contains("\"true\"") { Ok(()) } else { Err(format!("/health says {health}")) }
    }
}

fn page(address: SocketAddr, path: &str) -> Result<String, String> {
    http::get(address, path, PAGE_TIMEOUT).map_err(|error| format!("{path}: {error}"))
}

/// A name that no other server of a test has, in this process or another.
fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("test-{}-{count}-{:08x}", std::process::id(), fastrand::u32(..))
}

/// From 3.6 on it isn't experimental any more.
fn progress_notify_flag(version: Version) -> &'static str {
    if version >= Version::new(3, 6, 0) {
        "watch-progress-notify-interval"
    } else {
        "experimental-watch-progress-notify-interval"
    }
}

/// A duration as Go's flags have it.
fn go_duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// The sum of a metric's samples in a page of metrics.
fn sum_of_metric(page: &str, name: &str) -> Option<f64> {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then(|| value.parse::<f64>().ok())?
    });
    values.fold(None, |sum: Option<f64>, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_mixed_with_others() {
        let page = "# HELP watcher_total Watchers.\n# TYPE watcher_total gauge\nwatcher_total 3\n\
                    watcher_total_more 100\nsent{to=\"a b\"} 1.5e+06\nsent{to=\"c\"} 2\n";
        assert_eq!(sum_of_metric(page, "watcher_total"), Some(3.0));
        assert_eq!(sum_of_metric(page, "sent"), Some(1_500_002.0));
        assert_eq!(sum_of_metric(page, "watcher"), None);
    }

    #[test]
    fn the_progress_flag_is_named_as_the_version_has_it() {
        assert!(progress_notify_flag(Version::new(3, 5, 30)).starts_with("experimental-"));
        assert!(progress_notify_flag(Version::new(3, 6, 0)).starts_with("watch-"));
    }
}
