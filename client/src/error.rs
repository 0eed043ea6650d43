//! Errors of calls and of starting up.

use std::{error::Error as StdError, time::Duration};

use etcd_watch_core::{Code, ConfigError, Failure};

use crate::{EndpointError, NoRuntime};

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

/// A client could not be built, or reached no endpoint in the time it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It can't be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The user's name or password is wrong.
    #[error("{message}; check the user and the password given to the client")]
    AuthenticationFailed {
        /// The server's text.
        message: String,
    },
    /// The TLS handshake was refused, by one side or the other, at every endpoint.
    #[error("none of {} can be used: {message}", .endpoints.join(", "))]
    Tls {
        /// The endpoints tried.
        endpoints: Vec<String>,
        /// Which side refused what, and what to do about it; for the last endpoint tried.
        message: String,
    },
    /// No endpoint answered within `connect_timeout`.
    #[error("none of {} answered within {after:?}; the last failure: {last}", .endpoints.join(", "))]
    Unreachable {
        /// The endpoints tried.
        endpoints: Vec<String>,
        /// The time limit.
        after: Duration,
        /// The last attempt's failure.
        last: Failure,
    },
}
