//! What a client's calls share: the connection, the token, the options, and the end. One attempt is made here; how often
//! a call is tried is in `call.rs`, `lists.rs` and `member.rs`.

use std::{sync::Arc, time::Duration};

use etcd_watch_core::{ApiMisuse, Failure, Instant, Remedy, remedy};
use tonic::metadata::MetadataMap;

use super::{
    end::End,
    judge::members_fault,
    limits::{Cut, Limits, any_end, within},
    observation::Observation,
    options::{CallOptions, CallOptionsError, Carried},
    telemetry::Telemetry,
};
use crate::{
    AttemptError, Endpoint, OpenError, Runtime,
    auth::{AfterRefusal, Authenticator, Token},
    cluster::pool::{Pool, Pooled},
    runtime::{Backoff, Pace},
    sync::Latch,
    transport::{
        exchange::Sent,
        rpc::{self, CallFailure, Fate, Unary},
        wire,
    },
};

/// A client's calls: what all of them share, and the options of those of one view of the client.
pub(crate) struct Calls {
    pub(crate) pool: Arc<Pool>,
    pub(crate) request_timeout: Duration,
    carried: Carried,
    telemetry: Arc<Telemetry>,
    end: Arc<Latch<End>>,
}

/// Whose auth token a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// The client's, or the one that the options of its view have in its place.
    OfClient,
    /// One that is among the request's own metadata.
    OfRequest,
}

/// How many tokens may be refused to one call. A restarted member or a change of users takes one, another such
/// change right then a second; what refuses more than that refuses all.
pub(super) const TOKENS_PER_CALL: u32 = 4;

/// A connection, and what else a request needs to be sent on it.
pub(super) struct Prepared {
    pooled: Pooled,
    token: Option<Token>,
    /// Makes and replaces the token. For a token of the application, and for requests without one, it is the client's.
    auth: Arc<Authenticator>,
}

impl Prepared {
    pub(super) fn pooled(&self) -> &Pooled {
        &self.pooled
    }

    pub(super) fn into_pooled(self) -> Pooled {
        self.pooled
    }

    pub(super) fn attach_token(&self, metadata: &mut MetadataMap) {
        if let Some(token) = &self.token {
            token.attach(metadata);
        }
    }
}

/// Why a request could not be sent.
pub(super) enum Unsent {
    Failed {
        /// The connection that is of no use, if it came so far.
        at: Option<Pooled>,
        error: AttemptError,
    },
    Ended(End),
}

impl Calls {
    pub(crate) fn new(pool: Pool, request_timeout: Duration, telemetry: Telemetry) -> Arc<Self> {
        Arc::new(Self {
            pool: Arc::new(pool),
            request_timeout,
            carried: Carried::default(),
            telemetry: Arc::new(telemetry),
            end: Arc::default(),
        })
    }

    /// The same calls with these options.
    pub(crate) fn with(&self, options: CallOptions) -> Result<Arc<Self>, CallOptionsError> {
        let request_timeout = options.checked_timeout()?.unwrap_or(self.request_timeout);
        let carried = self.carried.with(options)?;
        let (pool, telemetry, end) = (self.pool.clone(), self.telemetry.clone(), self.end.clone());
        Ok(Arc::new(Self { pool, request_timeout, carried, telemetry, end }))
    }

    /// What every request carries because of the options.
    pub(crate) fn carried(&self) -> &Carried {
        &self.carried
    }

    /// What a request carries beside its message, but for the token.
    pub(super) fn metadata(&self, needs_leader: bool) -> MetadataMap {
        let mut metadata = wire::metadata(needs_leader);
        self.carried.attach(&mut metadata);
        metadata
    }

    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// A call of this method, `/package.Service/Method`, begins.
    pub(super) fn observe(&self, path: &'static str) -> Observation {
        Observation::begin(&self.telemetry, path, self.runtime())
    }

    pub(crate) fn runtime(&self) -> &Arc<dyn Runtime> {
        self.pool.dialer.runtime()
    }

