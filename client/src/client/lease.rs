//! The client's calls for leases.

use std::time::Duration;

use etcd_watch_core::{Failure, Header};
use etcd_watch_proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest};

use crate::{
    CallError, Client, Lease, LeaseGrant, LeaseKeeper, LeaseStatus, LeaseTimeToLive,
    calls::{
        keeper,
        term::{Renewed, Term, judge, judge_grant},
    },
    runtime::Moment,
    transport::wire::header,
};

impl Client {
    /// Grants a lease for so long; the server may give more. See [`LeaseGrant`] for a lease with an id of your own.
    ///
    /// # Errors
    /// A time shorter than 1 s or longer than etcd grants, an id that is not positive, the server's refusal, or an
    /// answer that didn't come. An answer with an id that is not positive, or another than was asked for, is no answer of
    /// etcd's: [`MaybeExecuted`](CallError::MaybeExecuted).
    pub async fn lease_grant(&self, grant: impl Into<LeaseGrant>) -> Result<Lease, CallError> {
        let request = grant.into().into_request()?;
        let since = Moment::now(self.runtime());
        let answer = self.calls().call(request).await?;
        let ttl = judge_grant(&request, &answer)
            .map_err(|failure| CallError::MaybeExecuted { method: "LeaseGrant", failure: failure.into() })?;
        Ok(Lease::new(self.calls(), answer.id, Term { since, ttl }))
    }

    /// Ends a lease and deletes the keys that hang on it. The revision in the answer is that of the deletes, if there were
    /// any.
    ///
    /// # Errors
    /// The server's refusal (there is no such lease), or an answer that didn't come.
    pub async fn lease_revoke(&self, id: i64) -> Result<Header, CallError> {
        Ok(header(self.calls().call(LeaseRevokeRequest { id }).await?.header))
    }

    /// The ids of all leases, also of those of others and of other namespaces. etcd 3.3.
    ///
    /// # Errors
    /// The server's refusal, or no answer in time.
    pub async fn leases(&self) -> Result<Vec<i64>, CallError> {
        let answer = self.calls().call(LeaseLeasesRequest {}).await?;
        Ok(answer.leases.into_iter().map(|lease| lease.id).collect())
    }

    /// Renews a lease once; `None` if there is no such lease any more.
    ///
    /// # Errors
    /// The server's refusal, or no answer of use in time.
    pub async fn lease_keep_alive_once(&self, id: i64) -> Result<Option<Lease>, CallError> {
        let since = Moment::now(self.runtime());
        let answer = match self.calls().call(LeaseKeepAliveRequest { id }).await {
            Err(error) if error.is_lease_not_found() => return Ok(None),
            answer => answer?,
        };
        match judge(id, &answer) {
            Ok(Renewed::For(ttl)) => Ok(Some(Lease::new(self.calls(), id, Term { since, ttl }))),
            Ok(Renewed::NotFound) => Ok(None),
            Err(last) => Err(self.no_answer_of_use("LeaseKeepAlive", since, last)),
        }
    }

    /// A call that changes nothing was answered with nonsense.
    fn no_answer_of_use(&self, method: &'static str, since: Moment, last: Failure) -> CallError {
        let after = Moment::now(self.runtime()).since(since);
        CallError::Timeout { method, after, last: Some(last.into()) }
    }

    /// How long a lease has left and, if [asked for](LeaseTimeToLive::keys), the keys on it; `None` if there is no such
    /// lease. Doesn't renew it.
    ///
    /// # Errors
    /// The server's refusal, or no answer of use in time: one about another lease is none.
    pub async fn lease_time_to_live(
        &self,
        request: impl Into<LeaseTimeToLive>,
    ) -> Result<Option<LeaseStatus>, CallError> {
        let request = request.into().into_request();
        let (id, since) = (request.id, Moment::now(self.runtime()));
        match self.call(request).await {
            Err(error) if error.is_lease_not_found() => Ok(None),
            answer => LeaseStatus::read(id, answer?)
                .map_err(|last| self.no_answer_of_use("LeaseTimeToLive", since, last)),
        }
    }

    /// Keeps a lease that somebody else granted alive in the background until the keeper is dropped. `ttl` is the time
    /// it was granted for, counted from now. One that was granted or renewed here is kept by [`Lease::keep_alive`],
    /// which knows since when its time counts.
    ///
    /// # Errors
    /// A time of zero.
    pub fn lease_keep_alive(&self, id: i64, ttl: Duration) -> Result<LeaseKeeper, CallError> {
        if ttl.is_zero() {
            let problem = "is zero: give what the lease was granted for";
            return Err(CallError::InvalidArgument { method: "LeaseKeepAlive", field: "ttl", problem });
        }
        let term = Term { since: Moment::now(self.runtime()), ttl };
        // `ttl` may be shorter than the granted time, which the first renewal tells.
        Ok(keeper::start(self.calls().clone(), id, term, None))
    }
}
