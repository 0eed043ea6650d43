//! What went wrong on the network, and the one table that says what to do about it.

use alloc::string::{String, ToString};

use crate::CloseReason;

/// A gRPC status code (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>), by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl From<i32> for Code {
    /// Numbers gRPC doesn't define are `Unknown`, as the specification asks.
    fn from(number: i32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::Cancelled,
            3 => Self::InvalidArgument,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            9 => Self::FailedPrecondition,
            10 => Self::Aborted,
            11 => Self::OutOfRange,
            12 => Self::Unimplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            15 => Self::DataLoss,
            16 => Self::Unauthenticated,
            _ => Self::Unknown,
        }
    }
}

/// How a stream, a connection or a read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No connection could be made, or it broke.
    #[error("connection failed: {message}")]
    Connection {
        /// What the transport said.
        message: String,
    },
    /// One side refused the other in the TLS handshake: until settings or certificates change, every attempt
    /// on this endpoint ends the same way.
    #[error("{message}")]
    Tls {
        /// Which side refused what, and what to do about it.
        message: String,
    },
    /// The server ended the stream without an error. A failure like any other: a watch stream has no end.
    #[error("the server ended the stream")]
    EndOfStream,
    /// A gRPC status.
    #[error("{code:?}: {message}")]
    Status {
        /// Its code.
        code: Code,
        /// Its text.
        message: String,
    },
    /// A response was larger than the driver's limit.
    #[error("a response of {bytes} bytes is over the limit of {limit}")]
    ResponseTooLarge {
        /// Its size in bytes, 0 if unknown.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl Failure {
    /// A connection that could not be made, or broke.
    pub fn connection(message: impl Into<String>) -> Self {
        Self::Connection { message: message.into() }
    }

    /// A TLS handshake that one side refused.
    pub fn tls(message: impl Into<String>) -> Self {
        Self::Tls { message: message.into() }
    }

    /// A gRPC status.
    pub fn status(code: impl Into<Code>, message: impl Into<String>) -> Self {
        Self::Status { code: code.into(), message: message.into() }
    }
}

/// How many new auth tokens in a row may be refused before watches end with
/// [`TokenRefused`](CloseReason::TokenRefused).
pub(crate) const TOKEN_LIMIT: u32 = 8;

/// What a failure calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Try again; any endpoint will do.
    Retry,
    /// Try again on another endpoint.
    RetryElsewhere,
    /// The member has no leader: try again on another endpoint, and mind the deadline for that.
    NoLeader,
    /// Get a new auth token, then try again.
    Reauthenticate,
    /// Retrying won't help: the user is not known, or the password is wrong.
    BadCredentials,
    /// Retrying won't help: the user may not do this.
    Denied,
    /// Retrying won't help: the request is refused.
    Refused,
    /// Retrying won't help: the endpoint doesn't have the service.
    Unsupported,
    /// Retry a few times, then give up: a response is too large.
    TooLarge,
}

/// The table. etcd's texts come from its `rpctypes`; they are what tells its errors apart where codes
/// are shared, and older servers send some of them under other codes.
#[must_use]
pub fn remedy(failure: &Failure) -> Remedy {
    let (code, message) = match failure {
        Failure::Connection { .. } | Failure::Tls { .. } | Failure::EndOfStream => {
            return Remedy::RetryElsewhere;
        }
        Failure::ResponseTooLarge { .. } => return Remedy::TooLarge,
        Failure::Status { code, message } => (*code, message.as_str()),
    };
    if let Some(remedy) = remedy_by_text(message) {
        return remedy;
    }
    match code {
        Code::Unauthenticated => Remedy::Reauthenticate,
        Code::PermissionDenied => Remedy::Denied,
        Code::InvalidArgument | Code::NotFound | Code::AlreadyExists => Remedy::Refused,
        Code::Unimplemented => Remedy::Unsupported,
        Code::Aborted => Remedy::Retry,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Remedy::RetryElsewhere,
    }
}

/// Why a watch ends for which retrying won't help; `None` where it may.
pub(crate) fn final_reason(remedy: Remedy, failure: &Failure) -> Option<CloseReason> {
    let message = || message_of(failure);
    match remedy {
        Remedy::BadCredentials => Some(CloseReason::AuthenticationFailed { message: message() }),
        Remedy::Denied => Some(CloseReason::PermissionDenied { message: message() }),
        Remedy::Refused => Some(CloseReason::Refused { message: message() }),
        Remedy::Unsupported => Some(CloseReason::Unsupported { message: message() }),
        Remedy::Retry
        | Remedy::RetryElsewhere
        | Remedy::NoLeader
        | Remedy::Reauthenticate
        | Remedy::TooLarge => None,
    }
}

/// The server's own text, where there is one.
pub(crate) fn message_of(failure: &Failure) -> String {
    match failure {
        Failure::Status { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

/// The part of the table that goes by etcd's text; also what a refused or cancelled watch's
/// `cancel_reason` is looked up in.
pub(crate) fn remedy_by_text(message: &str) -> Option<Remedy> {
    const TEXTS: [(&str, Remedy); 13] = [
        ("authentication failed", Remedy::BadCredentials),
        ("permission denied", Remedy::Denied),
        ("no leader", Remedy::NoLeader),
        ("invalid auth token", Remedy::Reauthenticate),
        ("revision of auth store is old", Remedy::Reauthenticate),
        ("revision in header is old", Remedy::Reauthenticate),
        ("old revision", Remedy::Reauthenticate),
        ("user name is empty", Remedy::Reauthenticate),
        ("user name not found", Remedy::Denied),
        ("duplicate watch ID", Remedy::Retry),
        ("too many requests", Remedy::RetryElsewhere),
        ("request timed out", Remedy::RetryElsewhere),
        ("server stopped", Remedy::RetryElsewhere),
    ];
    TEXTS.iter().find(|(text, _)| message.contains(text)).map(|&(_, remedy)| remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_keeps_its_number() {
        for number in 0..=16 {
            assert_eq!(Code::from(number) as i32, number);
        }
        assert_eq!(Code::from(99), Code::Unknown);
        assert_eq!(Code::from(-1), Code::Unknown);
    }

    #[test]
    fn texts_go_before_codes() {
        let no_leader = Failure::status(14, "etcdserver: no leader");
        assert_eq!(remedy(&no_leader), Remedy::NoLeader);
        let denied = Failure::status(2, "rpc error: etcdserver: permission denied");
        assert_eq!(remedy(&denied), Remedy::Denied);
        let token = Failure::status(2, "etcdserver: invalid auth token");
        assert_eq!(remedy(&token), Remedy::Reauthenticate);
        let user = Failure::status(3, "etcdserver: authentication failed, invalid user ID or password");
        assert_eq!(remedy(&user), Remedy::BadCredentials);
    }

    #[test]
    fn an_end_of_stream_is_a_failure_like_any_other() {
        assert_eq!(remedy(&Failure::EndOfStream), remedy(&Failure::connection("reset")));
    }
}
