//! How a call ended, in the words of OpenTelemetry's conventions for gRPC.

use etcd_watch_core::{Code, Failure};

use crate::CallError;

/// How a call ended: its status, and a class of errors unless it went well.
///
/// The status is the server's, or what stands for it where no answer came. The class is the name of a status that the
/// server has sent, or else one of the words of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outcome {
    status: Code,
    error_type: Option<&'static str>,
}

impl Outcome {
    pub(super) const OK: Self = Self { status: Code::Ok, error_type: None };

    /// Nobody waits for the answer any longer.
    pub(super) const GIVEN_UP: Self = Self::without_answer(Code::Cancelled, "given_up");

    /// No answer came in time, and the call was not executed or changes nothing.
    pub(super) const TIMED_OUT: Self = Self::without_answer(Code::DeadlineExceeded, "timeout");

    const fn without_answer(status: Code, error_type: &'static str) -> Self {
        Self { status, error_type: Some(error_type) }
    }

    /// The server has answered with this status.
    pub(super) const fn answered(code: Code) -> Self {
        let error_type = match code {
            Code::Ok => None,
            code => Some(name(code)),
        };
        Self { status: code, error_type }
    }

    pub(super) fn of<T>(result: &Result<T, CallError>) -> Self {
        result.as_ref().err().map_or(Self::OK, Self::of_error)
    }

    pub(super) fn of_error(error: &CallError) -> Self {
        match error {
            CallError::Timeout { .. } => Self::TIMED_OUT,
            // The status, if there is one, is from something on the way.
            CallError::MaybeExecuted { .. } => {
                Self::without_answer(error.code().unwrap_or(Code::Unknown), "maybe_executed")
            }
            CallError::MemberUnreachable { .. } => Self::UNREACHABLE,
            CallError::Tls { .. } => Self::without_answer(Code::Unavailable, "tls"),
            CallError::ResponseTooLarge { .. } => {
                Self::without_answer(Code::ResourceExhausted, "response_too_large")
            }
            CallError::Closed { .. } => Self::without_answer(Code::Cancelled, "closed"),
            CallError::RuntimeGone { .. } => Self::without_answer(Code::Cancelled, "runtime_gone"),
            error => error.code().map_or(Self::INVALID, Self::answered),
        }
    }

    const UNREACHABLE: Self = Self::without_answer(Code::Unavailable, "connection");
    const INVALID: Self = Self::without_answer(Code::InvalidArgument, "invalid_request");

    /// Of a call that is one attempt.
    pub(super) fn of_attempt<T>(result: &Result<T, Failure>) -> Self {
        result.as_ref().err().map_or(Self::OK, Self::of_failure)
    }

    pub(super) fn of_failure(failure: &Failure) -> Self {
        match failure {
            Failure::Status { code, .. } => Self::answered(*code),
            Failure::Tls { .. } => Self::without_answer(Code::Unavailable, "tls"),
            Failure::ResponseTooLarge { .. } => {
                Self::without_answer(Code::ResourceExhausted, "response_too_large")
            }
            Failure::InvalidRequest { .. } => Self::INVALID,
            _ => Self::UNREACHABLE,
        }
    }

    /// The status, as gRPC spells it.
    pub(super) const fn status(self) -> &'static str {
        name(self.status)
    }

    /// The class of the error, unless it went well.
    pub(super) const fn error_type(self) -> Option<&'static str> {
        self.error_type
    }
}

/// gRPC's name of a code (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>).
const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn words(error: &CallError) -> (&'static str, Option<&'static str>) {
        let outcome = Outcome::of_error(error);
        (outcome.status(), outcome.error_type())
    }

    #[test]
    fn a_status_of_the_server_is_the_class_of_the_error_too() {
        let refused =
            CallError::Refused { method: "Put", code: Code::PermissionDenied, message: "no".into() };
        assert_eq!(words(&refused), ("PERMISSION_DENIED", Some("PERMISSION_DENIED")));
        let status = Failure::status(Code::OutOfRange as i32, "compacted");
        assert_eq!(Outcome::of_attempt(&Err::<(), _>(status)), Outcome::answered(Code::OutOfRange));
    }

    #[test]
    fn where_no_answer_came_the_class_says_what_came_instead() {
        let late = CallError::Timeout { method: "Get", after: Duration::ZERO, last: None };
        assert_eq!(words(&late), ("DEADLINE_EXCEEDED", Some("timeout")));
        let lost = |failure: Failure| CallError::MaybeExecuted { method: "Put", failure: failure.into() };
        assert_eq!(words(&lost(Failure::connection("reset"))), ("UNKNOWN", Some("maybe_executed")));
        assert_eq!(words(&lost(Failure::status(14, "gone"))), ("UNAVAILABLE", Some("maybe_executed")));
        let invalid = CallError::InvalidArgument { method: "Put", field: "key", problem: "is empty" };
        assert_eq!(words(&invalid), ("INVALID_ARGUMENT", Some("invalid_request")));
        let outcome = Outcome::of_attempt(&Err::<(), _>(Failure::connection("reset")));
        assert_eq!((outcome.status(), outcome.error_type()), ("UNAVAILABLE", Some("connection")));
    }

    #[test]
    fn what_goes_well_has_no_error() {
        assert_eq!((Outcome::OK.status(), Outcome::of(&Ok(()))), ("OK", Outcome::answered(Code::Ok)));
        assert_eq!(Outcome::OK.error_type(), None);
    }
}
