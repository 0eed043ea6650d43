//! The care of members.

use std::{fmt, sync::Arc, time::Duration};

use etcd_watch_core::{Header, printable};
use etcd_watch_proto::etcdserverpb::{
    self as pb, alarm_request::AlarmAction, downgrade_request::DowngradeAction,
};
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};

use super::{
    alarm::{Alarm, AlarmKind},
    hash::{Hash, HashKv},
    snapshot::Snapshot,
    status::MemberStatus,
    version,
};
use crate::{
    CallError, Endpoint, Refusal,
    calls::{
        attempts::Calls,
        limits::{LONGEST, SHORTEST},
    },
    runtime::{Pace, pause},
    transport::wire::header,
};

/// How often a leader that has changed meanwhile is looked for again.
const LEADER_ATTEMPTS: u32 = 4;

/// Between two looks.
const PACE: Pace =
    Pace::new(Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(500));

/// The care of members: [`Client::maintenance`](crate::Client::maintenance).
///
/// Some calls are for one member, named by its endpoint: one of the [client's](crate::Client::endpoints) or any other
/// that can be used with the client's TLS settings. No other is asked in its place: where the member can't be reached they
/// end with [`CallError::MemberUnreachable`]. With a user, the client's
/// token goes to that endpoint, and the password too if a token has to be fetched there: it must be a member of the same
/// cluster. A token that an endpoint outside of the client's refuses stays the client's own, and another one is fetched
/// for that endpoint alone.
///
/// The other calls are tried on one endpoint after the other, as the client's others.
#[derive(Clone)]
pub struct Maintenance {
    calls: Arc<Calls>,
    time: Duration,
}

impl fmt::Debug for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maintenance").field("timeout", &self.time).finish_non_exhaustive()
    }
}

impl Maintenance {
    pub(crate) fn new(calls: Arc<Calls>) -> Self {
        let time = calls.request_timeout;
        Self { calls, time }
    }

