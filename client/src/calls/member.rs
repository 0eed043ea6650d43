//! Calls to one member, without failover: what they ask or do is about that member.
//!
//! The connection is that of the other calls, if it goes there, or else one for this call alone; a snapshot has always one
//! of its own. A connection of the pool that turns out to be gone is replaced once, and a refused token by another; nothing
//! else is tried again.

use std::{sync::Arc, time::Duration};

use etcd_watch_core::Failure;

use super::{
    attempts::{Calls, Prepared, TOKENS_PER_CALL, Unsent, no_answer},
    judge::{self, surely_not_executed},
    limits::{Cut, Limits, runtimes_end, within},
    observation::Observation,
    outcome::Outcome,
};
use crate::{
    AttemptError, BuildError, CallError, Endpoint,
    cluster::pool::Pooled,
    transport::{
        exchange::Sent,
        messages::Messages,
        rpc::{CallFailure, Fate, Repeat, Unary},
        snapshot::{self, Message},
    },
};

/// A call to one member, over its attempts.
struct Asking<'a> {
    calls: &'a Calls,
    method: &'static str,
    endpoint: &'a Arc<Endpoint>,
    limits: Limits,
    /// The connection of the other calls is not taken.
    apart: bool,
    tokens: u32,
    observation: Observation,
}

/// How an attempt ended without an answer of use.
enum Attempted {
    Failed { at: Option<Pooled>, failed: CallFailure },
    Over(CallError),
}

impl Calls {
    /// Reads the endpoint of a member, and checks that this client can use it.
    pub(crate) fn read_endpoint(&self, method: &'static str, text: &str) -> Result<Arc<Endpoint>, CallError> {
        let dialer = &self.pool.dialer;
        let endpoint = dialer.accepted.parse(text).map_err(BuildError::from);
        let checked = endpoint.and_then(|endpoint| {
            dialer.connector.check(&endpoint)?;
            // The list's own `Arc`, if the endpoint is in it: labels of metrics are kept by that.
            Ok(dialer.endpoints.known(&endpoint).unwrap_or_else(|| Arc::new(endpoint)))
        });
        checked.map_err(|error| CallError::InvalidEndpoint { method, error: Box::new(error) })
    }

    /// Makes the call at this member, in so much time.
    pub(crate) async fn call_at<Q: Unary>(
        &self,
        endpoint: &Arc<Endpoint>,
        time: Duration,
        request: Q,
    ) -> Result<Q::Response, CallError> {
        let mut asking = self.asking(Q::method(), Q::PATH, endpoint, time)?;
        loop {
            // In a box: callers put calls in futures of their own.
            match Box::pin(asking.call(request.clone())).await {
                Ok(response) => {
                    asking.observation.end_at(Some(endpoint), || Outcome::OK);
                    return Ok(response);
                }
                Err(attempted) => asking.judge(attempted, request.repeat())?,
            }
        }
    }

    /// Asks this member for a snapshot of its database. `time` is for the beginning; each message then has as much.
    pub(crate) async fn snapshot_at(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        time: Duration,
    ) -> Result<SnapshotMessages, CallError> {
        let mut asking = self.asking(snapshot::METHOD, snapshot::PATH, endpoint, time)?;
        // What is sent of it and not asked for takes up the flow-control window of its connection.
        asking.apart = true;
        let (prepared, messages) = loop {
            match Box::pin(asking.snapshot()).await {
                Ok(begun) => break begun,
                Err(attempted) => asking.judge(attempted, Repeat::Freely)?,
            }
        };
        let mut observation = asking.observation;
        observation.at(endpoint);
        Ok(SnapshotMessages { calls: self.clone(), prepared, messages, time, observation })
    }

    fn asking<'a>(
        &'a self,
        method: &'static str,
        path: &'static str,
        endpoint: &'a Arc<Endpoint>,
        time: Duration,
    ) -> Result<Asking<'a>, CallError> {
        match self.end() {
            Some(end) => Err(end.of_call(method)),
            None => {
                let limits = Limits::new(self.now(), time, 1);
                let observation = self.observe(path);
                Ok(Asking { calls: self, method, endpoint, limits, apart: false, tokens: 0, observation })
            }
        }
    }
}

