//! Unary calls with failover.
//!
//! A call is tried until the request timeout is over, on one endpoint after the other. What changes
//! nothing (reads, renewing a lease) is tried again after any failure that another member may not have;
//! the first attempt may take half of the time at most, where there is another endpoint to ask.
//! What changes something is tried again only if it surely was not executed: the connection could not be
//! made, the transport says that the request was not sent, or the server turned it away at the door (`no
//! leader`, `too many requests`). Any other loss of the answer is reported as
//! [`CallError::MaybeExecuted`].
//!
//! With a user, every request carries the auth token. One that is refused for its token was not executed: it is
//! made again with another, a few times at most.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use etcd_watch_core::{Code, Failure, KeyRange, RangeDone, Remedy, StreamOptions, remedy};
use etcd_watch_proto::etcdserverpb as pb;

use tonic::metadata::MetadataMap;

use crate::{
    CallError, Runtime,
    calls::rpc::{self, CallFailure, Repeat, Unary},
    cluster::endpoints::{EndpointId, Endpoints},
    runtime::timeout,
    sync::lock,
    transport::{
        pool::{Pool, Pooled},
        wire,
    },
};

/// What a client's calls share.
pub(crate) struct Calls {
    pub(crate) pool: Pool,
    pub(crate) request_timeout: Duration,
    closed: AtomicBool,
}

/// Waits before another round over the endpoints: short at first, a second at most.
const RETRY_FLOOR: Duration = Duration::from_millis(50);
const RETRY_CEILING: Duration = Duration::from_secs(1);

/// How many tokens may be refused to one call. A restarted member or a change of users takes one, another such
/// change right then a second; what refuses more than that refuses all.
const TOKENS_PER_CALL: u32 = 4;

/// Where a call is, for the case that its time runs out.
#[derive(Debug)]
struct Progress {
    /// The connection it is out on.
    out_on: Option<Pooled>,
    last: Option<Failure>,
}

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

/// What to do after a failed attempt.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Retry,
    GiveUp,
}

