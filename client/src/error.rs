//! Errors of calls and of starting up.

use std::{error::Error as StdError, fmt, time::Duration};

use etcd_watch_core::{Code, ConfigError, Failure, Refusal, RequestError, is_turned_away, refusal};

use crate::{AttemptError, Endpoint, EndpointError, NoRuntime, ProxyError};

/// Any error, boxed.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A call failed.
///
/// Its text is complete; [`source`](StdError::source) leads to the errors of the transport that it came from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The request can't be served. Fix it; nothing was sent.
    #[error("{method}: {field} {problem}")]
    InvalidArgument {
        /// The call.
        method: &'static str,
        /// The field that is wrong.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The server refused the call, and did not execute it.
    #[error("{method} was refused: {message} ({code:?})")]
    Refused {
        /// The call.
        method: &'static str,
        /// The gRPC code.
        code: Code,
        /// The server's text.
        message: String,
    },
    /// The user's name or password is wrong, or the user was deleted. The call was not made.
    #[error("{method} was not made: {message}; check the user and the password given to the client")]
    AuthenticationFailed {
        /// The call.
        method: &'static str,
        /// The gRPC code.
        code: Code,
        /// The server's text.
        message: String,
    },
    /// The server refused the auth token that the application gave, to the client or to this view of it: it is not valid,
    /// it has expired, or the users have changed since it was made. The call was not executed. The client can't get
    /// another token: give it one with [`Client::set_credentials`](crate::Client::set_credentials).
    #[error(
        "{method} was not made: the auth token that was given is refused ({message}); give another one with Client::set_credentials or CallOptions::token"
    )]
    TokenRefused {
        /// The call.
        method: &'static str,
        /// The gRPC code.
        code: Code,
        /// The server's text.
        message: String,
    },
    /// The TLS handshake was refused, by one side or the other, at every endpoint. The call was not made.
    #[error("{method} was not made: {failure}")]
    Tls {
        /// The call.
        method: &'static str,
        /// Which side refused what, and what to do about it.
        #[source]
        failure: AttemptError,
    },
    /// No endpoint answered within the time limit. The call was not executed, or it changes nothing.
    #[error("{method} was not answered within {after:?}{}", last_failure(.last.as_ref()))]
    Timeout {
        /// The call.
        method: &'static str,
        /// The time limit.
        after: Duration,
        /// The last attempt's failure, if there was one.
        #[source]
        last: Option<AttemptError>,
    },
    /// The call was sent, and how it ended is not known: it may or may not have been executed. Read
    /// back what it was to change before you make it again.
    #[error("{method} may or may not have been executed: {failure}")]
    MaybeExecuted {
        /// The call.
        method: &'static str,
        /// What came instead of an answer.
        #[source]
        failure: AttemptError,
    },
    /// The answer is larger than the limit.
    #[error(
        "the answer to {method} has {bytes} bytes, over the limit of {limit}: ask for less, or raise max_message_bytes"
    )]
    ResponseTooLarge {
        /// The call.
        method: &'static str,
        /// The answer's size in bytes, 0 if unknown.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
        /// `true` for a write: it has been executed. `false` for a read.
        executed: bool,
    },
    /// The endpoint of the member that was to be asked can't be used. Fix it; nothing was sent.
    #[error("{method}: {error}")]
    InvalidEndpoint {
        /// The call.
        method: &'static str,
        /// What is wrong with it.
        #[source]
        error: Box<BuildError>,
    },
    /// A call for one member, and no answer came from there. The call was not executed, or it changes nothing.
    #[error("{method} was not answered by the member at {endpoint}: {failure}")]
    MemberUnreachable {
        /// The call.
        method: &'static str,
        /// Where the member was to be.
        endpoint: Box<Endpoint>,
        /// What came instead of an answer.
        #[source]
        failure: AttemptError,
    },
    /// The client was closed.
    #[error("{method}: the client has been closed")]
    Closed {
        /// The call.
        method: &'static str,
    },
    /// The runtime that the client was built on has shut down, and the client's connections with it. Build a client on
    /// a runtime that lives as long as the client is used. The call was not executed, or it changes nothing.
    #[error(
        "{method}: the runtime that the client was built on has shut down; build a client on one that lives on"
    )]
    RuntimeGone {
        /// The call.
        method: &'static str,
    },
}

