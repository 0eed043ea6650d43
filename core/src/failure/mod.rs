//! What went wrong on the network, and the one table that says what to do about it.

mod etcd;
mod refusal;
mod status;

use alloc::string::{String, ToString};

pub use refusal::Refusal;
pub(crate) use status::{Oversize, is_compacted, is_future_revision, oversize, remedy_of_cancel};

use crate::{CloseReason, printable};

/// A gRPC status code (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>), by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
#[expect(
    clippy::exhaustive_enums,
    reason = "gRPC's codes are complete; other numbers are Unknown, as it asks"
)]
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
    /// The driver can't make the request out of what the application gave for it (metadata that HTTP/2 can't carry,
    /// say): every attempt on every endpoint would end the same way.
    #[error("{message}")]
    InvalidRequest {
        /// What is not valid.
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

/// Texts are made [`printable`]: a server's text goes into logs and onto terminals.
impl Failure {
    /// A connection that could not be made, or broke.
    pub fn connection(message: impl Into<String>) -> Self {
        Self::Connection { message: printable(message) }
    }

    /// A TLS handshake that one side refused.
    pub fn tls(message: impl Into<String>) -> Self {
        Self::Tls { message: printable(message) }
    }

    /// A request that the driver can't make.
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::InvalidRequest { message: printable(message) }
    }

    /// A gRPC status.
    pub fn status(code: impl Into<Code>, message: impl Into<String>) -> Self {
        Self::Status { code: code.into(), message: printable(message) }
    }
}

/// How many new auth tokens in a row may be refused before watches end with
/// [`TokenRefused`](CloseReason::TokenRefused).
pub(crate) const TOKEN_LIMIT: u32 = 8;

/// What a failure calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Try again. Any endpoint will do, unless the attempt before failed too, for whatever reason: then another one.
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

/// What to do about a failure.
///
/// A status counts as etcd's own if it has the exact text of one of etcd's errors, and that error's code or
/// `Unknown`, which is what it becomes when a Go program passes it on (etcd's own gRPC proxy does). Any other status
/// may be a proxy's or a foreign server's, whatever words it has: it is judged by its code alone, and is tried again.
/// Two texts of gRPC's own are known besides: that the service of etcd is unknown, and that a message is over a limit.
#[must_use]
pub fn remedy(failure: &Failure) -> Remedy {
    match failure {
        Failure::Connection { .. } | Failure::Tls { .. } | Failure::EndOfStream => Remedy::RetryElsewhere,
        Failure::InvalidRequest { .. } => Remedy::Refused,
        Failure::ResponseTooLarge { .. } => Remedy::TooLarge,
        Failure::Status { code, message } => status::remedy(*code, message),
    }
}

/// Whether a member refused a request before it did anything for it, and another member, or the same one later, may
/// serve it: it is a learner, has no leader, is not ready yet or has too much to do. A write that ended so was not
/// executed.
#[must_use]
pub fn is_turned_away(failure: &Failure) -> bool {
    matches!(failure, Failure::Status { code, message } if status::is_turned_away(*code, message))
}

/// Which of etcd's refusals a failure is; `None` if it is no status, or one in other words than etcd's.
#[must_use]
pub fn refusal(failure: &Failure) -> Option<Refusal> {
    match failure {
        Failure::Status { code, message } => status::refusal(*code, message),
        _ => None,
    }
}

/// Whether etcd itself has said it. Any other status may come from something between the driver and etcd, or from a
/// server that is not etcd: another endpoint may do better, and so may the same one later.
#[must_use]
pub fn is_etcds_own(failure: &Failure) -> bool {
    matches!(failure, Failure::Status { code, message } if status::is_etcds_own(*code, message))
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
    fn a_request_that_can_not_be_made_is_refused_in_the_drivers_words() {
        let failure = Failure::invalid_request("metadata \"a b\" is not valid");
        assert_eq!(remedy(&failure), Remedy::Refused);
        let message = "metadata \"a b\" is not valid".into();
        assert_eq!(final_reason(Remedy::Refused, &failure), Some(CloseReason::Refused { message }));
    }

    #[test]
    fn an_end_of_stream_is_a_failure_like_any_other() {
        assert_eq!(remedy(&Failure::EndOfStream), remedy(&Failure::connection("reset")));
    }
}
