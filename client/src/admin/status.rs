//! How a member is.

use std::sync::Arc;

use etcd_watch_core::{Header, printable};
use etcd_watch_proto::etcdserverpb as pb;

use crate::{Endpoint, transport::wire::header};

/// How a member is, by its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    endpoint: Arc<Endpoint>,
    header: Header,
    status: Box<pb::StatusResponse>,
}

impl MemberStatus {
    pub(super) fn new(endpoint: Arc<Endpoint>, mut status: pb::StatusResponse) -> Self {
        let header = header(status.header.take());
        status.version = printable(status.version);
        status.storage_version = printable(status.storage_version);
        status.errors = status.errors.into_iter().map(printable).collect();
        if let Some(downgrade) = &mut status.downgrade_info {
            downgrade.target_version = printable(std::mem::take(&mut downgrade.target_version));
        }
        Self { endpoint, header, status: Box::new(status) }
    }

    /// Where it was asked.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What the member tells of itself with the answer: its id, and its store's revision.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// The version of its software, such as `3.5.30`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.status.version
    }

    /// The bytes that its database takes on disk.
    #[must_use]
    pub fn db_size(&self) -> u64 {
        bytes(self.status.db_size)
    }

    /// The bytes of its database that hold data: the rest is what [`defragment`](super::Maintenance::defragment) gives
    /// back. 0 before etcd 3.4.
    #[must_use]
    pub fn db_size_in_use(&self) -> u64 {
        bytes(self.status.db_size_in_use)
    }

    /// The bytes that its database may take; `None` before etcd 3.6.
    #[must_use]
    pub fn db_size_quota(&self) -> Option<u64> {
        Some(bytes(self.status.db_size_quota)).filter(|&quota| quota > 0)
    }

    /// The id of the member that it takes for the leader; `None` if it knows none.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        Some(self.status.leader).filter(|&leader| leader != 0)
    }

    /// Whether it takes itself for the leader.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leader() == Some(self.header.member_id)
    }

    /// Whether it follows without a vote.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.status.is_learner
    }

    /// Its raft term.
    #[must_use]
    pub fn raft_term(&self) -> u64 {
        self.status.raft_term
    }

    /// The last index of its raft log that is committed.
    #[must_use]
    pub fn raft_index(&self) -> u64 {
        self.status.raft_index
    }

    /// The last index of its raft log that is applied. 0 before etcd 3.4.
    #[must_use]
    pub fn raft_applied_index(&self) -> u64 {
        self.status.raft_applied_index
    }

    /// Its alarms and faults, in etcd's words.
    #[must_use]
    pub fn errors(&self) -> &[String] {
        &self.status.errors
    }

    /// The version of its storage format; `None` before etcd 3.6.
    #[must_use]
    pub fn storage_version(&self) -> Option<&str> {
        Some(&self.status.storage_version[..]).filter(|version| !version.is_empty())
    }

    /// The version that the cluster is being downgraded to, if it is; `None` before etcd 3.6.
    #[must_use]
    pub fn downgrade_target(&self) -> Option<&str> {
        let downgrade = self.status.downgrade_info.as_ref().filter(|downgrade| downgrade.enabled)?;
        Some(&downgrade.target_version)
    }
}

/// No server has a size below 0.
fn bytes(size: i64) -> u64 {
    u64::try_from(size).unwrap_or(0)
}
