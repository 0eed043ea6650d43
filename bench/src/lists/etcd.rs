//! An etcd to list from.

use std::time::Duration;

use anyhow::{Context, Result};
use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};
use etcd_watch_tokio::{Put, Txn};

use crate::cpu;

/// Keys in one transaction; the server is told to allow it.
const TXN_OPS: usize = 5_000;

/// Room for the largest ranges, in bytes.
const QUOTA: u64 = 8 << 30;

/// Starts a server with a directory of its own.
pub(super) fn start(version: EtcdVersion) -> Result<EtcdServer> {
    let server = EtcdServer::builder(version).flag("max-txn-ops", TXN_OPS).flag("quota-backend-bytes", QUOTA);
    Ok(server.flag("log-level", "error").start()?)
}

/// The processor time that the server has taken, in seconds.
pub(super) fn cpu_of(server: &EtcdServer) -> Result<f64> {
    cpu::of_process(server.pid().context("the server has ended")?)
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