impl Asking<'_> {
    fn left(&self) -> Duration {
        self.limits.left(self.calls.now())
    }

    /// Begins an attempt.
    async fn prepare(&mut self) -> Result<Prepared, Attempted> {
        self.observation.attempt();
        let pooled = match self.calls.pool.current_to(self.endpoint) {
            Some(current) if !self.apart => current,
            _ => self.dial().await?,
        };
        self.calls.with_token(pooled, &self.limits).await.map_err(|unsent| match unsent {
            Unsent::Failed { at, error } => Attempted::Failed { at, failed: CallFailure::not_sent(error) },
            Unsent::Ended(end) => Attempted::Over(end.of_call(self.method)),
        })
    }

    async fn dial(&self) -> Result<Pooled, Attempted> {
        let (dialer, limit) = (&self.calls.pool.dialer, self.left());
        let failed =
            |error: AttemptError| Attempted::Failed { at: None, failed: CallFailure::not_sent(error) };
        match self.calls.while_open(limit, Box::pin(dialer.dial(self.endpoint))).await {
            Ok(Some(Ok(connection))) => Ok(Pooled::apart(self.endpoint.clone(), connection)),
            Ok(Some(Err(error))) => Err(failed(error)),
            Ok(None) => Err(failed(Failure::connection(format!("no connection within {limit:?}")).into())),
            Err(end) => Err(Attempted::Over(end.of_call(self.method))),
        }
    }

    async fn call<Q: Unary>(&mut self, request: Q) -> Result<Q::Response, Attempted> {
        let prepared = self.prepare().await?;
        let (metadata, repeat) = (self.calls.metadata(request.needs_leader()), request.repeat());
        let sent = Sent::default();
        let answer = Box::pin(self.calls.send(&prepared, request, metadata, sent.clone()));
        self.answered(prepared.pooled(), repeat, &sent, answer).await
    }

    async fn snapshot(&mut self) -> Result<(Prepared, Messages<Message>), Attempted> {
        let prepared = self.prepare().await?;
        let mut metadata = self.calls.metadata(false);
        prepared.attach_token(&mut metadata);
        let (connection, endpoint) = (prepared.pooled().connection().clone(), prepared.pooled().endpoint());
        let limit = self.calls.pool.dialer.max_message_bytes;
        let sent = Sent::default();
        let begun = Box::pin(async {
            let begun = snapshot::begin(connection, endpoint, metadata, limit, sent.clone()).await;
            begun.map_err(|failed| self.calls.of_token(&prepared, failed))
        });
        let messages = self.answered(prepared.pooled(), Repeat::Freely, &sent, begun).await?;
        Ok((prepared, messages))
    }

    /// Waits for the answer as long as there is time.
    async fn answered<T>(
        &self,
        at: &Pooled,
        repeat: Repeat,
        sent: &Sent,
        answer: impl Future<Output = Result<T, CallFailure>> + Unpin,
    ) -> Result<T, Attempted> {
        let (runtime, limit) = (&**self.calls.runtime(), self.left());
        match within(runtime, limit, self.calls.ending(), runtimes_end, answer).await {
            Ok(Ok(answer)) => {
                self.calls.pool.answered(at);
                Ok(answer)
            }
            Ok(Err(failed)) => Err(Attempted::Failed { at: Some(at.clone()), failed }),
            Err(Cut::TimeOver) => {
                let failure = no_answer(limit);
                let failed =
                    if sent.get() { CallFailure::sent(failure) } else { CallFailure::not_sent(failure) };
                Err(Attempted::Failed { at: Some(at.clone()), failed })
            }
            Err(Cut::Ended(end)) if sent.get() && repeat == Repeat::IfNotExecuted => {
                let failure = super::attempts::ended(end).into();
                Err(Attempted::Over(CallError::MaybeExecuted { method: self.method, failure }))
            }
            Err(Cut::Ended(end)) => Err(Attempted::Over(end.of_call(self.method))),
        }
    }

    /// Whether to try again, or with which error the call ends.
    fn judge(&mut self, attempted: Attempted, repeat: Repeat) -> Result<(), CallError> {
        let judged = self.judge_attempt(attempted, repeat);
        if let Err(error) = &judged {
            self.observation.end_at(Some(self.endpoint), || Outcome::of_error(error));
        }
        judged
    }

    fn judge_attempt(&mut self, attempted: Attempted, repeat: Repeat) -> Result<(), CallError> {
        let (at, failed) = match attempted {
            Attempted::Failed { at, failed } => (at, failed),
            Attempted::Over(error) => return Err(error),
        };
        self.calls.note(at.as_ref(), &failed);
        let has_time = !self.left().is_zero();
        if failed.fate == Fate::TokenRefused {
            self.tokens += 1;
            if self.tokens < TOKENS_PER_CALL && has_time {
                return Ok(());
            }
        }
        if failed.fate == Fate::GivenTokenRefused {
            return Err(judge::token_refused(self.method, failed.error));
        }
        let was_shared = at.is_some_and(|at| !at.is_apart());
        if was_shared && matches!(failed.fate, Fate::NotSent | Fate::StreamRefused) && has_time && !self.apart
        {
            self.apart = true;
            return Ok(());
        }
        Err(error(self.method, self.endpoint, repeat, failed))
    }
}

/// The error of a call to this member that failed so.
fn error(method: &'static str, endpoint: &Endpoint, repeat: Repeat, failed: CallFailure) -> CallError {
    let repeat = if surely_not_executed(&failed) { Repeat::Freely } else { repeat };
    match failed.failure() {
        Failure::Connection { .. } | Failure::EndOfStream if repeat == Repeat::Freely => {
            let endpoint = Box::new(endpoint.clone());
            CallError::MemberUnreachable { method, endpoint, failure: failed.error }
        }
        _ => judge::error(method, repeat, failed.error),
    }
}

/// The messages of a snapshot. Dropping it resets the stream.
pub(crate) struct SnapshotMessages {
    calls: Arc<Calls>,
    prepared: Prepared,
    messages: Messages<Message>,
    time: Duration,
    observation: Observation,
}

impl SnapshotMessages {
    /// Where the member is.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        self.prepared.pooled().endpoint()
    }

    /// The next message, or how the stream ended: the good end is [`Failure::EndOfStream`].
    pub(crate) async fn next(&mut self) -> Result<Message, AttemptError> {
        let result = self.calls.answered(self.time, self.messages.next()).await;
        result.map_err(|failed| {
            // A good end says nothing against the member.
            if *failed.failure() == Failure::EndOfStream {
                self.observation.end(|| Outcome::OK);
            } else {
                self.observation.end(|| Outcome::of_failure(failed.failure()));
                self.calls.note(Some(self.prepared.pooled()), &failed);
            }
            failed.error
        })
    }

    /// The error of a snapshot that has not begun.
    pub(crate) fn not_begun(&self, failure: AttemptError) -> CallError {
        error(snapshot::METHOD, self.endpoint(), Repeat::Freely, CallFailure::sent(failure))
    }
}
