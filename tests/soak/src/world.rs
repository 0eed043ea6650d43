//! The cluster, and a fault proxy between the clients and each member.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use etcd_watch_testkit::{
    harness::{EtcdCluster, RestoreAs, binaries::Version},
    proxy::FaultProxy,
};
use tokio::sync::RwLock;

use crate::{
    error::SoakError,
    faults::Fault,
    settings::Settings,
    storm::{clocks, disk, packets, versions::Lines},
};

/// How often watches that want to know hear how far they are.
const PROGRESS: Duration = Duration::from_secs(1);
/// How many members there are, but while one is added.
pub(crate) const MEMBERS: usize = 3;
/// How many may be added at a time.
const SPARES: usize = 1;

/// The cluster, and a fault proxy between the clients and each member, of those to come too.
pub(crate) struct World {
    pub(crate) cluster: RwLock<EtcdCluster>,
    pub(crate) links: Vec<FaultProxy>,
    /// Past the proxies.
    pub(crate) endpoints: Vec<String>,
    /// What members are of when it begins.
    pub(crate) version: Version,
    pub(crate) lines: Lines,
    /// The kinds of faults that can't be had, and why.
    pub(crate) unavailable: BTreeMap<Fault, String>,
    /// Members that can't be asked anything now.
    down: Vec<AtomicBool>,
}

impl World {
    pub(crate) async fn start(settings: &Settings) -> Result<Self, SoakError> {
        let mut links = Vec::new();
        for _ in 0..MEMBERS + SPARES {
            // Nobody is there yet.
            let link = FaultProxy::start("127.0.0.1:1").await;
            links.push(link.map_err(SoakError::io("start a fault proxy"))?);
        }
        let cluster = EtcdCluster::builder(settings.version.clone())
            .members(MEMBERS)
            .spares(SPARES)
            .advertise_to_clients(links.iter().map(FaultProxy::endpoint).collect())
            .each(|member| member.progress_notify_interval(PROGRESS).ready_within(settings.patience));
        let cluster = cluster.start_async().await?;
        let endpoints: Vec<String> =
            (0..links.len()).map(|number| cluster.member(number).endpoint()).collect();
        for (link, endpoint) in links.iter().zip(&endpoints) {
            link.set_upstream(endpoint);
        }
        let lines = Lines::of(cluster.member(0).binary());
        Ok(Self {
            version: cluster.member(0).version(),
            unavailable: unavailable(settings, &lines),
            lines,
            down: endpoints.iter().map(|_| AtomicBool::new(false)).collect(),
            endpoints,
            links,
            cluster: RwLock::new(cluster),
        })
    }

    /// Where clients reach the members, by way of the proxies.
    pub(crate) fn link_endpoints(&self) -> Vec<String> {
        self.links.iter().map(FaultProxy::endpoint).collect()
    }

    /// The numbers of all members.
    pub(crate) async fn numbers(&self) -> Vec<usize> {
        self.cluster.read().await.numbers()
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

    /// Saves the store as it is.
    pub(crate) async fn save(&self, path: &Path) -> Result<(), SoakError> {
        let cluster = self.cluster.read().await;
        let Some(&first) = cluster.numbers().first() else { return Ok(()) };
        Ok(cluster.member(first).snapshot(path).await?)
    }

    /// Lets all members go back to a snapshot.
    pub(crate) async fn restore(&self, snapshot: &Path, identity: RestoreAs) -> Result<(), SoakError> {
        (0..self.links.len()).for_each(|member| self.set_down(member, true));
        self.cluster.write().await.restore(snapshot, identity).await?;
        (0..self.links.len()).for_each(|member| self.set_down(member, false));
        Ok(())
    }

    /// Kills all members, and keeps what they have on disk; where that is.
    pub(crate) async fn keep(&self) -> Vec<String> {
        let mut cluster = self.cluster.write().await;
        let numbers = cluster.numbers();
        numbers.into_iter().map(|number| cluster.member_mut(number).keep().display().to_string()).collect()
    }
}

/// Which of the kinds that are wanted can't be had, and why.
fn unavailable(settings: &Settings, lines: &Lines) -> BTreeMap<Fault, String> {
    let lack = |fault: Fault| match fault {
        Fault::Upgrade => lines.no_upgrade(),
        Fault::Downgrade => lines.no_downgrade(),
        Fault::OtherClock => clocks::lack(),
        Fault::Loss => packets::lack(settings.is_apart),
        Fault::DiskFull => disk::lack(settings.is_apart),
        _ => None,
    };
    settings.faults.iter().filter_map(|&fault| Some((fault, lack(fault)?))).collect()
}
