//! How long a lease lasts, and what an answer says of it.

use std::time::Duration;

use etcd_watch_core::{Code, Failure};
use etcd_watch_proto::etcdserverpb::LeaseKeepAliveResponse;

use crate::runtime::Moment;

/// The longest time that etcd grants a lease for: `MaxLeaseTTL` of its `lease/lessor.go`, in seconds.
pub(crate) const MAX_TTL: u64 = 9_000_000_000;

/// The time that a lease lasts for without another renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// When the call that granted or renewed it was sent.
    pub(crate) since: Moment,
    pub(crate) ttl: Duration,
}

impl Term {
    pub(crate) fn left(&self, now: Moment) -> Duration {
        self.ttl.saturating_sub(now.since(self.since))
    }
}

/// What a server says of a lease that it was asked to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewed {
    For(Duration),
    NotFound,
}

/// Reads the answer to a renewal. One that makes no sense says nothing about the lease: it is a failure like any other.
pub(crate) fn judge(id: i64, answer: &LeaseKeepAliveResponse) -> Result<Renewed, Failure> {
    if answer.id != id {
        let message = format!("the answer is for lease {:x}, not for {id:x}", answer.id);
        return Err(Failure::status(Code::Internal, message));
    }
    match answer.ttl {
        0 => Ok(Renewed::NotFound),
        ttl => believable(ttl).map(Renewed::For).ok_or_else(|| {
            Failure::status(Code::Internal, format!("the answer gives lease {id:x} {ttl} s to live"))
        }),
    }
}

/// A time to live that etcd may give.
pub(crate) fn believable(ttl: i64) -> Option<Duration> {
    u64::try_from(ttl).ok().filter(|seconds| (1..=MAX_TTL).contains(seconds)).map(Duration::from_secs)
}

pub(crate) fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_for_the_lease_with_a_time_to_live_of_zero_says_that_it_is_gone() {
        let judge = |id, ttl| judge(7, &LeaseKeepAliveResponse { id, ttl, ..Default::default() });
        assert_eq!(judge(7, 0), Ok(Renewed::NotFound));
        assert_eq!(judge(7, 5), Ok(Renewed::For(Duration::from_secs(5))));
        assert!(judge(7, -1).is_err(), "no time at all");
        assert!(judge(7, i64::MAX).is_err(), "more than etcd grants");
        assert!(judge(8, 0).is_err() && judge(8, 5).is_err(), "another lease's");
    }
}
