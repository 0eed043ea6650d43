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

use etcd_watch_core::Failure;
use tracing::Instrument;

use super::{
    attempts::{Calls, Identity, TOKENS_PER_CALL, Unsent, ended, no_answer},
    end::End,
    judge::{self, Next, goes_elsewhere},
    limits::{Cut, Limits, runtimes_end, within},
    observation::Observation,
    outcome::Outcome,
};
use crate::{
    AttemptError, CallError, Endpoint,
    cluster::{endpoints::Endpoints, pool::Pooled},
    runtime::{Backoff, Pace, pause},
    transport::{
        exchange::Sent,
        rpc::{CallFailure, Fate, Repeat, Unary},
    },
};

/// Between rounds over the endpoints.
const PACE: Pace = Pace::new(Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(1));

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

impl Calls {
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
        self.observation.at(prepared.pooled().endpoint());
        let sent = Sent::default();
        let mut answer = Box::pin(self.calls.send(&prepared, self.request.clone(), metadata, sent.clone()));
        let (runtime, end) = (&**self.calls.runtime(), self.calls.ending());
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
        let pooled = prepared.into_pooled();
        match result {
            Ok(Ok(response)) => {
                self.calls.pool.answered(&pooled);
                if self.request.needs_leader() {
                    self.calls.pool.found_leader();
                }
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
