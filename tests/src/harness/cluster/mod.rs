//! Several real members that are one cluster, and a network between them that can be partitioned.
//!
//! Every member advertises to the others not its own peer port but a proxy's in front of it. etcd's requests between
//! members name their sender in a header, so the proxy of a member knows who dials, and a partition is a rule about
//! pairs of members. This needs no privileges, no firewall and no network namespaces, and works wherever tests run;
//! the price is that requests without that header, by which members ask each other whether they are alive and of which
//! version, pass a partition. Nothing of raft is among them.
//!
//! ```no_run
//! # async fn example() -> Result<(), etcd_watch_testkit::harness::HarnessError> {
//! use etcd_watch_testkit::harness::{EtcdCluster, EtcdVersion};
//!
//! let mut cluster = EtcdCluster::builder(EtcdVersion::V3_5).start_async().await?;
//! let leader = cluster.wait_for_leader().await?;
//! cluster.partition(&[leader]);
//! cluster.wait_until_leaderless(leader).await?;
//! let next = cluster.wait_for_leader_among(&cluster.all_but(leader)).await?;
//! cluster.heal();
//! cluster.member_mut(next).restart_async().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `builder` | what a cluster is to be like, and its start |
//! | `leader` | who leads |
//! | `membership` | members that come and go |
//! | `network` | the proxies, and who may talk to whom |
//! | `link` | one connection between two members |
//! | `head` | who sends, from the heads of requests |

mod builder;
mod head;
mod leader;
mod link;
mod membership;
mod network;

use std::{collections::BTreeSet, path::Path};

pub use builder::EtcdClusterBuilder;
use network::PeerNetwork;

use super::{EtcdServer, EtcdVersion, Etcdctl, HarnessError, RestoreAs};

/// A real etcd cluster on this machine; its members are killed and removed when it is dropped.
///
/// If it is dropped by a panic, the end of every member's log is printed to standard error.
pub struct EtcdCluster {
    // Before the network: a member that is dropped doesn't need it.
    /// By number: who is a member, and who may become one.
    members: Vec<EtcdServer>,
    /// The numbers that no member has.
    free: BTreeSet<usize>,
    /// The numbers of its first members. The cluster's id is computed from theirs.
    first: Vec<usize>,
    network: PeerNetwork,
}

impl EtcdCluster {
    /// A cluster of this version, of three members.
    pub fn builder(version: impl Into<EtcdVersion>) -> EtcdClusterBuilder {
        EtcdClusterBuilder::new(version.into())
    }

    /// How many members it has, running or not.
    pub fn size(&self) -> usize {
        self.numbers().len()
    }

    /// The numbers of all members, in order.
    pub fn numbers(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|number| !self.free.contains(number)).collect()
    }

    /// The numbers that no member has: of [spares](EtcdClusterBuilder::spares) that have not joined, and of members that
    /// were removed.
    pub fn free_numbers(&self) -> Vec<usize> {
        self.free.iter().copied().collect()
    }

    /// A member, by its number from 0 on; or what will be one.
    ///
    /// # Panics
    /// If there is no such number.
    pub fn member(&self, number: usize) -> &EtcdServer {
        &self.members[number]
    }

    /// A member, to kill, stop or restart it. A restarted member is up when its restart returns; it serves once it has
    /// found a majority of the others ([`wait_until_healthy`](EtcdServer::wait_until_healthy)).
    ///
    /// # Panics
    /// If there is no such member.
    pub fn member_mut(&mut self, number: usize) -> &mut EtcdServer {
        &mut self.members[number]
    }

    /// All members, by their numbers.
    pub fn members(&self) -> impl Iterator<Item = &EtcdServer> {
        self.numbers().into_iter().map(|number| &self.members[number])
    }

    /// The numbers of all members but one.
    pub fn all_but(&self, number: usize) -> Vec<usize> {
        self.numbers().into_iter().filter(|&other| other != number).collect()
    }

    /// Where clients reach the members, in the order of their numbers.
    pub fn endpoints(&self) -> Vec<String> {
        self.members().map(EtcdServer::endpoint).collect()
    }

    /// An `etcdctl` aimed at all members.
    ///
    /// # Errors
    /// If no `etcdctl` came with the server and there is none on `PATH`.
    pub fn etcdctl(&self) -> Result<Etcdctl, HarnessError> {
        let first = self.members().next().ok_or(HarnessError::NotRunning { action: "run etcdctl" })?;
        Ok(first.etcdctl()?.with_endpoint(self.endpoints().join(",")))
    }

    /// Cuts these members off from the rest, in both directions: what they send each other is lost, and neither side
    /// hears that a connection is gone. On one side all goes on as before. A partition that was there is replaced.
    ///
    /// It is only about members: clients reach all of them.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn partition(&self, side: &[usize]) {
        assert!(side.iter().all(|number| self.numbers().contains(number)), "no such member among {side:?}");
        self.network.change(|rules| rules.side = Some(side.to_vec()));
    }

    /// Ends the partition: connections that were cut off are reset, and the members make new ones.
    pub fn heal(&self) {
        self.network.change(|rules| rules.side = None);
    }

    /// Kills all members and starts them again on the store of a snapshot, as
    /// [`EtcdServer::restore`] does for one that is alone. Only a cluster with the members that it had at first can be the
    /// same: those are its members then, whoever was added or removed since.
    ///
    /// # Errors
    /// If `etcdctl` can't read the snapshot, or a member doesn't start on it.
    pub async fn restore(&mut self, path: &Path, identity: RestoreAs) -> Result<(), HarnessError> {
        // Members that came later don't have the cluster's token.
        let Some(token) = self.first.first().map(|&number| identity.token(&self.members[number].token))
        else {
            return Ok(());
        };
        let binary = self.members().next().map(|member| member.member.binary.clone());
        self.members.iter_mut().for_each(EtcdServer::kill);
        if identity == RestoreAs::AnotherCluster {
            self.first = self.numbers();
        }
        self.free = (0..self.members.len()).filter(|number| !self.first.contains(number)).collect();
        let initial_cluster = self.initial_cluster();
        for (number, member) in self.members.iter_mut().enumerate() {
            if self.free.contains(&number) {
                member.remove_data()?;
                continue;
            }
            if let Some(binary) = &binary {
                member.member.binary = binary.clone();
            }
            member.set_membership(initial_cluster.clone(), false);
            member.restore_data(path, token.clone()).await?;
        }
        self.start_all().await
    }
}