    /// A backoff whose jitter follows from the client's seed.
    pub(crate) fn backoff(&self, pace: Pace) -> Backoff {
        self.pool.dialer.seeds.backoff(pace)
    }

    /// Why there are no more calls, if there are none.
    pub(crate) fn end(&self) -> Option<End> {
        self.end.get()
    }

    /// No more calls. Those that have been sent may finish.
    pub(crate) fn close(&self) {
        self.end.set(End::Closed);
        self.pool.close();
    }

    /// The runtime has shut down, and all connections with it.
    pub(crate) fn runtime_is_gone(&self) {
        self.end.set(End::RuntimeGone);
        self.pool.close();
    }

    /// # Errors
    /// When the client has ended.
    pub(crate) fn check_open(&self) -> Result<(), OpenError> {
        self.end().map_or(Ok(()), |end| Err(end.into()))
    }

    /// Why the machine has refused to open something.
    pub(crate) fn not_opened(&self, misuse: ApiMisuse) -> OpenError {
        End::of_open(self.end(), misuse)
    }

    pub(super) fn now(&self) -> Instant {
        self.runtime().now()
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits::new(self.now(), self.request_timeout, self.pool.dialer.endpoints.len())
    }

    /// Connects and gets the user's token, if there is a user; within the time for that.
    pub(super) async fn prepare(
        &self,
        avoid: Option<&Endpoint>,
        identity: Identity,
        limits: &Limits,
    ) -> Result<Prepared, Unsent> {
        // All endpoints are tried there, so that one that hangs leaves time for the others.
        let limit = limits.left(self.now());
        let late = || Failure::connection(format!("no connection within {limit:?}"));
        let pooled = match self.while_open(limit, self.pool.get(avoid)).await {
            Ok(Some(Ok(pooled))) => pooled,
            Ok(Some(Err(unreached))) => {
                return Err(Unsent::Failed { at: None, error: unreached.into() });
            }
            Ok(None) => return Err(Unsent::Failed { at: None, error: late().into() }),
            Err(end) => return Err(Unsent::Ended(end)),
        };
        match identity {
            Identity::OfClient => self.with_token(pooled, limits).await,
            Identity::OfRequest => {
                let auth = self.pool.dialer.auth.clone();
                Ok(Prepared { pooled, token: None, auth })
            }
        }
    }

    pub(super) async fn with_token(&self, pooled: Pooled, limits: &Limits) -> Result<Prepared, Unsent> {
        let dialer = &self.pool.dialer;
        if let Some(token) = self.carried.token() {
            return Ok(Prepared { pooled, token: Some(token.clone()), auth: dialer.auth.clone() });
        }
        // The connections of the pool go to the client's endpoints.
        let auth = if pooled.is_apart() { dialer.auth_at(pooled.endpoint()) } else { dialer.auth.clone() };
        let limit = limits.sending_limit(self.now());
        let late = || Failure::connection(format!("no auth token within {limit:?}"));
        let token = auth.token(&**self.runtime(), pooled.connection(), pooled.endpoint());
        match self.while_open(limit, token).await {
            Ok(Some(Ok(token))) => Ok(Prepared { pooled, token, auth }),
            Ok(Some(Err(error))) => Err(Unsent::Failed { at: Some(pooled), error }),
            Ok(None) => Err(Unsent::Failed { at: Some(pooled), error: late().into() }),
            Err(end) => Err(Unsent::Ended(end)),
        }
    }

    /// The end of the calls, to wait for.
    pub(super) fn ending(&self) -> &Latch<End> {
        &self.end
    }

    /// The future's output, or `None` once its time is over; no longer than the client makes calls.
    pub(crate) async fn while_open<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<Option<F::Output>, End> {
        match within(&**self.runtime(), limit, &self.end, any_end, future).await {
            Ok(output) => Ok(Some(output)),
            Err(Cut::TimeOver) => Ok(None),
            Err(Cut::Ended(end)) => Err(end),
        }
    }

