//! One real member, running or not.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use etcd_watch_binaries::{EtcdBinary, Version};
use tempfile::TempDir;

use super::{
    EtcdServerBuilder, EtcdVersion, Etcdctl, HarnessError,
    ports::Ports,
    process::{Log, Process},
    start::{Probe, Start},
    tls::ServerTls,
    wait::INTERVAL,
};

/// How long a server may take to end after SIGTERM. With open streams etcd itself waits up to 7 s.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How many lines of log an error shows.
pub(super) const TAIL: usize = 40;
/// What etcd calls a cluster that was given no name.
const DEFAULT_TOKEN: &str = "etcd-cluster";
/// The socket's name in the server's directory. etcd 3.4 takes only what looks like a host and a port.
const SOCKET: &str = "etcd.sock:1";

/// A real etcd server, with ports and data of its own, killed and removed when dropped.
///
/// If it is dropped by a panic, the end of its log is printed to standard error.
pub struct EtcdServer {
    // Before the directory: the process goes first.
    pub(super) process: Option<Process>,
    pub(super) log: Log,
    pub(super) name: String,
    /// Boxed, so that a server is cheap to move.
    pub(super) member: Box<Member>,
    pub(super) ports: Ports,
    /// Whether these ports have been its own, so that they stay.
    pub(super) has_served: bool,
    /// What the cluster's id is made of, besides the peer URLs.
    pub(super) token: String,
    directory: TempDir,
}

/// What a server is like, over all its restarts.
pub(super) struct Member {
    pub(super) binary: EtcdBinary,
    pub(super) flags: Vec<(String, String)>,
    /// Apart from the flags, since versions name it differently.
    pub(super) progress_notify_interval: Option<Duration>,
    pub(super) tls: Option<ServerTls>,
    pub(super) has_unix_socket: bool,
    pub(super) has_ipv6: bool,
    /// `None` if it is alone.
    pub(super) membership: Option<Membership>,
    pub(super) ready_within: Duration,
    /// A program that it is started by, with arguments; none if empty.
    pub(super) launcher: Vec<String>,
}

/// What a member of a cluster is told of the others.
#[derive(Clone)]
pub(super) struct Membership {
    pub(super) name: String,
    /// Where the others reach it: not the address it listens on.
    pub(super) advertised: SocketAddr,
    /// All members, as `--initial-cluster` has them.
    pub(super) initial_cluster: String,
    /// Whether the others are there already.
    pub(super) joins: bool,
    /// Where it says that clients reach it, if that is not where it listens.
    pub(super) client_url: Option<String>,
}

impl EtcdServer {
    /// A server of this version, with etcd's own defaults.
    pub fn builder(version: impl Into<EtcdVersion>) -> EtcdServerBuilder {
        EtcdServerBuilder::new(version.into())
    }

    pub(super) fn new(member: Member, ports: Ports, log: Log, directory: TempDir) -> Self {
        let name = member.membership.as_ref().map_or_else(unique_name, |membership| membership.name.clone());
        Self {
            process: None,
            log,
            name,
            member: Box::new(member),
            ports,
            has_served: false,
            token: DEFAULT_TOKEN.to_owned(),
            directory,
        }
    }

    /// Where clients reach it, the same over all restarts: `http://127.0.0.1:port`, with TLS
    /// `https://127.0.0.1:port`, or `unix:///path` if it was asked to have a socket.
    pub fn endpoint(&self) -> String {
        if self.member.has_unix_socket {
            // Sound in a URL: the system's directory for temporary files and a random name.
            format!("unix://{}", self.directory.path().join(SOCKET).display())
        } else {
            self.tcp_endpoint()
        }
    }

