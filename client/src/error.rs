//! Errors of calls and of starting up.

use std::{error::Error as StdError, fmt, time::Duration};

use etcd_watch_core::{Code, ConfigError, Failure};

use crate::{Endpoint, EndpointError, NoRuntime};

/// Any error, boxed.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A call (KV, Lease) failed.
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
        /// The server's text.
        message: String,
    },
    /// The TLS handshake was refused, by one side or the other, at every endpoint. The call was not made.
    #[error("{method} was not made: {message}")]
    Tls {
        /// The call.
        method: &'static str,
        /// Which side refused what, and what to do about it.
        message: String,
    },
    /// No endpoint answered within the time limit. The call was not executed, or it changes nothing.
    #[error("{method} was not answered within {after:?}{}", last_failure(.last.as_ref()))]
    Timeout {
        /// The call.
        method: &'static str,
        /// The time limit.
        after: Duration,
        /// The last attempt's failure, if there was one.
        last: Option<Failure>,
    },
    /// The call was sent, and how it ended is not known: it may or may not have been executed. Read
    /// back what it was to change before you make it again.
    #[error("{method} may or may not have been executed: {failure}")]
    MaybeExecuted {
        /// The call.
        method: &'static str,
        /// What came instead of an answer.
        failure: Failure,
    },
    /// The answer is larger than the limit. A write has been executed nonetheless.
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
    },
    /// The client was closed.
    #[error("{method}: the client has been closed")]
    Closed {
        /// The call.
        method: &'static str,
    },
}

fn last_failure(last: Option<&Failure>) -> String {
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
    /// The cluster wants a user, and the client has none. Told as soon as a member has said so.
    #[error("the cluster wants a user ({message}): give the client one with ClientBuilder::user")]
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
    /// No endpoint has answered: within `connect_timeout`, or in two rounds in a row in which nobody listened on any
    /// of them.
    #[error("no endpoint has answered within {after:?}: {}", list(.endpoints))]
    Unreachable {
        /// Every endpoint, and what its last attempt came to.
        endpoints: Vec<EndpointFailure>,
        /// For how long they were tried.
        after: Duration,
    },
}

/// Why an endpoint can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointFailure {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What the last attempt came to.
    pub cause: Failure,
}

impl fmt::Display for EndpointFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.cause)
    }
}

fn list(failures: &[EndpointFailure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
