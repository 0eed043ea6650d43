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
//! | `network` | the proxies, and who may talk to whom |
//! | `link` | one connection between two members |
//! | `head` | who sends, from the heads of requests |

mod builder;
mod head;
mod leader;
mod link;
mod network;

use std::{io, path::Path};

use serde_json::Value;

pub use builder::EtcdClusterBuilder;
use network::PeerNetwork;

use super::{EtcdServer, EtcdVersion, Etcdctl, HarnessError, RestoreAs, http, start::PAGE_TIMEOUT};

/// A real etcd cluster on this machine; its members are killed and removed when it is dropped.
///
/// If it is dropped by a panic, the end of every member's log is printed to standard error.
pub struct EtcdCluster {
    // Before the network: a member that is dropped doesn't need it.
    members: Vec<EtcdServer>,
    network: PeerNetwork,
}

impl EtcdCluster {
    /// A cluster of this version, of three members.
    pub fn builder(version: impl Into<EtcdVersion>) -> EtcdClusterBuilder {
        EtcdClusterBuilder::new(version.into())
    }

    /// How many members it has, running or not.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// A member, by its number from 0 on.
    ///
    /// # Panics
    /// If there is no such member.
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
        self.members.iter()
    }

    /// The numbers of all members but one.
    pub fn all_but(&self, number: usize) -> Vec<usize> {
        (0..self.size()).filter(|&other| other != number).collect()
    }

    /// Where clients reach the members, in the order of their numbers.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(EtcdServer::endpoint).collect()
    }

    /// An `etcdctl` aimed at all members.
    ///
    /// # Errors
    /// If no `etcdctl` came with the server and there is none on `PATH`.
    pub fn etcdctl(&self) -> Result<Etcdctl, HarnessError> {
        let first = self.members.first().ok_or(HarnessError::NotRunning { action: "run etcdctl" })?;
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
        assert!(side.iter().all(|&number| number < self.size()), "no such member among {side:?}");
        self.network.change(|rules| rules.side = Some(side.to_vec()));
    }

    /// Ends the partition: connections that were cut off are reset, and the members make new ones.
    pub fn heal(&self) {
        self.network.change(|rules| rules.side = None);
    }

    /// Kills all members and starts them again on the store of a snapshot, as
    /// [`EtcdServer::restore`] does for one that is alone.
    ///
    /// # Errors
    /// If `etcdctl` can't read the snapshot, or a member doesn't start on it.
    pub async fn restore(&mut self, path: &Path, identity: RestoreAs) -> Result<(), HarnessError> {
        let Some(token) = self.members.first().map(|member| identity.token(&member.token)) else {
            return Ok(());
        };
        for member in &mut self.members {
            member.kill();
        }
        for member in &mut self.members {
            member.restore_data(path, token.clone()).await?;
        }
        self.start_all().await
    }

    /// The members' ids, in the order of their numbers.
    fn read_member_ids(&self) -> Result<Vec<u64>, HarnessError> {
        let Some(first) = self.members.first() else { return Ok(Vec::new()) };
        let page = http::get(first.ports.peer_address(), "/members", PAGE_TIMEOUT);
        let page = page.map_err(HarnessError::io("read the cluster's members"))?;
        let ids = self.members.iter().map(|member| id_of(&page, &member.name)).collect::<Option<Vec<_>>>();
        ids.ok_or_else(|| HarnessError::io("find all members in the cluster's list")(io::Error::other(page)))
    }
}

/// A member's id, from the list that the peer port shows.
fn id_of(page: &str, name: &str) -> Option<u64> {
    let list: Value = serde_json::from_str(page).ok()?;
    list.as_array()?.iter().find(|member| member["name"] == name)?["id"].as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_members_id_is_read_to_its_last_bit() {
        let page = r#"[{"id":10276657743932975437,"peerURLs":["http://a"],"name":"one","clientURLs":[]},
                       {"id":2,"peerURLs":["http://b"],"name":"two","clientURLs":["http://c"]}]"#;
        assert_eq!(id_of(page, "one"), Some(0x8e9e_05c5_2164_694d));
        assert_eq!(id_of(page, "two"), Some(2));
        assert_eq!(id_of(page, "three"), None);
    }
}