impl CallError {
    /// Whether the same call may go well later, with nothing changed by hand: no endpoint answered, the server says
    /// that it can't now, or the program has to give the client its next auth token. Look at [`may_have_executed`](Self::may_have_executed) before you make a write again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            // A full database stays full.
            Self::MaybeExecuted { .. } => self.refusal() != Some(Refusal::NoSpace),
            Self::Timeout { .. } | Self::MemberUnreachable { .. } | Self::TokenRefused { .. } => true,
            Self::Refused { code, message, .. } => refusal_may_pass(*code, message),
            Self::InvalidArgument { .. }
            | Self::AuthenticationFailed { .. }
            | Self::Tls { .. }
            | Self::ResponseTooLarge { .. }
            | Self::InvalidEndpoint { .. }
            | Self::Closed { .. }
            | Self::RuntimeGone { .. } => false,
        }
    }

    /// Whether the call may have changed the store. Where it is `false` a write surely was not executed.
    #[must_use]
    pub fn may_have_executed(&self) -> bool {
        matches!(self, Self::MaybeExecuted { .. } | Self::ResponseTooLarge { executed: true, .. })
    }

    /// Whether the server has no such lease as the call names: it has expired, or was revoked.
    #[must_use]
    pub fn is_lease_not_found(&self) -> bool {
        matches!(self, Self::Refused { .. }) && self.refusal() == Some(Refusal::LeaseNotFound)
    }

    /// Which of etcd's refusals the server's answer is, or what came in the place of one from the last attempt; `None`
    /// where there is no answer of etcd's, or one with another text.
    ///
    /// In a [`Refused`](Self::Refused) it is why the call was not executed. In the others it is the last that was heard:
    /// a [`Timeout`](Self::Timeout) with [`NoLeader`](Refusal::NoLeader) means that no member had a leader in all that
    /// time.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { code, message, .. }
            | Self::AuthenticationFailed { code, message, .. }
            | Self::TokenRefused { code, message, .. } => refusal(&Failure::status(*code, message)),
            Self::MaybeExecuted { failure, .. } | Self::MemberUnreachable { failure, .. } => {
                refusal(failure.failure())
            }
            Self::Timeout { last, .. } => last.as_ref().and_then(|last| refusal(last.failure())),
            Self::InvalidArgument { .. }
            | Self::InvalidEndpoint { .. }
            | Self::Tls { .. }
            | Self::ResponseTooLarge { .. }
            | Self::Closed { .. }
            | Self::RuntimeGone { .. } => None,
        }
    }

    /// The gRPC code of the server's answer, or of what came in the place of one from the last attempt; `None` where no
    /// attempt got so far.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        let of_attempt = |error: &AttemptError| match error.failure() {
            Failure::Status { code, .. } => Some(*code),
            _ => None,
        };
        match self {
            Self::Refused { code, .. }
            | Self::AuthenticationFailed { code, .. }
            | Self::TokenRefused { code, .. } => Some(*code),
            Self::MaybeExecuted { failure, .. } | Self::MemberUnreachable { failure, .. } => {
                of_attempt(failure)
            }
            Self::Timeout { last, .. } => last.as_ref().and_then(of_attempt),
            Self::InvalidArgument { .. }
            | Self::InvalidEndpoint { .. }
            | Self::Tls { .. }
            | Self::ResponseTooLarge { .. }
            | Self::Closed { .. }
            | Self::RuntimeGone { .. } => None,
        }
    }
}

/// Whether a refusal is for the moment: by its code, or because etcd turns requests away for as long as something lasts.
fn refusal_may_pass(code: Code, message: &str) -> bool {
    let failure = Failure::status(code, message);
    matches!(code, Code::Unavailable | Code::Aborted) || is_turned_away(&failure)
}

/// A watch, a mirror or a read of all keys could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The request can't be served. Fix it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The client was closed.
    #[error("the client has been closed")]
    Closed,
    /// The runtime that the client was built on has shut down.
    #[error("the runtime that the client was built on has shut down; build a client on one that lives on")]
    RuntimeGone,
}

/// How a message ends that says what the last attempt came to, if there was one.
pub(crate) fn last_failure(last: Option<&impl fmt::Display>) -> String {
    last.map_or_else(String::new, |failure| format!("; the last attempt: {failure}"))
}