    /// Makes the call on what was prepared for it.
    pub(super) async fn send<Q: Unary>(
        &self,
        prepared: &Prepared,
        request: Q,
        mut metadata: MetadataMap,
        sent: Sent,
    ) -> Result<Q::Response, CallFailure> {
        prepared.attach_token(&mut metadata);
        let (connection, endpoint) = (prepared.pooled.connection().clone(), prepared.pooled.endpoint());
        let limit = self.pool.dialer.max_message_bytes;
        let answer = rpc::exchange(connection, endpoint, request, metadata, limit, sent).await;
        answer.map_err(|failed| self.of_token(prepared, failed))
    }

    /// A failure that is the token's has it replaced, if there can be another one.
    pub(super) fn of_token(&self, prepared: &Prepared, failed: CallFailure) -> CallFailure {
        if remedy(failed.failure()) != Remedy::Reauthenticate {
            return failed;
        }
        let Some(token) = &prepared.token else {
            // It was sent before the client had credentials.
            let has_credentials = prepared.auth.has_credentials();
            let fate = if has_credentials { Fate::TokenRefused } else { failed.fate };
            return CallFailure { fate, ..failed };
        };
        let refused = |generation| prepared.auth.refused(self.now(), generation);
        let fate = match token.generation().map_or(AfterRefusal::Same, refused) {
            AfterRefusal::Another => Fate::TokenRefused,
            AfterRefusal::Same => Fate::GivenTokenRefused,
        };
        CallFailure { fate, ..failed }
    }

    /// What a request that could not be sent says to a machine, and of the connection, if it came so far.
    pub(super) fn unsent(&self, unsent: Unsent) -> (Option<Pooled>, Failure) {
        match unsent {
            Unsent::Failed { at, error } => {
                let failed = CallFailure::not_sent(error);
                self.note(at.as_ref(), &failed);
                (at, failed.into_failure())
            }
            Unsent::Ended(end) => (None, ended(end)),
        }
    }

    /// Lets go of a connection whose failure is the endpoint's fault. One stream too many is not: it says nothing about
    /// the connection. Once the client has ended nothing is: connections break under the calls that are still out.
    pub(crate) fn note(&self, at: Option<&Pooled>, failed: &CallFailure) {
        let Some(at) = at.filter(|_| failed.fate != Fate::StreamRefused && self.end().is_none()) else {
            return;
        };
        if members_fault(failed.failure()) {
            self.pool.discard(at, &failed.error);
        } else if matches!(failed.failure(), Failure::Status { .. }) {
            // A refusal is an answer, too.
            self.pool.heard(at);
        }
    }

    /// Makes the call on this connection, once, and with no more than one attempt's time of these limits.
    pub(crate) async fn ask<Q: Unary>(
        &self,
        pooled: &Pooled,
        request: Q,
        limits: Limits,
    ) -> Result<Q::Response, CallFailure> {
        let metadata = self.metadata(request.needs_leader());
        let prepared = match self.with_token(pooled.clone(), &limits).await {
            Ok(prepared) => prepared,
            Err(Unsent::Failed { error, .. }) => return Err(CallFailure::not_sent(error)),
            Err(Unsent::Ended(end)) => return Err(CallFailure::not_sent(ended(end))),
        };
        let limit = limits.sending_limit(self.now());
        let answer = Box::pin(self.send(&prepared, request, metadata, Sent::default()));
        match self.while_open(limit, answer).await {
            Ok(Some(result)) => result,
            Ok(None) => Err(CallFailure::sent(no_answer(limit))),
            Err(end) => Err(CallFailure::sent(ended(end))),
        }
    }
}

pub(crate) fn no_answer(within: Duration) -> Failure {
    Failure::connection(format!("no answer within {within:?}"))
}

pub(super) fn ended(end: End) -> Failure {
    Failure::connection(match end {
        End::Closed => "the client has been closed",
        End::RuntimeGone => "the runtime that the client was built on has shut down",
    })
}
