//! etcd's own gRPC proxy.

use std::{
    fmt::Display,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    EtcdServer, HarnessError,
    ports::free_listener,
    process::{Log, Process},
    server::TAIL,
    wait::wait_until,
};

/// How long the proxy may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// An `etcd grpc-proxy` in front of a server, of the server's version, killed and removed when dropped.
///
/// If it is dropped by a panic, the end of its log is printed to standard error.
pub struct GrpcProxy {
    // Before the directory: the process goes first.
    _process: Process,
    log: Log,
    address: SocketAddr,
    _directory: TempDir,
}

impl GrpcProxy {
    /// A proxy of a server's version, which reaches that server without TLS at `endpoint`.
    ///
    /// # Errors
    /// If it can't be started.
    ///
    /// # Panics
    /// If it doesn't listen in time.
    pub async fn start(server: &EtcdServer, endpoint: impl Display) -> Result<Self, HarnessError> {
        let temporary = tempfile::Builder::new().prefix("etcd-watch-proxy-").tempdir();
        let directory = temporary.map_err(HarnessError::io("make a directory for a proxy"))?;
        let log = Log::new(directory.path().join("proxy.log"));
        // Free again as soon as it is known.
        let address = free_listener().and_then(|listener| listener.local_addr());
        let address = address.map_err(HarnessError::io("find a free port"))?;
        let flags = [
            "grpc-proxy".to_owned(),
            "start".to_owned(),
            format!("--endpoints={endpoint}"),
            format!("--listen-addr={address}"),
            // 3.5's is a client of its own by this address, and ends if it can't reach itself.
            format!("--advertise-client-url={address}"),
        ];
        let started = Process::start(&server.binary().server, &[], &flags, directory.path(), &log);
        let process = started.map_err(HarnessError::io("start a gRPC proxy"))?;
        let proxy = Self { _process: process, log, address, _directory: directory };
        wait_until("the gRPC proxy listens", READY_WITHIN, || TcpStream::connect(address).is_ok()).await;
        Ok(proxy)
    }

    /// Where clients reach it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for GrpcProxy {
    #[allow(clippy::print_stderr, reason = "shown with the failure of the test that panics")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the end of the gRPC proxy's log:\n{}", self.log.tail(TAIL));
        }
    }
}