impl Calls {
    pub(crate) fn new(pool: Pool, request_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { pool, request_timeout, closed: AtomicBool::new(false) })
    }

    pub(crate) fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.pool.dialer.runtime
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// No more calls.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.pool.clear();
    }

    /// Makes the call within the request timeout. Dropping the future gives it up; a write may then
    /// still be executed.
    pub(crate) async fn call<Q: Unary>(&self, request: Q) -> Result<Q::Response, CallError> {
        self.call_within(request, self.request_timeout).await
    }

    /// Makes the call within the time given.
    pub(crate) async fn call_within<Q: Unary>(
        &self,
        request: Q,
        within: Duration,
    ) -> Result<Q::Response, CallError> {
        let method = Q::method();
        if self.is_closed() {
            return Err(CallError::Closed { method });
        }
        let repeat = request.repeat();
        let progress = Mutex::new(Progress { out_on: None, last: None });
        let attempts = self.attempts(&request, within, &progress);
        if let Some(result) = timeout(self.runtime(), within, attempts).await {
            return result;
        }
        let (out_on, last) = {
            let mut progress = lock(&progress);
            (progress.out_on.take(), progress.last.take())
        };
        let Some(pooled) = out_on else {
            return Err(CallError::Timeout { method, after: within, last });
        };
        let failure = no_answer(within);
        self.pool.discard(&pooled, &failure);
        Err(match repeat {
            Repeat::Freely => CallError::Timeout { method, after: within, last },
            Repeat::IfNotExecuted => CallError::MaybeExecuted { method, failure },
        })
    }

    async fn attempts<Q: Unary>(
        &self,
        request: &Q,
        within: Duration,
        progress: &Mutex<Progress>,
    ) -> Result<Q::Response, CallError> {
        let repeat = request.repeat();
        let several = self.pool.dialer.endpoints.len() > 1;
        let mut attempt = 0;
        let mut avoid = None;
        let mut tokens = 0;
        let mut refusals = TlsRefusals::default();
        loop {
            let pooled = match self.pool.get(avoid).await {
                Ok(pooled) => pooled,
                Err(failure) => {
                    if refusals.are_all(&failure, &self.pool.dialer.endpoints) {
                        return Err(error(Q::method(), repeat, failure));
                    }
                    lock(progress).last = Some(failure);
                    avoid = None;
                    self.pause(attempt).await;
                    attempt += 1;
                    continue;
                }
            };
            // In a box: an attempt's future is large, and callers put calls in futures of their own.
            let answer = Box::pin(self.attempt(&pooled, request.clone(), progress));
            let result = if repeat == Repeat::Freely && several && attempt == 0 {
                // A member that hangs must not take all the time there is.
                let silent = || Err(CallFailure::sent(no_answer(within / 2)));
                timeout(self.runtime(), within / 2, answer).await.unwrap_or_else(silent)
            } else {
                answer.await
            };
            lock(progress).out_on = None;
            let failed = match result {
                Ok(response) => {
                    self.pool.dialer.endpoints.answered(pooled.endpoint);
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            if members_fault(&failed.failure) {
                self.pool.discard(&pooled, &failed.failure);
                avoid = Some(pooled.endpoint);
            }
            tokens += u32::from(failed.token_refused);
            if tokens >= TOKENS_PER_CALL
                || refusals.are_all(&failed.failure, &self.pool.dialer.endpoints)
                || next(repeat, &failed) == Next::GiveUp
            {
                return Err(error(Q::method(), repeat, failed.failure));
            }
            lock(progress).last = Some(failed.failure);
            self.pause(attempt).await;
            attempt += 1;
        }
    }

    async fn attempt<Q: Unary>(
        &self,
        pooled: &Pooled,
        request: Q,
        progress: &Mutex<Progress>,
    ) -> Result<Q::Response, CallFailure> {
        let metadata = wire::metadata(request.needs_leader(), []).map_err(CallFailure::not_sent)?;
        self.with_token(pooled, request, metadata, || lock(progress).out_on = Some(pooled.clone())).await
    }

    /// Makes the call with the user's token, if there is a user; `sending` is told when the token is there.
    pub(super) async fn with_token<Q: Unary>(
        &self,
        pooled: &Pooled,
        request: Q,
        mut metadata: MetadataMap,
        sending: impl FnOnce(),
    ) -> Result<Q::Response, CallFailure> {
        let dialer = &self.pool.dialer;
        let endpoint = dialer.endpoints.get(pooled.endpoint);
        let connection = pooled.connection.clone();
        let token = dialer.token(&connection, &endpoint).await.map_err(CallFailure::not_sent)?;
        if let Some(token) = &token {
            token.attach(&mut metadata);
        }
        sending();
        let answer = rpc::unary(connection, &endpoint, request, metadata, dialer.max_message_bytes).await;
        answer.map_err(|mut failed| {
            if let Some(token) = token
                && remedy(&failed.failure) == Remedy::Reauthenticate
            {
                dialer.token_refused(token.generation());
                failed.token_refused = true;
            }
            failed
        })
    }

    /// As many attempts as there are endpoints follow the first at once; then with pauses that grow.
    async fn pause(&self, attempt: usize) {
        let endpoints = self.pool.dialer.endpoints.len();
        if attempt < endpoints {
            return;
        }
        let doublings = u32::try_from(attempt / endpoints - 1).unwrap_or(u32::MAX).min(8);
        self.runtime().sleep((RETRY_FLOOR * 2_u32.pow(doublings)).min(RETRY_CEILING)).await;
    }

    /// The machine's read of the current revision.
    pub(crate) async fn current_revision(
        &self,
        keys: KeyRange,
        options: &StreamOptions,
        avoid: Option<EndpointId>,
    ) -> (Option<EndpointId>, Result<RangeDone, Failure>) {
        let request = pb::RangeRequest {
            key: keys.start().clone(),
            range_end: keys.end().clone(),
            limit: 1,
            count_only: true,
            ..Default::default()
        };
        let (endpoint, result) = self.read(request, options, avoid).await;
        let done = result.map(|response| {
            let header = response.header.unwrap_or_default();
            RangeDone { revision: header.revision, cluster_id: header.cluster_id }
        });
        (endpoint, done)
    }

    /// A machine's read: one attempt, the machine decides on the next. Also says which endpoint was asked, if
    /// any could be.
    pub(crate) async fn read(
        &self,
        request: pb::RangeRequest,
        options: &StreamOptions,
        avoid: Option<EndpointId>,
    ) -> (Option<EndpointId>, Result<pb::RangeResponse, Failure>) {
        let attempt = async {
            let pooled = match self.pool.get(avoid).await {
                Ok(pooled) => pooled,
                Err(failure) => return (None, Err(failure)),
            };
            let result = self.read_on(&pooled, request, options).await;
            match &result {
                Ok(_) => self.pool.dialer.endpoints.answered(pooled.endpoint),
                Err(failure) if members_fault(failure) => self.pool.discard(&pooled, failure),
                Err(_) => {}
            }
            (Some(pooled.endpoint), result)
        };
        timeout(self.runtime(), self.request_timeout, attempt)
            .await
            .unwrap_or_else(|| (None, Err(no_answer(self.request_timeout))))
    }

    async fn read_on(
        &self,
        pooled: &Pooled,
        request: pb::RangeRequest,
        options: &StreamOptions,
    ) -> Result<pb::RangeResponse, Failure> {
        let extra = options.metadata.iter().map(|(name, value)| (&name[..], &value[..]));
        let metadata = wire::metadata(options.require_leader, extra)?;
        self.with_token(pooled, request, metadata, || {}).await.map_err(|failed| failed.failure)
    }

    /// Waits until some endpoint answers anything at all; with a user, until one has checked the password.
    /// Fails if that is wrong, or if TLS is refused at every endpoint.
    pub(crate) async fn answered(&self, last: &Mutex<Option<Failure>>) -> Result<(), Failure> {
        let progress = Mutex::new(Progress { out_on: None, last: None });
        let mut attempt = 0;
        let mut avoid = None;
        let mut refusals = TlsRefusals::default();
        loop {
            let failure = match self.pool.get(avoid).await {
                Ok(pooled) => match Box::pin(self.attempt(&pooled, pb::StatusRequest {}, &progress)).await {
                    Err(failed) if remedy(&failed.failure) == Remedy::BadCredentials => {
                        return Err(failed.failure);
                    }
                    Err(failed) if members_fault(&failed.failure) => {
                        self.pool.discard(&pooled, &failed.failure);
                        avoid = Some(pooled.endpoint);
                        failed.failure
                    }
                    // A refusal is an answer, too.
                    _ => {
                        self.pool.dialer.endpoints.answered(pooled.endpoint);
                        return Ok(());
                    }
                },
                Err(failure) => {
                    avoid = None;
                    failure
                }
            };
            if refusals.are_all(&failure, &self.pool.dialer.endpoints) {
                return Err(failure);
            }
            *lock(last) = Some(failure);
            self.pause(attempt).await;
            attempt += 1;
        }
    }
}

fn no_answer(within: Duration) -> Failure {
    Failure::connection(format!("no answer within {within:?}"))
}

/// Whether another member may do better: the connection is of no use, or the member isn't.
pub(crate) fn members_fault(failure: &Failure) -> bool {
    match failure {
        Failure::Connection { .. } | Failure::Tls { .. } | Failure::EndOfStream => true,
        Failure::Status { code: Code::Unavailable, .. } => true,
        failure => remedy(failure) == Remedy::NoLeader,
    }
}

/// What the server says before it does anything for a request.
fn turned_away(failure: &Failure) -> bool {
    remedy(failure) == Remedy::NoLeader || says_too_many_requests(failure)
}

/// `ErrGRPCRequestTooManyRequests` of etcd's `rpctypes`, which etcd itself sends as `Unknown`.
fn says_too_many_requests(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Status { code: Code::ResourceExhausted | Code::Unknown, message }
            if message == "etcdserver: too many requests"
    )
}

