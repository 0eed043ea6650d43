//! Unary calls with failover.
//!
//! A call is tried until the request timeout is over, on one endpoint after the other. What changes
//! nothing (reads, renewing a lease) is tried again after any failure that another member may not have.
//! What changes something is tried again only if it surely was not executed: it was not sent, the peer says that it
//! has not processed it, or the server turned it away at the door (`no leader`, `too many requests`, a learner). Any
//! other loss of the answer is reported as [`CallError::MaybeExecuted`].
//!
//! Where there are several endpoints an attempt that hangs leaves time for the others: to connect, to get a token and
//! to be sent it has a share of the time ([`Limits`]), and so has the answer to a read. The answer to a write that was
//! sent is waited for until the end: nobody else can give it.
//!
//! With credentials, every request carries the auth token. One that is refused for its token was not executed: it is
//! made again with another, a few times at most. If the application gave the token itself there is no other: the call ends
//! with [`CallError::TokenRefused`].

use std::{sync::Arc, time::Duration};

use etcd_watch_core::{ApiMisuse, Failure, Instant, Remedy, remedy};
use tonic::metadata::MetadataMap;
use tracing::Instrument;

use super::{
    end::End,
    judge::{self, Next, goes_elsewhere, members_fault},
    limits::{Cut, Limits, any_end, runtimes_end, within},
    observation::Observation,
    options::{CallOptions, CallOptionsError, Carried},
    outcome::Outcome,
    telemetry::Telemetry,
};
use crate::{
    AttemptError, CallError, Endpoint, OpenError, Runtime,
    auth::{AfterRefusal, Token},
    cluster::{
        endpoints::Endpoints,
        pool::{Pool, Pooled},
    },
    runtime::{Backoff, Pace, pause},
    sync::Latch,
    transport::{
        exchange::Sent,
        rpc::{self, CallFailure, Fate, Repeat, Unary},
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

/// Between rounds over the endpoints.
const PACE: Pace = Pace::new(Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(1));

/// How many tokens may be refused to one call. A restarted member or a change of users takes one, another such
/// change right then a second; what refuses more than that refuses all.
pub(super) const TOKENS_PER_CALL: u32 = 4;

/// TLS refusals in a row. When every endpoint has ended in one, there is no point in going on: settings or
/// certificates have to change.
#[derive(Debug, Default)]
struct TlsRefusals(usize);

impl TlsRefusals {
    fn are_all(&mut self, failure: &Failure, endpoints: &Endpoints) -> bool {
        self.0 = if matches!(failure, Failure::Tls { .. }) { self.0 + 1 } else { 0 };
        self.0 >= endpoints.len()
    }
}

/// A connection, and what else a request needs to be sent on it.
pub(super) struct Prepared {
    pooled: Pooled,
    token: Option<Token>,
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

    /// Makes the call within the request timeout. Dropping the future gives it up; a write may then
    /// still be executed.
    pub(crate) async fn call<Q: Unary>(&self, request: Q) -> Result<Q::Response, CallError> {
        if let Some(end) = self.end() {
            return Err(end.of_call(Q::method()));
        }
        let mut observation = self.observe(Q::PATH);
        let span = observation.span();
        let call = Call {
            calls: self,
            request: &request,
            limits: self.limits(),
            attempt: 0,
            avoid: None,
            tokens: 0,
            refusals: TlsRefusals::default(),
            last: None,
            backoff: None,
            observation,
        };
        // In a box: callers put calls in futures of their own.
        match span {
            None => Box::pin(call.run()).await,
            Some(span) => Box::pin(call.run().instrument(span)).await,
        }
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
            Identity::OfRequest => Ok(Prepared { pooled, token: None }),
        }
    }

    pub(super) async fn with_token(&self, pooled: Pooled, limits: &Limits) -> Result<Prepared, Unsent> {
        if let Some(token) = self.carried.token() {
            return Ok(Prepared { pooled, token: Some(token.clone()) });
        }
        let dialer = &self.pool.dialer;
        let limit = limits.sending_limit(self.now());
        let late = || Failure::connection(format!("no auth token within {limit:?}"));
        match self.while_open(limit, dialer.token(pooled.connection(), pooled.endpoint())).await {
            Ok(Some(Ok(token))) => Ok(Prepared { pooled, token }),
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
            let has_credentials = self.pool.dialer.auth.has_credentials();
            let fate = if has_credentials { Fate::TokenRefused } else { failed.fate };
            return CallFailure { fate, ..failed };
        };
        let refused = |generation| self.pool.dialer.token_refused(generation);
        let fate = match token.generation().map_or(AfterRefusal::Same, refused) {
            AfterRefusal::Another => Fate::TokenRefused,
            AfterRefusal::Same => Fate::GivenTokenRefused,
        };
        CallFailure { fate, ..failed }
    }

    /// As many attempts as there are endpoints follow the first at once; then with pauses that grow. `None` once the
    /// time is over.
    async fn pause(
        &self,
        attempt: usize,
        limits: &Limits,
        backoff: &mut Option<Backoff>,
    ) -> Result<Option<()>, End> {
        let left = limits.left(self.now());
        if attempt < self.pool.dialer.endpoints.len() {
            let in_time = (!left.is_zero()).then_some(());
            return self.end().map_or(Ok(in_time), Err);
        }
        let duration = backoff.get_or_insert_with(|| self.backoff(PACE)).next_pause();
        let paused = self.while_open(left, pause(&**self.runtime(), duration)).await?;
        paused.transpose().map_err(|_| End::RuntimeGone)
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

/// A call under way, through all its attempts.
struct Call<'a, Q> {
    calls: &'a Calls,
    request: &'a Q,
    limits: Limits,
    attempt: usize,
    avoid: Option<Arc<Endpoint>>,
    tokens: u32,
    refusals: TlsRefusals,
    last: Option<AttemptError>,
    backoff: Option<Backoff>,
    observation: Observation,
}

/// How an attempt ended that got no answer of use.
enum Attempted {
    Failed {
        at: Option<Pooled>,
        failed: CallFailure,
    },
    /// The call is over with it.
    Over(CallError),
}

impl<Q: Unary> Call<'_, Q> {
    async fn run(mut self) -> Result<Q::Response, CallError> {
        let result = self.make_attempts().await;
        self.observation.end(|| Outcome::of(&result));
        result
    }

    async fn make_attempts(&mut self) -> Result<Q::Response, CallError> {
        loop {
            match self.make_attempt().await {
                Ok(response) => return Ok(response),
                Err(Attempted::Failed { at, failed }) => self.judge(at, failed)?,
                Err(Attempted::Over(error)) => return Err(error),
            }
            match self.calls.pause(self.attempt, &self.limits, &mut self.backoff).await {
                Ok(Some(())) => self.attempt += 1,
                Ok(None) => {
                    let (after, last) = (self.calls.request_timeout, self.last.take());
                    return Err(CallError::Timeout { method: Q::method(), after, last });
                }
                Err(end) => return Err(end.of_call(Q::method())),
            }
        }
    }

    async fn make_attempt(&mut self) -> Result<Q::Response, Attempted> {
        self.observation.attempt();
        let metadata = self.calls.metadata(self.request.needs_leader());
        let prepared = self.calls.prepare(self.avoid.as_deref(), Identity::OfClient, &self.limits).await;
        let prepared = prepared.map_err(|unsent| match unsent {
            Unsent::Failed { at, error } => Attempted::Failed { at, failed: CallFailure::not_sent(error) },
            Unsent::Ended(end) => Attempted::Over(end.of_call(Q::method())),
        })?;
        self.observation.at(prepared.pooled.endpoint());
        let sent = Sent::default();
        let mut answer = Box::pin(self.calls.send(&prepared, self.request.clone(), metadata, sent.clone()));
        let (runtime, end) = (&**self.calls.runtime(), &self.calls.end);
        let now = self.calls.now();
        let is_write = self.request.repeat() == Repeat::IfNotExecuted;
        let mut limit = if is_write {
            self.limits.sending_limit(now)
        } else {
            self.limits.answer_limit(now, self.attempt)
        };
        let mut result = within(runtime, limit, end, runtimes_end, &mut answer).await;
        if is_write && sent.get() && matches!(result, Err(Cut::TimeOver)) {
            limit = self.limits.left(self.calls.now());
            result = within(runtime, limit, end, runtimes_end, &mut answer).await;
        }
        drop(answer);
        let pooled = prepared.pooled;
        match result {
            Ok(Ok(response)) => {
                self.calls.pool.answered(&pooled);
                Ok(response)
            }
            Ok(Err(failed)) => Err(Attempted::Failed { at: Some(pooled), failed }),
            Err(cut) => Err(self.cut(cut, limit, sent.get(), pooled)),
        }
    }

    /// The request was made, and its answer is not waited for any longer.
    fn cut(&self, cut: Cut, limit: Duration, was_sent: bool, pooled: Pooled) -> Attempted {
        let method = Q::method();
        let is_open = was_sent && self.request.repeat() == Repeat::IfNotExecuted;
        match cut {
            Cut::TimeOver if is_open => {
                let failed = CallFailure::sent(no_answer(self.calls.request_timeout));
                self.calls.note(Some(&pooled), &failed);
                Attempted::Over(CallError::MaybeExecuted { method, failure: failed.error })
            }
            Cut::TimeOver if was_sent => {
                Attempted::Failed { at: Some(pooled), failed: CallFailure::sent(no_answer(limit)) }
            }
            Cut::TimeOver => {
                let failure = Failure::connection(format!("the request could not be sent within {limit:?}"));
                Attempted::Failed { at: Some(pooled), failed: CallFailure::not_sent(failure) }
            }
            Cut::Ended(end) if is_open => {
                Attempted::Over(CallError::MaybeExecuted { method, failure: ended(end).into() })
            }
            Cut::Ended(end) => Attempted::Over(end.of_call(method)),
        }
    }

    /// Decides whether to go on after a failed attempt, and where.
    fn judge(&mut self, at: Option<Pooled>, failed: CallFailure) -> Result<(), CallError> {
        // Without a connection all endpoints have been tried.
        let nowhere = at.is_none();
        if nowhere {
            self.attempt += self.calls.pool.dialer.endpoints.len();
        }
        let refused_everywhere = nowhere && matches!(failed.failure(), Failure::Tls { .. });
        self.calls.note(at.as_ref(), &failed);
        if failed.fate != Fate::StreamRefused {
            self.avoid = at.map(|at| at.endpoint().clone()).filter(|_| goes_elsewhere(failed.failure()));
        }
        self.tokens += u32::from(failed.fate == Fate::TokenRefused);
        if failed.fate == Fate::GivenTokenRefused {
            return Err(judge::token_refused(Q::method(), failed.error));
        }
        let repeat = self.request.repeat();
        if self.tokens >= TOKENS_PER_CALL
            || refused_everywhere
            || self.refusals.are_all(failed.failure(), &self.calls.pool.dialer.endpoints)
            || judge::next(repeat, &failed) == Next::GiveUp
        {
            return Err(judge::error(Q::method(), repeat, failed.error));
        }
        // What the end of the time has cut short says less than the attempt before it.
        let is_cut_short = self.limits.left(self.calls.now()).is_zero()
            && matches!(failed.failure(), Failure::Connection { .. });
        if !is_cut_short || self.last.is_none() {
            self.last = Some(failed.error);
        }
        Ok(())
    }
}