/// A client can't be built as asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There are no endpoints.
    #[error("endpoints is empty: give at least one, such as http://127.0.0.1:2379")]
    NoEndpoints,
    /// An endpoint can't be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The TLS settings can't be used.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] crate::TlsError),
    /// The proxy can't be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// A proxy was given, and a connector too, which connects without it.
    #[error("proxy and connector are both set: a connector connects in its own way; leave one of them out")]
    ProxyAndConnector,
    /// A user was given, and an auth token too, which is another user's or the same one's.
    #[error("user and token are both set: a token says who its user is; leave one of them out")]
    UserAndToken,
    /// The settings of the watches contradict each other.
    #[error(transparent)]
    Watch(#[from] ConfigError),
    /// A setting is out of range.
    #[error("{field} is {value}: it must be {allowed}")]
    OutOfRange {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// The builder was not given a runtime and doesn't run on one.
    #[error(transparent)]
    NoRuntime(#[from] NoRuntime),
}

/// A client could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It can't be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The user's name or password is wrong. Told as soon as a member has said so.
    #[error("{message}; check the user and the password given to the client")]
    AuthenticationFailed {
        /// The server's text.
        message: String,
    },
    /// The auth token that the client was given is refused. Told as soon as a member has said so.
    #[error(
        "the auth token that the client was given is refused ({message}): give it another one with ClientBuilder::token"
    )]
    TokenRefused {
        /// The server's text.
        message: String,
    },
    /// The cluster wants a user, and the client has none. Told as soon as a member has said so.
    #[error(
        "the cluster wants a user ({message}): give the client one with ClientBuilder::user, or an auth token with ClientBuilder::token"
    )]
    UserRequired {
        /// The server's text.
        message: String,
    },
    /// TLS was refused, by one side or the other, at every endpoint. Told at once: settings or certificates have to
    /// change.
    #[error("no endpoint can be used: {}", list(.endpoints))]
    Tls {
        /// Every endpoint: which side refused what, and what to do about it.
        endpoints: Vec<EndpointFailure>,
    },
    /// No endpoint has answered: within `connect_timeout`, or in two rounds in a row in which every one of them turned
    /// the client away.
    #[error("no endpoint has answered within {after:?}: {}", list(.endpoints))]
    Unreachable {
        /// Every endpoint, and what its last attempt came to.
        endpoints: Vec<EndpointFailure>,
        /// For how long they were tried.
        after: Duration,
    },
    /// The runtime that the client was built on shut down meanwhile.
    #[error("the runtime that the client was built on has shut down")]
    RuntimeGone,
}

/// Why an endpoint can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointFailure {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What the last attempt came to.
    pub cause: AttemptError,
}

impl fmt::Display for EndpointFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.cause)
    }
}

fn list(failures: &[EndpointFailure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: Code, message: &str) -> CallError {
        CallError::Refused { method: "Put", code, message: message.into() }
    }

    #[test]
    fn an_error_says_whether_it_may_pass() {
        let last = None;
        assert!(CallError::Timeout { method: "Get", after: Duration::ZERO, last }.is_transient());
        for (code, message, transient) in [
            (Code::Unavailable, "etcdserver: request timed out", true),
            (Code::Aborted, "", true),
            (Code::ResourceExhausted, "etcdserver: too many requests", true),
            (Code::Unknown, "etcdserver: too many requests", true),
            (Code::FailedPrecondition, "etcdserver: rpc not supported for learner", true),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", false),
            (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted", false),
            (Code::PermissionDenied, "etcdserver: permission denied", false),
        ] {
            assert_eq!(refused(code, message).is_transient(), transient, "{code:?} {message}");
        }
        for hopeless in [CallError::Closed { method: "Put" }, CallError::RuntimeGone { method: "Put" }] {
            assert!(!hopeless.is_transient() && !hopeless.may_have_executed(), "{hopeless}");
        }
    }

    #[test]
    fn an_error_tells_etcds_refusal_of_the_last_attempt_too() {
        let no_leader = || Failure::status(14, "etcdserver: no leader").into();
        let after = Duration::ZERO;
        for (error, expected) in [
            (
                refused(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
                Some(Refusal::NoSpace),
            ),
            (refused(Code::Unknown, "etcdserver: mvcc: database space exceeded"), Some(Refusal::NoSpace)),
            (refused(Code::ResourceExhausted, "the disk of the proxy is full"), None),
            (CallError::Timeout { method: "Put", after, last: Some(no_leader()) }, Some(Refusal::NoLeader)),
            (CallError::Timeout { method: "Put", after, last: None }, None),
            (CallError::MaybeExecuted { method: "Put", failure: no_leader() }, Some(Refusal::NoLeader)),
            (CallError::Closed { method: "Put" }, None),
        ] {
            assert_eq!(error.refusal(), expected, "{error}");
        }
    }

    #[test]
    fn an_error_says_whether_the_store_may_have_changed_and_with_which_code() {
        let lost = |failure: Failure| CallError::MaybeExecuted { method: "Put", failure: failure.into() };
        assert!(lost(Failure::connection("reset")).may_have_executed());
        for executed in [false, true] {
            let too_large = CallError::ResponseTooLarge { method: "Txn", bytes: 2, limit: 1, executed };
            assert_eq!(too_large.may_have_executed(), executed);
        }
        assert!(!refused(Code::NotFound, "").may_have_executed());
        assert_eq!(refused(Code::NotFound, "").code(), Some(Code::NotFound));
        assert_eq!(lost(Failure::status(14, "")).code(), Some(Code::Unavailable));
        assert_eq!(lost(Failure::connection("reset")).code(), None);
    }
}