/// Whether every further attempt would come to the same.
fn is_final(failure: &Failure) -> bool {
    matches!(
        remedy(failure),
        Remedy::BadCredentials | Remedy::Denied | Remedy::Refused | Remedy::Unsupported | Remedy::TooLarge
    )
}

fn next(repeat: Repeat, failed: &CallFailure) -> Next {
    if is_final(&failed.failure) {
        return Next::GiveUp;
    }
    let harmless = repeat == Repeat::Freely && members_fault(&failed.failure);
    // A server that refuses a client's certificate reads nothing of what comes after it.
    let refused = matches!(failed.failure, Failure::Tls { .. });
    let unexecuted = failed.not_sent || failed.token_refused || refused || turned_away(&failed.failure);
    if harmless || unexecuted { Next::Retry } else { Next::GiveUp }
}

fn error(method: &'static str, repeat: Repeat, failure: Failure) -> CallError {
    let remedy = remedy(&failure);
    match failure {
        Failure::Status { message, .. } if remedy == Remedy::BadCredentials => {
            CallError::AuthenticationFailed { method, message }
        }
        Failure::Tls { message } => CallError::Tls { method, message },
        Failure::InvalidRequest { message } => {
            CallError::Refused { method, code: Code::InvalidArgument, message }
        }
        Failure::ResponseTooLarge { bytes, limit } => CallError::ResponseTooLarge { method, bytes, limit },
        Failure::Status { code, message }
            if repeat == Repeat::Freely || surely_refused(code) || says_no_to_the_user(remedy) =>
        {
            CallError::Refused { method, code, message }
        }
        failure => CallError::MaybeExecuted { method, failure },
    }
}

