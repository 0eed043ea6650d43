//! Who is in the cluster.

use std::{fmt, sync::Arc};

use etcd_watch_core::{Code, Failure};
use etcd_watch_proto::etcdserverpb as pb;

use super::member::{MemberAdded, Members, peer_urls};
use crate::{CallError, calls::attempts::Calls};

/// Who is in the cluster: [`Client::cluster`](crate::Client::cluster).
///
/// Calls are tried on one endpoint after the other, as the client's others. A change is made again only while it surely
/// was not made, else it ends with [`CallError::MaybeExecuted`]: look at the [`members`](Self::members) before you make
/// it again. etcd refuses a change that would leave the cluster without a majority
/// ([`UnhealthyCluster`](crate::Refusal::UnhealthyCluster),
/// [`NotEnoughStartedMembers`](crate::Refusal::NotEnoughStartedMembers)), unless its `--strict-reconfig-check` is off.
#[derive(Clone)]
pub struct Cluster {
    calls: Arc<Calls>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Cluster {
    pub(crate) fn new(calls: Arc<Calls>) -> Self {
        Self { calls }
    }

    /// All members, as the cluster has agreed on them.
    ///
    /// # Errors
    /// The server's refusal, or no answer in time.
    pub async fn members(&self) -> Result<Members, CallError> {
        self.list(true).await
    }

    /// All members, as the member that is asked knows them: also where it has no leader. The list may be old. Before etcd
    /// 3.5 every list is such a one.
    ///
    /// # Errors
    /// The server's refusal, or no answer in time.
    pub async fn members_serializable(&self) -> Result<Members, CallError> {
        self.list(false).await
    }

    async fn list(&self, linearizable: bool) -> Result<Members, CallError> {
        let answer = self.calls.call(pb::MemberListRequest { linearizable }).await?;
        Ok(Members::new(answer.header, answer.members))
    }

    /// Adds a member with a vote, which is to be reached at these URLs by the others. It counts for the majority at once,
    /// started or not; [`add_learner`](Self::add_learner) is the safer way.
    ///
    /// # Errors
    /// Peer URLs that are not valid, [`PeerUrlExists`](crate::Refusal::PeerUrlExists),
    /// [`UnhealthyCluster`](crate::Refusal::UnhealthyCluster), or an answer that didn't come.
    pub async fn add<U: Into<String>>(
        &self,
        peer_urls: impl IntoIterator<Item = U>,
    ) -> Result<MemberAdded, CallError> {
        self.add_as(peer_urls, false).await
    }

    /// Adds a member without a vote, to be [promoted](Self::promote) once it has caught up. etcd 3.4.
    ///
    /// # Errors
    /// As [`add`](Self::add), and [`TooManyLearners`](crate::Refusal::TooManyLearners): one by default.
    pub async fn add_learner<U: Into<String>>(
        &self,
        peer_urls: impl IntoIterator<Item = U>,
    ) -> Result<MemberAdded, CallError> {
        self.add_as(peer_urls, true).await
    }

    async fn add_as<U: Into<String>>(
        &self,
        urls: impl IntoIterator<Item = U>,
        is_learner: bool,
    ) -> Result<MemberAdded, CallError> {
        let method = "MemberAdd";
        let peer_urls = peer_urls(method, urls)?;
        let answer = self.calls.call(pb::MemberAddRequest { peer_urls, is_learner }).await?;
        let failure = || Failure::status(Code::Internal, "the answer has no member").into();
        MemberAdded::read(answer).ok_or_else(|| CallError::MaybeExecuted { method, failure: failure() })
    }

    /// Gives a learner a vote. etcd 3.4. A member that loses its leader meanwhile may have had it done, and the call is made
    /// again then: [`MemberNotLearner`](crate::Refusal::MemberNotLearner) may be this call's own success.
    ///
    /// # Errors
    /// [`LearnerNotReady`](crate::Refusal::LearnerNotReady): it is too far behind yet;
    /// [`MemberNotLearner`](crate::Refusal::MemberNotLearner), [`MemberNotFound`](crate::Refusal::MemberNotFound), or an
    /// answer that didn't come.
    pub async fn promote(&self, id: u64) -> Result<Members, CallError> {
        let answer = self.calls.call(pb::MemberPromoteRequest { id }).await?;
        Ok(Members::new(answer.header, answer.members))
    }

    /// Changes where the others reach a member.
    ///
    /// # Errors
    /// Peer URLs that are not valid, [`MemberNotFound`](crate::Refusal::MemberNotFound),
    /// [`PeerUrlExists`](crate::Refusal::PeerUrlExists), or an answer that didn't come.
    pub async fn update<U: Into<String>>(
        &self,
        id: u64,
        peer_urls: impl IntoIterator<Item = U>,
    ) -> Result<Members, CallError> {
        let peer_urls = self::peer_urls("MemberUpdate", peer_urls)?;
        let answer = self.calls.call(pb::MemberUpdateRequest { id, peer_urls }).await?;
        Ok(Members::new(answer.header, answer.members))
    }

    /// Removes a member. It stops by itself, and its id is never used again.
    ///
    /// # Errors
    /// [`MemberNotFound`](crate::Refusal::MemberNotFound), [`UnhealthyCluster`](crate::Refusal::UnhealthyCluster),
    /// [`NotEnoughStartedMembers`](crate::Refusal::NotEnoughStartedMembers), or an answer that didn't come.
    pub async fn remove(&self, id: u64) -> Result<Members, CallError> {
        let answer = self.calls.call(pb::MemberRemoveRequest { id }).await?;
        Ok(Members::new(answer.header, answer.members))
    }
}
