//! How long a lease lasts, and what an answer says of it.

use std::time::Duration;

use etcd_watch_core::{Code, Failure};
use etcd_watch_proto::etcdserverpb::{LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse};

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
    check_id(id, answer.id)?;
    match answer.ttl {
        0 => Ok(Renewed::NotFound),
        ttl => believable(ttl)
            .map(Renewed::For)
            .ok_or_else(|| nonsense(format!("the answer gives lease {id:x} {ttl} s to live"))),
    }
}

/// Reads the answer to `request`. Returns how long the lease lasts.
///
/// # Errors
/// Another lease was granted than was asked for. etcd takes lease 0 for no lease: keys that are put with it never expire.
pub(crate) fn judge_grant(
    request: &LeaseGrantRequest,
    answer: &LeaseGrantResponse,
) -> Result<Duration, Failure> {
    if answer.id <= 0 {
        return Err(nonsense(format!("the answer grants lease {:x}, which can't be one", answer.id)));
    }
    if request.id != 0 {
        check_id(request.id, answer.id)?;
    }
    // If the time makes no sense, the time that was asked for is taken.
    Ok(believable(answer.ttl).unwrap_or_else(|| seconds(request.ttl)))
}

/// Whether an answer is about the lease that was asked for.
///
/// # Errors
/// It is about another one.
pub(crate) fn check_id(asked: i64, answered: i64) -> Result<(), Failure> {
    if answered == asked {
        return Ok(());
    }
    Err(nonsense(format!("the answer is for lease {answered:x}, not for {asked:x}")))
}

fn nonsense(message: String) -> Failure {
    Failure::status(Code::Internal, message)
}

/// A time to live that etcd may give.
fn believable(ttl: i64) -> Option<Duration> {
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

    #[test]
    fn a_grant_is_of_the_lease_that_was_asked_for_and_for_a_time_that_etcd_grants() {
        let judge = |asked, id, ttl| {
            let request = LeaseGrantRequest { id: asked, ttl: 5 };
            judge_grant(&request, &LeaseGrantResponse { id, ttl, ..Default::default() })
        };
        assert_eq!(judge(0, 9, 60), Ok(Duration::from_secs(60)), "any id, and more time");
        assert_eq!(judge(7, 7, 5), Ok(Duration::from_secs(5)));
        for ttl in [0, -1, i64::MAX] {
            assert_eq!(judge(7, 7, ttl), Ok(Duration::from_secs(5)), "{ttl} s");
        }
        for (asked, id) in [(0, 0), (0, -1), (7, 8), (7, 0)] {
            assert!(judge(asked, id, 5).is_err(), "{id} for {asked}");
        }
    }
}