    fn tcp_endpoint(&self) -> String {
        let scheme = if self.member.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// The TCP address clients reach it at.
    pub fn address(&self) -> SocketAddr {
        self.ports.client_address()
    }

    /// The TCP address it listens on for the other members of its cluster. In an [`EtcdCluster`](super::EtcdCluster) they
    /// reach it by way of a proxy.
    pub fn peer_address(&self) -> SocketAddr {
        self.ports.peer_address()
    }

    /// Where `/metrics` and `/health` are, without TLS. On a port of their own they answer even while a member of a
    /// cluster doesn't serve clients.
    pub(super) fn pages_address(&self) -> SocketAddr {
        if self.has_pages_port() { self.ports.pages_address() } else { self.address() }
    }

    /// The address of `/health`. A member opens its client port only after it has published its name to the others. With TLS,
    /// it is the address of its other pages.
    pub(super) fn health_address(&self) -> SocketAddr {
        if self.member.tls.is_some() { self.pages_address() } else { self.address() }
    }

    fn has_pages_port(&self) -> bool {
        self.member.tls.is_some() || self.member.membership.is_some()
    }

    /// The PEM file with what its certificate is verified by, if it has TLS. One that a server makes for itself is there
    /// once it has started.
    pub fn ca_file(&self) -> Option<PathBuf> {
        let tls = self.member.tls.as_ref()?;
        Some(tls.ca_file(self.directory.path(), &self.data_directory()))
    }

    /// The directory that it runs in: relative paths in its flags and URLs are relative to it.
    pub fn working_directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it runs.
    pub fn binary(&self) -> &EtcdBinary {
        &self.member.binary
    }

    /// Its exact version.
    pub fn version(&self) -> Version {
        self.member.binary.version
    }

    /// The id of its process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Whether its process runs; one that ended by itself doesn't.
    ///
    /// # Errors
    /// If the system doesn't tell.
    pub fn has_process(&mut self) -> Result<bool, HarnessError> {
        let ended = self.process.as_mut().map(Process::ended).transpose();
        Ok(ended.map_err(HarnessError::io("look at etcd's process"))?.is_some_and(|ended| ended.is_none()))
    }

    /// The file that everything it wrote is in; gone when the server is dropped.
    pub fn log_path(&self) -> &Path {
        self.log.path()
    }

    /// The last lines it wrote.
    pub fn log_tail(&self, lines: usize) -> String {
        self.log.tail(lines)
    }

    /// The `etcdctl` that came with it, aimed at this server. With TLS it trusts the server's authority, and has a
    /// certificate if the server asks for one.
    ///
    /// # Errors
    /// If no `etcdctl` came with it and there is none on `PATH`.
    pub fn etcdctl(&self) -> Result<Etcdctl, HarnessError> {
        let etcdctl = Etcdctl::of(&self.member.binary, self.endpoint())?;
        Ok(match &self.member.tls {
            Some(tls) if !self.member.has_unix_socket => {
                tls.equip(etcdctl, self.directory.path(), &self.data_directory())
            }
            _ => etcdctl,
        })
    }

    /// Kills it, and keeps its data and its log when it is dropped, for somebody to look at; the directory they are
    /// in.
    pub fn keep(&mut self) -> &Path {
        self.kill();
        self.directory.disable_cleanup(true);
        self.directory.path()
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

    /// From its next start on it is of this version, on the data that it has. etcd takes data of its own line and of the
    /// one before.
    ///
    /// # Errors
    /// If there is no such server on this machine.
    pub fn set_version(&mut self, version: impl Into<EtcdVersion>) -> Result<(), HarnessError> {
        self.member.binary = version.into().find()?;
        Ok(())
    }

    /// From its next start on it has this flag, with this value or as `etcd` has it by itself; see
    /// [`EtcdServerBuilder::flag`].
    pub fn set_flag(&mut self, name: &str, value: Option<String>) {
        self.member.flags.retain(|(other, _)| other != name);
        self.member.flags.extend(value.map(|value| (name.to_owned(), value)));
    }

    /// From its next start on it is started by this program, which gets etcd's path and flags as its last arguments and has
    /// to become etcd in its place; by none if it is empty.
    pub fn set_launcher(&mut self, launcher: Vec<String>) {
        self.member.launcher = launcher;
    }

    /// Kills it if it runs, starts it again on the same ports with its data, and waits, blocking the thread, until
    /// it serves. A member of a cluster need only be up: it may wait for the others before it serves.
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
        let start = Start::new(self)?;
        self.finish_start(start).await
    }

    pub(super) async fn finish_start(&mut self, mut start: Start) -> Result<(), HarnessError> {
        loop {
            let found = look(Probe::of_start(self)).await?;
            if start.step(self, |_| found)? {
                return Ok(());
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Waits until it serves: it knows a leader, and what it proposes is committed. A restart waits for that by
    /// itself, except in a cluster.
    ///
    /// # Errors
    /// If it doesn't within the time it had for its start.
    pub async fn wait_until_healthy(&self) -> Result<(), HarnessError> {
        let waited = self.member.ready_within;
        let end = Instant::now() + waited;
        while let Err(last) = look(Probe::of(self)).await? {
            if Instant::now() >= end {
                return Err(HarnessError::NotReady { waited, last, log: self.log.tail(TAIL) });
            }
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(())
    }

    pub(super) fn launch(&mut self) -> Result<(), HarnessError> {
        if self.member.has_unix_socket {
            // A killed server leaves it, and then can't listen on it again.
            remove(fs::remove_file(self.directory.path().join(SOCKET)), "remove a server's socket")?;
        }
        let flags = self.launch_flags();
        let Member { binary, launcher, .. } = &*self.member;
        let started = Process::start(&binary.server, launcher, &flags, self.directory.path(), &self.log);
        self.process = Some(started.map_err(HarnessError::io(format!("start {}", binary.server.display())))?);
        Ok(())
    }

    fn launch_flags(&self) -> Vec<String> {
        let client = self.tcp_endpoint();
        let mut listening = client.clone();
        if self.member.has_unix_socket {
            // Relative to the directory it runs in.
            listening.push_str(&format!(",unix://{SOCKET}"));
        }
        if self.member.has_ipv6 {
            let (scheme, _) = client.split_once(':').unwrap_or_default();
            listening.push_str(&format!(",{scheme}://[::1]:{}", self.address().port()));
        }
        let (peer, initial_cluster) = (self.advertised_peer_url(), self.initial_cluster());
        let membership = self.member.membership.as_ref();
        let advertised = membership.and_then(|membership| membership.client_url.as_ref()).unwrap_or(&client);
        let mut flags = vec![
            format!("--name={}", self.name),
            format!("--data-dir={}", self.data_directory().display()),
            format!("--listen-client-urls={listening}"),
            format!("--advertise-client-urls={advertised}"),
            format!("--listen-peer-urls=http://{}", self.ports.peer_address()),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={initial_cluster}"),
            format!("--initial-cluster-token={}", self.token),
            "--logger=zap".to_owned(),
            "--log-outputs=stderr".to_owned(),
        ];
        if membership.is_some_and(|membership| membership.joins) {
            flags.push("--initial-cluster-state=existing".to_owned());
        }
        if self.has_pages_port() {
            flags.push(format!("--listen-metrics-urls=http://{}", self.ports.pages_address()));
        }
        if let Some(interval) = self.member.progress_notify_interval {
            let name = progress_notify_flag(self.version());
            flags.push(format!("--{name}={}", go_duration(interval)));
        }
        flags.extend(self.member.flags.iter().map(|(name, value)| format!("--{name}={value}")));
        flags
    }

    /// What it is told of the others at its next start without data.
    pub(super) fn set_membership(&mut self, initial_cluster: String, joins: bool) {
        if let Some(membership) = &mut self.member.membership {
            (membership.initial_cluster, membership.joins) = (initial_cluster, joins);
        }
    }

    pub(super) fn advertised_peer_url(&self) -> String {
        let advertised = self.member.membership.as_ref().map(|membership| membership.advertised);
        format!("http://{}", advertised.unwrap_or_else(|| self.ports.peer_address()))
    }

    /// All members, with their names and where the others reach them.
    pub(super) fn initial_cluster(&self) -> String {
        match &self.member.membership {
            Some(membership) => membership.initial_cluster.clone(),
            None => format!("{}={}", self.name, self.advertised_peer_url()),
        }
    }

    pub(super) fn data_directory(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(super) fn remove_data(&self) -> Result<(), HarnessError> {
        remove(fs::remove_dir_all(self.data_directory()), "remove a server's data")
    }

    /// Takes other ports; only for a member that never served, since its data names the ports.
    pub(super) fn move_to_other_ports(&mut self) -> Result<(), HarnessError> {
        self.ports = Ports::free().map_err(HarnessError::io("find free ports"))?;
        self.remove_data()
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

/// It may be that nothing is there to be removed.
fn remove(removed: io::Result<()>, action: &str) -> Result<(), HarnessError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HarnessError::io(action)(error)),
        _ => Ok(()),
    }
}

/// Looks without blocking the thread.
async fn look(probe: Probe) -> Result<Result<(), String>, HarnessError> {
    let looking = tokio::task::spawn_blocking(move || probe.run());
    looking.await.map_err(|error| HarnessError::io("look at etcd")(io::Error::other(error)))
}

/// A name that no other server of a test has, in this process or another.
pub(super) fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("test-{}-{count}-{:08x}", std::process::id(), fastrand::u32(..))
}

/// A duration as Go's flags have it.
pub(super) fn go_duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// From 3.6 on it isn't experimental any more.
fn progress_notify_flag(version: Version) -> &'static str {
    if version >= Version::new(3, 6, 0) {
        "watch-progress-notify-interval"
    } else {
        "experimental-watch-progress-notify-interval"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_flag_is_named_as_the_version_has_it() {
        assert!(progress_notify_flag(Version::new(3, 5, 30)).starts_with("experimental-"));
        assert!(progress_notify_flag(Version::new(3, 6, 0)).starts_with("watch-"));
    }
}