/// What is looked at before anything is done, whatever the code it is said with.
fn says_no_to_the_user(remedy: Remedy) -> bool {
    matches!(remedy, Remedy::Reauthenticate | Remedy::Denied)
}

/// Codes by which a server says no, rather than that it doesn't know.
fn surely_refused(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(failure: Failure) -> CallFailure {
        CallFailure::sent(failure)
    }

    #[test]
    fn a_read_is_tried_again_where_another_member_may_do_better() {
        let read = |failure| next(Repeat::Freely, &failed(failure));
        assert_eq!(read(Failure::connection("reset")), Next::Retry);
        assert_eq!(read(Failure::status(14, "etcdserver: request timed out")), Next::Retry);
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(read(Failure::status(11, compacted)), Next::GiveUp);
        assert_eq!(read(Failure::status(7, "etcdserver: permission denied")), Next::GiveUp);
    }

    #[test]
    fn a_write_is_tried_again_only_if_it_surely_was_not_executed() {
        let write = |failure| next(Repeat::IfNotExecuted, &failed(failure));
        assert_eq!(write(Failure::connection("reset")), Next::GiveUp);
        assert_eq!(write(Failure::status(14, "etcdserver: request timed out")), Next::GiveUp);
        assert_eq!(write(Failure::status(14, "etcdserver: no leader")), Next::Retry);
        assert_eq!(write(Failure::status(8, "etcdserver: too many requests")), Next::Retry);
        assert_eq!(write(Failure::status(2, "etcdserver: too many requests")), Next::Retry);
        assert_eq!(write(Failure::status(14, "rate limit: too many requests")), Next::GiveUp);
        assert_eq!(write(Failure::status(14, "upstream has no leader")), Next::GiveUp);
        let not_sent = CallFailure::not_sent(Failure::connection("closed"));
        assert_eq!(next(Repeat::IfNotExecuted, &not_sent), Next::Retry);
    }

    #[test]
    fn a_write_refused_for_its_token_is_made_with_another_unless_there_is_no_user() {
        for text in ["invalid auth token", "revision of auth store is old", "user name is empty"] {
            let failure = Failure::status(2, format!("etcdserver: {text}"));
            let with_user = CallFailure { token_refused: true, ..failed(failure.clone()) };
            assert_eq!(next(Repeat::IfNotExecuted, &with_user), Next::Retry);
            assert_eq!(next(Repeat::IfNotExecuted, &failed(failure.clone())), Next::GiveUp);
            let error = error("Put", Repeat::IfNotExecuted, failure);
            assert!(matches!(error, CallError::Refused { .. }), "{error}");
        }
    }

    #[test]
    fn a_wrong_password_is_final_and_told_apart() {
        let wrong = "etcdserver: authentication failed, invalid user ID or password";
        let failed = CallFailure::not_sent(Failure::status(3, wrong));
        assert_eq!(next(Repeat::IfNotExecuted, &failed), Next::GiveUp);
        let error = error("Put", Repeat::IfNotExecuted, failed.failure);
        assert_eq!(error, CallError::AuthenticationFailed { method: "Put", message: wrong.into() });
    }

    #[test]
    fn a_lost_answer_to_a_write_is_told_apart_from_a_refusal() {
        let write = |failure| error("Put", Repeat::IfNotExecuted, failure);
        assert!(matches!(write(Failure::connection("reset")), CallError::MaybeExecuted { .. }));
        assert!(matches!(write(Failure::status(2, "who knows")), CallError::MaybeExecuted { .. }));
        assert!(matches!(write(Failure::status(3, "no key")), CallError::Refused { .. }));
    }
}
