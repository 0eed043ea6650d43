//! Leases.

use std::time::Duration;

use etcd_watch_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

use crate::{CallError, Client, LeaseKeeper, calls::keeper, calls::kv::not_negative};

impl Client {
    /// Grants a lease of `ttl_seconds` (the server may give more). `id` 0 lets the server choose one;
    /// with an id of one's own a grant that may have been executed can be tried again: `FailedPrecondition`
    /// ("lease already exists") then says that it had been.
    ///
    /// # Errors
    /// A time below 1 s, a negative id, the server's refusal, or an answer that didn't come.
    pub async fn lease_grant(&self, ttl_seconds: i64, id: i64) -> Result<LeaseGrantResponse, CallError> {
        let method = "LeaseGrant";
        not_negative(method, "id", id)?;
        if ttl_seconds < 1 {
            let problem = "is below 1: give it in whole seconds";
            return Err(CallError::InvalidArgument { method, field: "ttl_seconds", problem });
        }
        self.calls().call(LeaseGrantRequest { ttl: ttl_seconds, id }).await
    }

    /// Ends a lease and deletes the keys that hang on it.
    ///
    /// # Errors
    /// The server's refusal (there is no such lease), or an answer that didn't come.
    pub async fn lease_revoke(&self, id: i64) -> Result<LeaseRevokeResponse, CallError> {
        self.calls().call(LeaseRevokeRequest { id }).await
    }

    /// Renews a lease once. A `ttl` of 0 in the answer means that there is no such lease any more.
    ///
    /// # Errors
    /// The server's refusal, or no answer in time.
    pub async fn lease_keep_alive_once(&self, id: i64) -> Result<LeaseKeepAliveResponse, CallError> {
        self.calls().call(LeaseKeepAliveRequest { id }).await
    }

    /// How long a lease has left (-1 when there is no such lease) and, if asked for, the keys on it.
    ///
    /// # Errors
    /// The server's refusal, or no answer in time.
    pub async fn lease_time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<LeaseTimeToLiveResponse, CallError> {
        self.call(LeaseTimeToLiveRequest { id, keys }).await
    }

    /// Keeps a lease alive in the background until the keeper is dropped. `ttl_seconds` is what the
    /// grant answered; the lease is renewed whenever a third of it has passed.
    ///
    /// # Errors
    /// A time below 1 s.
    pub fn lease_keep_alive(&self, id: i64, ttl_seconds: i64) -> Result<LeaseKeeper, CallError> {
        let ttl = u64::try_from(ttl_seconds).ok().filter(|&seconds| seconds > 0);
        let Some(ttl) = ttl.map(Duration::from_secs) else {
            let problem = "is below 1: give what the grant answered";
            return Err(CallError::InvalidArgument {
                method: "LeaseKeepAlive",
                field: "ttl_seconds",
                problem,
            });
        };
        Ok(keeper::start(self.calls().clone(), id, ttl))
    }
}
