//! An etcd to list from.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use etcd_watch_tokio::{Put, Txn};

use crate::cpu;

/// Keys in one transaction; the server is told to allow it.
const TXN_OPS: usize = 5_000;

/// A server with a directory of its own. Dropping it ends it.
pub(super) struct Etcd {
    process: Child,
    endpoint: String,
    version: String,
    _directory: tempfile::TempDir,
}

impl Etcd {
    pub(super) fn start(etcd: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let [client, peer] = [free_port()?, free_port()?].map(|port| format!("http://127.0.0.1:{port}"));
        let version =
            Command::new(etcd).arg("--version").output().with_context(|| format!("can't run {etcd:?}"))?;
        let version = String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().to_owned();
        let process = Command::new(etcd)
            .arg("--data-dir")
            .arg(directory.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
            .args(["--quota-backend-bytes", "8589934592", "--unsafe-no-fsync"])
            .arg(format!("--max-txn-ops={TXN_OPS}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { process, endpoint: client, version, _directory: directory })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The processor time that it has taken, in seconds.
    pub(super) fn cpu(&self) -> Result<f64> {
        cpu::of_process(self.process.id())
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Puts so many keys under a prefix.
pub(super) async fn fill(endpoint: &str, prefix: &str, keys: usize, value_bytes: usize) -> Result<()> {
    let client = etcd_watch_tokio::builder()
        .endpoints([endpoint])
        .request_timeout(Duration::from_secs(60))
        .connect_lazy()?;
    for start in (0..keys).step_by(TXN_OPS) {
        let puts = (start..keys.min(start + TXN_OPS))
            .map(|index| Put::new(format!("{prefix}{index:09}"), vec![b'v'; value_bytes]));
        client.txn(puts.fold(Txn::new(), |txn, put| txn.and_then(put))).await?;
    }
    client.close().await;
    Ok(())
}
