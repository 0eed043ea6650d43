//! What to do after a failed attempt at a call.

use etcd_watch_core::{Code, Failure, Refusal, Remedy, is_etcds_own, is_turned_away, refusal, remedy};

use crate::{
    AttemptError, CallError,
    transport::rpc::{CallFailure, Fate, Repeat},
};

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Retry,
    GiveUp,
}

/// Whether to make another attempt.
pub(crate) fn next(repeat: Repeat, failed: &CallFailure) -> Next {
    let failure = failed.failure();
    if is_final(failure) || failed.fate == Fate::GivenTokenRefused {
        return Next::GiveUp;
    }
    let unexecuted = surely_not_executed(failed);
    let harmless = repeat == Repeat::Freely && (members_fault(failure) || failed.fate == Fate::TurnedAway);
    if harmless || unexecuted { Next::Retry } else { Next::GiveUp }
}

/// Whether another endpoint may do better: the connection is of no use, the member isn't, or what has answered isn't
/// etcd.
pub(crate) fn members_fault(failure: &Failure) -> bool {
    match failure {
        Failure::Connection { .. } | Failure::Tls { .. } | Failure::EndOfStream => true,
        Failure::Status { code: Code::Unavailable, .. } => true,
        Failure::Status { .. } => {
            !is_etcds_own(failure) || (is_turned_away(failure) && !says_too_many_requests(failure))
        }
        _ => false,
    }
}

/// Whether to make the next attempt elsewhere, though the member may be well.
pub(crate) fn goes_elsewhere(failure: &Failure) -> bool {
    members_fault(failure) || says_too_many_requests(failure)
}

/// The member is behind with what it has to apply.
fn says_too_many_requests(failure: &Failure) -> bool {
    matches!(failure, Failure::Status { code: Code::ResourceExhausted | Code::Unknown, .. })
        && is_turned_away(failure)
}

/// Whether every further attempt would come to the same.
fn is_final(failure: &Failure) -> bool {
    matches!(
        remedy(failure),
        Remedy::BadCredentials | Remedy::Denied | Remedy::Refused | Remedy::Unsupported | Remedy::TooLarge
    )
}

/// Whether a write may be made again, since nothing can have come of this attempt.
pub(super) fn surely_not_executed(failed: &CallFailure) -> bool {
    let failure = failed.failure();
    let by_another = |code| !is_etcds_own(failure) && surely_refused(code);
    match failure {
        _ if failed.fate != Fate::Open => true,
        // A server that refuses a client's certificate reads nothing of what comes after it.
        Failure::Tls { .. } => true,
        Failure::Status { code, .. } => is_turned_away(failure) || by_another(*code),
        _ => false,
    }
}

/// The error of a call that is given up after this failure.
pub(crate) fn error(method: &'static str, repeat: Repeat, failed: AttemptError) -> CallError {
    let remedy = remedy(failed.failure());
    match failed.failure().clone() {
        Failure::Status { code, message } if remedy == Remedy::BadCredentials => {
            CallError::AuthenticationFailed { method, code, message }
        }
        Failure::Tls { .. } => CallError::Tls { method, failure: failed },
        Failure::InvalidRequest { message } => {
            CallError::Refused { method, code: Code::InvalidArgument, message }
        }
        // gRPC's word for an answer that is too large to be sent: the request has been executed by then.
        Failure::Status { code: Code::ResourceExhausted, message }
            if repeat == Repeat::IfNotExecuted
                && ["trying to send message larger than max", "Sent message larger than max"]
                    .iter()
                    .any(|text| message.contains(text)) =>
        {
            CallError::MaybeExecuted { method, failure: failed }
        }
        // A member that finds its quota used up while it applies a write makes it, and says so all the same (etcd's
        // `quotaApplierV3`). It is not told apart from a write that was turned away.
        Failure::Status { .. }
            if repeat == Repeat::IfNotExecuted && refusal(failed.failure()) == Some(Refusal::NoSpace) =>
        {
            CallError::MaybeExecuted { method, failure: failed }
        }
        Failure::ResponseTooLarge { bytes, limit } => {
            let executed = repeat == Repeat::IfNotExecuted;
            CallError::ResponseTooLarge { method, bytes, limit, executed }
        }
        Failure::Status { code, message }
            if repeat == Repeat::Freely
                || surely_refused(code)
                || is_said_beforehand(remedy)
                || refusal(failed.failure()) == Some(Refusal::UnhealthyCluster) =>
        {
            CallError::Refused { method, code, message }
        }
        _ => CallError::MaybeExecuted { method, failure: failed },
    }
}

