//! The cluster, and a fault proxy between the clients and each member.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use etcd_watch_testkit::{
    harness::{EtcdCluster, EtcdVersion, RestoreAs, binaries::Version},
    proxy::FaultProxy,
};
use tokio::sync::RwLock;

use crate::error::SoakError;

/// How often watches that want to know hear how far they are.
const PROGRESS: Duration = Duration::from_secs(1);

/// The cluster, and a fault proxy between the clients and each member.
pub(crate) struct World {
    pub(crate) cluster: RwLock<EtcdCluster>,
    pub(crate) links: Vec<FaultProxy>,
    /// Past the proxies.
    pub(crate) endpoints: Vec<String>,
    pub(crate) version: Version,
    /// Members that can't be asked anything now.
    down: Vec<AtomicBool>,
}

impl World {
    pub(crate) async fn start(version: EtcdVersion, patience: Duration) -> Result<Self, SoakError> {
        let cluster = EtcdCluster::builder(version)
            .each(|member| member.progress_notify_interval(PROGRESS).ready_within(patience));
        let cluster = cluster.start_async().await?;
        let mut links = Vec::new();
        for member in cluster.members() {
            links.push(
                FaultProxy::start(member.endpoint()).await.map_err(SoakError::io("start a fault proxy"))?,
            );
        }
        let endpoints = cluster.endpoints();
        let down = endpoints.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Self {
            version: cluster.member(0).version(),
            endpoints,
            links,
            down,
            cluster: RwLock::new(cluster),
        })
    }

    /// Where clients reach the members, by way of the proxies.
    pub(crate) fn link_endpoints(&self) -> Vec<String> {
        self.links.iter().map(FaultProxy::endpoint).collect()
    }

    pub(crate) fn size(&self) -> usize {
        self.endpoints.len()
    }

    pub(crate) fn set_down(&self, member: usize, down: bool) {
        self.down[member].store(down, Ordering::SeqCst);
    }

    /// Waits until every member serves, and all agree on a leader.
    pub(crate) async fn settle(&self) -> Result<(), SoakError> {
        let cluster = self.cluster.read().await;
        for member in cluster.members() {
            member.wait_until_healthy().await?;
        }
        cluster.wait_for_leader().await?;
        Ok(())
    }

    /// How many watches all members hold together; `None` while one of them can't be asked.
    pub(crate) fn server_watchers(&self) -> Option<u64> {
        if self.down.iter().any(|down| down.load(Ordering::SeqCst)) {
            return None;
        }
        let cluster = self.cluster.try_read().ok()?;
        // The harness asks with a blocking read.
        tokio::task::block_in_place(|| {
            cluster.members().map(|member| member.watcher_count().ok()).sum::<Option<u64>>()
        })
    }

    /// Lets all members go back to a snapshot.
    pub(crate) async fn restore(&self, snapshot: &Path, identity: RestoreAs) -> Result<(), SoakError> {
        (0..self.size()).for_each(|member| self.set_down(member, true));
        self.cluster.write().await.restore(snapshot, identity).await?;
        (0..self.size()).for_each(|member| self.set_down(member, false));
        Ok(())
    }

    /// Kills all members, and keeps what they have on disk; where that is.
    pub(crate) async fn keep(&self) -> Vec<String> {
        let mut cluster = self.cluster.write().await;
        (0..self.size()).map(|number| cluster.member_mut(number).keep().display().to_string()).collect()
    }
}