    /// How long a call for one member may take, each message of a snapshot, and each try to move the leader. From 1 ms to
    /// 365 days; others count as the nearest of these. Default: that of the client's other calls, which is short for a
    /// [`defragment`](Self::defragment) or a [`hash`](Self::hash) of a database of some GB.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.time = timeout.clamp(SHORTEST, LONGEST);
        self
    }

    /// How the member at this endpoint is. It answers without a leader, too, and as a learner.
    ///
    /// # Errors
    /// An endpoint that can't be used, the server's refusal, or no answer in time.
    pub async fn status(&self, endpoint: impl Into<String>) -> Result<MemberStatus, CallError> {
        self.status_at(self.calls.read_endpoint("Status", &endpoint.into())?).await
    }

    /// How the members at all of the client's endpoints are. All are asked at once.
    pub async fn status_all(&self) -> Vec<(Endpoint, Result<MemberStatus, CallError>)> {
        let endpoints = self.calls.pool.dialer.endpoints.tried();
        let asked = endpoints
            .into_iter()
            .map(|endpoint| async move { (Endpoint::clone(&endpoint), self.status_at(endpoint).await) });
        join_all(asked).await
    }

    async fn status_at(&self, endpoint: Arc<Endpoint>) -> Result<MemberStatus, CallError> {
        let status = self.calls.call_at(&endpoint, self.time, pb::StatusRequest {}).await?;
        Ok(MemberStatus::new(endpoint, status))
    }

    /// The alarms that are raised, of all members.
    ///
    /// # Errors
    /// The server's refusal, or no answer in time.
    pub async fn alarms(&self) -> Result<Vec<Alarm>, CallError> {
        self.alarm(pb::AlarmRequest { action: AlarmAction::Get.into(), ..Default::default() }).await
    }

    /// Raises an alarm by hand: with [`AlarmKind::NoSpace`] the cluster refuses puts until it is disarmed. The alarm that
    /// is raised now.
    ///
    /// # Errors
    /// [`AlarmKind::Other`], on which all members of etcd 3.5 would panic; the server's refusal, or an answer that didn't
    /// come.
    pub async fn raise(&self, alarm: Alarm) -> Result<Vec<Alarm>, CallError> {
        if matches!(alarm.kind(), AlarmKind::Other(_)) {
            let problem = "is none that etcd has: give NoSpace or Corrupt";
            return Err(CallError::InvalidArgument { method: "Alarm", field: "kind", problem });
        }
        let (member_id, kind) = (alarm.member_id(), alarm.kind().number());
        self.alarm(pb::AlarmRequest { action: AlarmAction::Activate.into(), member_id, alarm: kind }).await
    }

    /// Disarms an alarm. The alarms that were disarmed; none if it was not raised. A member whose database is still full
    /// raises it again.
    ///
    /// # Errors
    /// The server's refusal, or an answer that didn't come.
    pub async fn disarm(&self, alarm: Alarm) -> Result<Vec<Alarm>, CallError> {
        let (member_id, kind) = (alarm.member_id(), alarm.kind().number());
        self.alarm(pb::AlarmRequest { action: AlarmAction::Deactivate.into(), member_id, alarm: kind }).await
    }

    /// Disarms all alarms, one after the other. The alarms that were disarmed.
    ///
    /// # Errors
    /// Those of [`alarms`](Self::alarms) and [`disarm`](Self::disarm). Some alarms may have been disarmed by then.
    pub async fn disarm_all(&self) -> Result<Vec<Alarm>, CallError> {
        let mut disarmed = Vec::new();
        for alarm in self.alarms().await? {
            disarmed.extend(self.disarm(alarm).await?);
        }
        Ok(disarmed)
    }

    async fn alarm(&self, request: pb::AlarmRequest) -> Result<Vec<Alarm>, CallError> {
        let answer = self.calls.call(request).await?;
        Ok(answer.alarms.into_iter().map(Alarm::from).collect())
    }

    /// Has the member at this endpoint give back the space on disk that its database doesn't need. The member serves
    /// nothing meanwhile, which takes some seconds for each GB: do it to one member after the other, the leader last, and
    /// with a [`timeout`](Self::timeout) that is long enough. One that is given up goes on at the member.
    ///
    /// # Errors
    /// An endpoint that can't be used, the server's refusal, or an answer that didn't come.
    pub async fn defragment(&self, endpoint: impl Into<String>) -> Result<Header, CallError> {
        let endpoint = self.calls.read_endpoint("Defragment", &endpoint.into())?;
        Ok(header(self.calls.call_at(&endpoint, self.time, pb::DefragmentRequest {}).await?.header))
    }

    /// The hash of the whole database of the member at this endpoint.
    ///
    /// # Errors
    /// An endpoint that can't be used, the server's refusal, or no answer in time.
    pub async fn hash(&self, endpoint: impl Into<String>) -> Result<Hash, CallError> {
        let endpoint = self.calls.read_endpoint("Hash", &endpoint.into())?;
        Ok(self.calls.call_at(&endpoint, self.time, pb::HashRequest {}).await?.into())
    }

    /// The hash of the keys of the member at this endpoint, from its last compaction up to a revision; 0 for the newest.
    ///
    /// # Errors
    /// An endpoint that can't be used, a revision below 0, [`Compacted`](Refusal::Compacted),
    /// [`FutureRevision`](Refusal::FutureRevision), [`Learner`](Refusal::Learner), or no answer in time.
    pub async fn hash_kv(&self, endpoint: impl Into<String>, revision: i64) -> Result<HashKv, CallError> {
        let method = "HashKV";
        let endpoint = self.calls.read_endpoint(method, &endpoint.into())?;
        if revision < 0 {
            let problem = "is below 0: give a revision, or 0 for the newest";
            return Err(CallError::InvalidArgument { method, field: "revision", problem });
        }
        let answer = self.calls.call_at(&endpoint, self.time, pb::HashKvRequest { revision }).await?;
        Ok(HashKv::read(answer, revision))
    }

    /// The database of a member, as a stream of bytes: that of the first of the client's endpoints that begins to send.
    /// Returns with the first message.
    ///
    /// # Errors
    /// The server's refusal, or why the last of the endpoints could not be used.
    pub async fn snapshot(&self) -> Result<Snapshot, CallError> {
        let mut endpoints = self.calls.pool.dialer.endpoints.candidates(None).into_iter().peekable();
        loop {
            // The list of endpoints is never empty.
            let Some(endpoint) = endpoints.next() else {
                return Err(CallError::Timeout { method: "Snapshot", after: self.time, last: None });
            };
            match Snapshot::begin(&self.calls, &endpoint, self.time).await {
                Err(error) if another_may_do_better(&error) && endpoints.peek().is_some() => {}
                result => return result,
            }
        }
    }

    /// The database of the member at this endpoint, as a stream of bytes. Returns with the first message. Learners send
    /// theirs, too (etcd 3.5).
    ///
    /// # Errors
    /// An endpoint that can't be used, the server's refusal, or no answer in time.
    pub async fn snapshot_of(&self, endpoint: impl Into<String>) -> Result<Snapshot, CallError> {
        let endpoint = self.calls.read_endpoint("Snapshot", &endpoint.into())?;
        Snapshot::begin(&self.calls, &endpoint, self.time).await
    }

    /// Makes the member with this id the leader. Only the leader can hand over, so its endpoint is looked for among the
    /// client's.
    ///
    /// # Errors
    /// [`BadLeaderTransferee`](Refusal::BadLeaderTransferee): there is no such member, or it is a learner;
    /// [`NotLeader`](Refusal::NotLeader): none of the client's endpoints is the leader's;
    /// [`NoLeader`](Refusal::NoLeader); or an answer that didn't come.
    pub async fn move_leader(&self, to: u64) -> Result<Header, CallError> {
        let mut backoff = self.calls.backoff(PACE);
        let mut attempt = 1;
        loop {
            let leader = self.leader().await?;
            let request = pb::MoveLeaderRequest { target_id: to };
            match self.calls.call_at(&leader, self.time, request).await {
                Err(error) if error.refusal() == Some(Refusal::NotLeader) && attempt < LEADER_ATTEMPTS => {}
                result => return Ok(header(result?.header)),
            }
            attempt += 1;
            let gone = |_| CallError::RuntimeGone { method: "MoveLeader" };
            pause(&**self.calls.runtime(), backoff.next_pause()).await.map_err(gone)?;
        }
    }

    /// The endpoint of the leader, or where there is none of it that of a member that can say so.
    async fn leader(&self) -> Result<Arc<Endpoint>, CallError> {
        let endpoints = self.calls.pool.dialer.endpoints.tried();
        let mut asked: FuturesUnordered<_> =
            endpoints.into_iter().map(|endpoint| self.status_at(endpoint)).collect();
        let mut follower: Option<MemberStatus> = None;
        let mut last = CallError::Timeout { method: "Status", after: self.time, last: None };
        while let Some(result) = asked.next().await {
            match result {
                Ok(status) if status.is_leader() => return Ok(Arc::new(status.endpoint().clone())),
                Ok(status) => follower = follower.filter(|other| !other.is_learner()).or(Some(status)),
                Err(error) => last = error,
            }
        }
        follower.map(|follower| Arc::new(follower.endpoint().clone())).ok_or(last)
    }

    /// Asks whether the cluster can be downgraded to a version, `major.minor` or `major.minor.patch`: one minor version
    /// below its own. etcd 3.5, and of use from 3.6 on.
    ///
    /// # Errors
    /// A version of another form, [`InvalidDowngradeTarget`](Refusal::InvalidDowngradeTarget),
    /// [`DowngradeInProgress`](Refusal::DowngradeInProgress), or no answer in time.
    pub async fn downgrade_validate(&self, version: impl Into<String>) -> Result<Downgrade, CallError> {
        self.downgrade(DowngradeAction::Validate, version::checked("Downgrade", version.into())?).await
    }

    /// Begins a downgrade of the cluster to a version: members of that version may then join, and the storage is
    /// migrated. etcd 3.5, and of use from 3.6 on.
    ///
    /// # Errors
    /// A version of another form, [`InvalidDowngradeTarget`](Refusal::InvalidDowngradeTarget),
    /// [`DowngradeInProgress`](Refusal::DowngradeInProgress), or an answer that didn't come.
    pub async fn downgrade_enable(&self, version: impl Into<String>) -> Result<Downgrade, CallError> {
        self.downgrade(DowngradeAction::Enable, version::checked("Downgrade", version.into())?).await
    }

    /// Gives up a downgrade that was begun. etcd 3.6 and 3.7 answer as if that had gone well whatever came of it:
    /// [`MemberStatus::downgrade_target`] tells whether one is still under way.
    ///
    /// # Errors
    /// [`NoInflightDowngrade`](Refusal::NoInflightDowngrade) from etcd 3.5, or an answer that didn't come.
    pub async fn downgrade_cancel(&self) -> Result<Downgrade, CallError> {
        self.downgrade(DowngradeAction::Cancel, String::new()).await
    }

    async fn downgrade(&self, action: DowngradeAction, version: String) -> Result<Downgrade, CallError> {
        let answer = self.calls.call(pb::DowngradeRequest { action: action.into(), version }).await?;
        Ok(Downgrade { header: header(answer.header), version: printable(answer.version) })
    }
}

/// Whether a snapshot that can't begin at one endpoint may begin at another.
fn another_may_do_better(error: &CallError) -> bool {
    match error {
        CallError::Tls { .. } => true,
        // What is not etcd's own word is that of something on the way to this member.
        CallError::Refused { .. } => error.is_transient() || error.refusal().is_none(),
        error => error.is_transient(),
    }
}

/// What the cluster answers about a downgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downgrade {
    header: Header,
    version: String,
}

impl Downgrade {
    /// What the server tells of itself with the answer.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// The version of the cluster at that moment, such as `3.6`.
    #[must_use]
    pub fn cluster_version(&self) -> &str {
        &self.version
    }
}