/// The error of a call whose auth token the application gave, and the server has refused. It was not executed.
pub(crate) fn token_refused(method: &'static str, failed: AttemptError) -> CallError {
    match failed.into_failure() {
        Failure::Status { code, message } => CallError::TokenRefused { method, code, message },
        // Only a status says so.
        other => CallError::TokenRefused { method, code: Code::Unauthenticated, message: other.to_string() },
    }
}

/// What is looked at before anything is done, whatever the code it is said with: the user, and the request itself. So is
/// whether enough members are connected for a change of the membership (etcd's `server.go`, `mayAddMember` and
/// `mayRemoveMember`), which calls for something else.
fn is_said_beforehand(remedy: Remedy) -> bool {
    matches!(remedy, Remedy::Reauthenticate | Remedy::Denied | Remedy::Refused)
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

    fn sent(failure: Failure) -> CallFailure {
        CallFailure::sent(failure)
    }

    fn error_of(failure: Failure) -> CallError {
        error("Put", Repeat::IfNotExecuted, failure.into())
    }

    #[test]
    fn a_write_whose_answer_was_too_large_to_be_sent_may_have_been_executed() {
        let of = |repeat, text: &str| error("Txn", repeat, Failure::status(8, text).into());
        let answer = "grpc: trying to send message larger than max (9 vs. 8)";
        let answer_of_the_c_core = "Sent message larger than max (9 vs. 8)";
        let request = "grpc: received message larger than max (9 vs. 8)";
        assert!(matches!(of(Repeat::IfNotExecuted, answer), CallError::MaybeExecuted { .. }));
        assert!(matches!(of(Repeat::IfNotExecuted, answer_of_the_c_core), CallError::MaybeExecuted { .. }));
        assert!(matches!(of(Repeat::IfNotExecuted, request), CallError::Refused { .. }));
        assert!(matches!(of(Repeat::Freely, answer), CallError::Refused { .. }));
    }

    #[test]
    fn only_a_write_whose_answer_is_too_large_has_been_executed() {
        for (repeat, is_write) in [(Repeat::Freely, false), (Repeat::IfNotExecuted, true)] {
            let error = error("Any", repeat, Failure::ResponseTooLarge { bytes: 9, limit: 8 }.into());
            assert!(matches!(error, CallError::ResponseTooLarge { bytes: 9, limit: 8, .. }), "{error}");
            assert_eq!(error.may_have_executed(), is_write);
        }
    }

    #[test]
    fn a_read_is_tried_again_where_another_member_may_do_better() {
        let read = |failure| next(Repeat::Freely, &sent(failure));
        assert_eq!(read(Failure::connection("reset")), Next::Retry);
        assert_eq!(read(Failure::status(14, "etcdserver: request timed out")), Next::Retry);
        assert_eq!(read(Failure::status(9, "etcdserver: rpc not supported for learner")), Next::Retry);
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(read(Failure::status(11, compacted)), Next::GiveUp);
        assert_eq!(read(Failure::status(7, "etcdserver: permission denied")), Next::GiveUp);
    }

    #[test]
    fn a_write_is_tried_again_only_if_it_surely_was_not_executed() {
        let write = |failure| next(Repeat::IfNotExecuted, &sent(failure));
        assert_eq!(write(Failure::connection("reset")), Next::GiveUp);
        assert_eq!(write(Failure::status(14, "etcdserver: request timed out")), Next::GiveUp);
        assert_eq!(write(Failure::status(14, "etcdserver: no leader")), Next::Retry);
        assert_eq!(write(Failure::status(8, "etcdserver: too many requests")), Next::Retry);
        assert_eq!(write(Failure::status(2, "etcdserver: too many requests")), Next::Retry);
        assert_eq!(write(Failure::status(14, "upstream has no leader")), Next::GiveUp);
        for fate in [Fate::NotSent, Fate::StreamRefused, Fate::TurnedAway, Fate::TokenRefused] {
            let failed = CallFailure { fate, ..sent(Failure::connection("closed")) };
            assert_eq!(next(Repeat::IfNotExecuted, &failed), Next::Retry, "{fate:?}");
        }
    }

    #[test]
    fn a_learner_turns_writes_away_and_they_go_to_another_member() {
        for code in [2, 9, 14] {
            let failure = Failure::status(code, "etcdserver: rpc not supported for learner");
            assert!(goes_elsewhere(&failure), "{code}");
            assert_eq!(next(Repeat::IfNotExecuted, &sent(failure)), Next::Retry, "{code}");
        }
    }

    #[test]
    fn what_is_not_etcds_own_word_is_not_the_last_one() {
        for (code, text) in [
            (7, "RBAC: access denied"),
            (7, "HTTP status 403 instead of a gRPC response"),
            (12, "HTTP status 404 instead of a gRPC response"),
            (16, "Jwt is expired"),
            (8, "rate limit: too many requests"),
        ] {
            let failure = || Failure::status(code, text);
            assert!(goes_elsewhere(&failure()), "{text}");
            for repeat in [Repeat::Freely, Repeat::IfNotExecuted] {
                assert_eq!(next(repeat, &sent(failure())), Next::Retry, "{repeat:?}: {text}");
            }
        }
        // A gateway that has lost its upstream may have lost it after the write.
        let gateway = || Failure::status(14, "HTTP status 502 instead of a gRPC response");
        assert_eq!(next(Repeat::Freely, &sent(gateway())), Next::Retry);
        assert_eq!(next(Repeat::IfNotExecuted, &sent(gateway())), Next::GiveUp);
        assert!(matches!(error_of(gateway()), CallError::MaybeExecuted { .. }));
    }

    #[test]
    fn a_write_refused_for_its_token_is_made_with_another_unless_there_is_no_user() {
        for text in ["invalid auth token", "revision of auth store is old", "user name is empty"] {
            let failure = Failure::status(2, format!("etcdserver: {text}"));
            let with_user = CallFailure { fate: Fate::TokenRefused, ..sent(failure.clone()) };
            assert_eq!(next(Repeat::IfNotExecuted, &with_user), Next::Retry);
            assert_eq!(next(Repeat::IfNotExecuted, &sent(failure.clone())), Next::GiveUp);
            let error = error_of(failure);
            assert!(matches!(error, CallError::Refused { .. }), "{error}");
        }
    }

    #[test]
    fn a_refused_token_that_the_application_gave_is_final_and_told_apart() {
        let failure = || Failure::status(16, "etcdserver: invalid auth token");
        let failed = CallFailure { fate: Fate::GivenTokenRefused, ..sent(failure()) };
        for repeat in [Repeat::Freely, Repeat::IfNotExecuted] {
            assert_eq!(next(repeat, &failed), Next::GiveUp, "{repeat:?}");
        }
        let error = token_refused("Put", failed.error);
        assert!(matches!(&error, CallError::TokenRefused { method: "Put", .. }), "{error}");
        assert_eq!(error.code(), Some(Code::Unauthenticated));
        assert!(!error.may_have_executed() && error.to_string().contains("set_credentials"), "{error}");
    }

    #[test]
    fn a_wrong_password_is_final_and_told_apart() {
        let wrong = "etcdserver: authentication failed, invalid user ID or password";
        let failed = CallFailure::not_sent(Failure::status(3, wrong));
        assert_eq!(next(Repeat::IfNotExecuted, &failed), Next::GiveUp);
        let expected = CallError::AuthenticationFailed {
            method: "Put",
            code: Code::InvalidArgument,
            message: wrong.into(),
        };
        assert_eq!(error("Put", Repeat::IfNotExecuted, failed.error), expected);
    }

    #[test]
    fn a_write_for_which_there_was_no_room_may_have_been_made() {
        for code in [8, 2] {
            let full = || Failure::status(code, "etcdserver: mvcc: database space exceeded");
            assert_eq!(next(Repeat::IfNotExecuted, &sent(full())), Next::GiveUp);
            let write = error_of(full());
            assert!(matches!(write, CallError::MaybeExecuted { .. }), "{write}");
            assert_eq!(write.refusal(), Some(Refusal::NoSpace));
            assert!(write.may_have_executed() && !write.is_transient(), "{write}");
            let read = error("AlarmList", Repeat::Freely, full().into());
            assert!(matches!(read, CallError::Refused { .. }), "{read}");
        }
    }

    #[test]
    fn a_lost_answer_to_a_write_is_told_apart_from_a_refusal() {
        assert!(matches!(error_of(Failure::connection("reset")), CallError::MaybeExecuted { .. }));
        assert!(matches!(error_of(Failure::status(2, "who knows")), CallError::MaybeExecuted { .. }));
        assert!(matches!(error_of(Failure::status(3, "no key")), CallError::Refused { .. }));
        let unhealthy = error_of(Failure::status(14, "etcdserver: unhealthy cluster"));
        assert!(matches!(unhealthy, CallError::Refused { .. }) && unhealthy.is_transient(), "{unhealthy}");
    }

    #[test]
    fn etcds_refusal_of_a_request_is_one_by_whatever_code_a_proxy_passes_it_on() {
        for code in [2, 5] {
            let error = error_of(Failure::status(code, "etcdserver: requested lease not found"));
            assert!(matches!(error, CallError::Refused { .. }), "{code}: {error}");
            assert!(error.is_lease_not_found(), "{code}: {error}");
        }
        let error = error_of(Failure::status(5, "no route to the service"));
        assert!(!error.is_lease_not_found(), "{error}");
    }
}
