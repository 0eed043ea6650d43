//! Leases.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use etcd_watch_core::Failure;
use etcd_watch_proto::etcdserverpb::{LeaseGrantRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};

use crate::{
    CallError, LeaseKeeper,
    calls::{
        attempts::Calls,
        keeper,
        term::{MAX_TTL, Term, check_id, seconds},
    },
    runtime::Moment,
};

/// A lease to grant: [`Client::lease_grant`](crate::Client::lease_grant). A [`Duration`] is one with every option at its
/// default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct LeaseGrant {
    ttl: Duration,
    id: Option<i64>,
}

impl LeaseGrant {
    /// A lease that lasts so long without a renewal: at least 1 s and at most 9,000,000,000 s, in whole seconds,
    /// rounded up.
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, id: None }
    }

    /// Gives the lease this id, which must be positive. A grant that may have been executed can then be tried again:
    /// a refusal with `FailedPrecondition` ("lease already exists") says that it had been. Default: the server chooses one.
    pub fn id(mut self, id: i64) -> Self {
        self.id = Some(id);
        self
    }

    pub(crate) fn into_request(self) -> Result<LeaseGrantRequest, CallError> {
        let invalid = |field, problem| CallError::InvalidArgument { method: "LeaseGrant", field, problem };
        let seconds = self.ttl.as_secs().saturating_add(u64::from(self.ttl.subsec_nanos() > 0));
        if self.ttl < Duration::from_secs(1) {
            return Err(invalid("ttl", "is shorter than 1 s: etcd counts in whole seconds"));
        }
        let too_long = || invalid("ttl", "is longer than 9,000,000,000 s, the most that etcd grants");
        if seconds > MAX_TTL {
            return Err(too_long());
        }
        let ttl = i64::try_from(seconds).map_err(|_| too_long())?;
        match self.id {
            Some(id) if id < 1 => Err(invalid("id", "is not positive")),
            id => Ok(LeaseGrantRequest { ttl, id: id.unwrap_or(0) }),
        }
    }
}

impl From<Duration> for LeaseGrant {
    fn from(ttl: Duration) -> Self {
        Self::new(ttl)
    }
}

/// A lease that a server has just granted or renewed.
#[derive(Clone)]
pub struct Lease {
    calls: Arc<Calls>,
    id: i64,
    term: Term,
}

impl Lease {
    pub(crate) fn new(calls: &Arc<Calls>, id: i64, term: Term) -> Self {
        Self { calls: calls.clone(), id, term }
    }

    /// The lease's id. etcd's own tools write it in hexadecimal.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.id
    }

    /// How long it lasts without a renewal, as the server said.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.term.ttl
    }

    /// How long it is sure to exist without a renewal, counted from when the call that granted or renewed it was sent.
    /// Time in which the machine sleeps counts.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.term.left(Moment::now(self.calls.runtime()))
    }

    /// Keeps it alive in the background until the keeper is dropped.
    pub fn keep_alive(&self) -> LeaseKeeper {
        keeper::start(self.calls.clone(), self.id, self.term, Some(self.term.ttl))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("id", &format_args!("{:x}", self.id))
            .field("ttl", &self.term.ttl)
            .finish_non_exhaustive()
    }
}

/// What to ask about a lease: [`Client::lease_time_to_live`](crate::Client::lease_time_to_live). An id is a request
/// without the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct LeaseTimeToLive {
    id: i64,
    keys: bool,
}

impl LeaseTimeToLive {
    /// Asks about this lease.
    pub fn new(id: i64) -> Self {
        Self { id, keys: false }
    }

    /// Asks for the keys on it, too. Default: not.
    pub fn keys(mut self, keys: bool) -> Self {
        self.keys = keys;
        self
    }

    pub(crate) fn into_request(self) -> LeaseTimeToLiveRequest {
        let Self { id, keys } = self;
        LeaseTimeToLiveRequest { id, keys }
    }
}

impl From<i64> for LeaseTimeToLive {
    fn from(id: i64) -> Self {
        Self::new(id)
    }
}

/// What a server tells about a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseStatus {
    /// How long it has left, in whole seconds.
    pub remaining: Duration,
    /// How long it lasts after each renewal.
    pub granted_ttl: Duration,
    /// The keys on it, if they were asked for: those in the client's namespace, by their names in there.
    pub keys: Vec<Bytes>,
}

impl LeaseStatus {
    /// What an answer tells about the lease with this id; `None` if there is no such lease.
    ///
    /// # Errors
    /// The answer is about another one.
    pub(crate) fn read(id: i64, answer: LeaseTimeToLiveResponse) -> Result<Option<Self>, Failure> {
        check_id(id, answer.id)?;
        Ok((answer.ttl >= 0).then(|| Self {
            remaining: seconds(answer.ttl),
            granted_ttl: seconds(answer.granted_ttl),
            keys: answer.keys,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_etcd_does_not_grant_are_refused_by_name() {
        let refused = |grant: LeaseGrant| match grant.into_request() {
            Err(CallError::InvalidArgument { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(Duration::ZERO.into()), "ttl");
        assert_eq!(refused(Duration::from_millis(999).into()), "ttl");
        assert_eq!(refused(Duration::from_secs(MAX_TTL + 1).into()), "ttl");
        assert_eq!(refused(Duration::MAX.into()), "ttl");
        assert_eq!(refused(LeaseGrant::new(Duration::from_secs(5)).id(0)), "id");
        assert_eq!(refused(LeaseGrant::new(Duration::from_secs(5)).id(-1)), "id");
    }

    #[test]
    fn what_is_told_of_another_lease_is_no_status() {
        let answer = |id, ttl| LeaseTimeToLiveResponse { id, ttl, granted_ttl: 9, ..Default::default() };
        let read =
            |id, ttl| LeaseStatus::read(7, answer(id, ttl)).map(|status| status.map(|at| at.remaining));
        assert_eq!(read(7, 5), Ok(Some(Duration::from_secs(5))));
        assert_eq!(read(7, -1), Ok(None));
        assert!(read(8, 5).is_err() && read(8, -1).is_err() && read(0, 5).is_err());
    }

    #[test]
    fn times_are_granted_in_whole_seconds_rounded_up() {
        let ttl =
            |ttl: Duration| LeaseGrant::new(ttl).into_request().map(|request| (request.ttl, request.id));
        assert_eq!(ttl(Duration::from_secs(1)), Ok((1, 0)));
        assert_eq!(ttl(Duration::from_millis(1_001)), Ok((2, 0)));
        assert_eq!(ttl(Duration::from_secs(MAX_TTL)), Ok((9_000_000_000, 0)));
        let own = LeaseGrant::new(Duration::from_secs(5)).id(7);
        assert_eq!(own.into_request().map(|request| request.id), Ok(7));
    }
}
