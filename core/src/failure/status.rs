//! What a gRPC status says: an error of etcd's own, another one that has to be judged by its code, a status that it
//! quotes, or a message over a limit.

use super::{
    Code, Failure, Refusal, Remedy,
    etcd::{self, COMPACTED, EtcdError, FUTURE_REVISION},
};

/// What a status calls for.
pub(super) fn remedy(code: Code, message: &str) -> Remedy {
    let (code, text) = innermost(code, message);
    etcd::remedy(Some(code), text).unwrap_or_else(|| by_code(code, text))
}

/// What a refused or cancelled watch's `cancel_reason` calls for; `None` if it gives no reason to try again, and none
/// that has a name.
///
/// The field has no code. etcd writes some errors as gRPC prints a status (`rpc error: code = PermissionDenied desc =
/// etcdserver: permission denied`), which is judged as that status, and some as their bare text, which has to be
/// exactly etcd's (`server/etcdserver/api/v3rpc/watch.go`, `recvLoop`).
pub(crate) fn remedy_of_cancel(reason: &str) -> Option<Remedy> {
    let remedy = match quoted_status(reason) {
        Some((code, text)) => {
            let (code, text) = innermost(code, text);
            // What is out of the history's range on one member is so on all.
            let by_code = || (code != Code::OutOfRange).then(|| by_code(code, text));
            etcd::remedy(Some(code), text).or_else(by_code)
        }
        None => etcd::remedy(None, reason),
    };
    remedy.filter(|remedy| *remedy != Remedy::Refused)
}

/// Whether a status says that a member refused the request before it did anything for it.
pub(super) fn is_turned_away(code: Code, message: &str) -> bool {
    let (code, text) = innermost(code, message);
    etcd::is_turned_away(code, text)
}

/// Which of etcd's refusals a status is.
pub(super) fn refusal(code: Code, message: &str) -> Option<Refusal> {
    let (code, text) = innermost(code, message);
    etcd::refusal(code, text)
}

/// Whether a status was made by etcd, or by the gRPC server that it stands on when that looks for etcd's services.
pub(super) fn is_etcds_own(code: Code, message: &str) -> bool {
    let (code, text) = innermost(code, message);
    etcd::is_own_text(text)
        || by_code(code, text) == Remedy::Unsupported
        || oversize_of_status(code, text).is_some()
}

/// Whether the revision that was asked for is no longer in the store's history.
pub(crate) fn is_compacted(failure: &Failure) -> bool {
    is(failure, &COMPACTED)
}

/// Whether the revision that was asked for is not in the member's history yet.
pub(crate) fn is_future_revision(failure: &Failure) -> bool {
    is(failure, &FUTURE_REVISION)
}

fn is(failure: &Failure, error: &EtcdError) -> bool {
    let Failure::Status { code, message } = failure else { return false };
    let (code, text) = innermost(*code, message);
    etcd::matches(Some(code), text, error)
}

/// A message that is over one side's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Oversize {
    /// Its size in bytes, 0 if unknown.
    pub(crate) bytes: usize,
    /// The limit in bytes, 0 if unknown.
    pub(crate) limit: usize,
}

/// Whether a failure says that a message was over a limit: the driver's own, or another side's.
pub(crate) fn oversize(failure: &Failure) -> Option<Oversize> {
    match failure {
        Failure::ResponseTooLarge { bytes, limit } => Some(Oversize { bytes: *bytes, limit: *limit }),
        Failure::Status { code, message } => {
            let (code, text) = innermost(*code, message);
            oversize_of_status(code, text)
        }
        Failure::Connection { .. }
        | Failure::Tls { .. }
        | Failure::InvalidRequest { .. }
        | Failure::EndOfStream => None,
    }
}

/// Whether grpc-go says that it has no such service of etcd's, or no such method of one.
fn is_unknown_to_etcd(text: &str) -> bool {
    let of_service = |rest: &str| rest.starts_with("etcdserverpb.");
    match text.strip_prefix("unknown method ") {
        Some(rest) => rest.split_once(" for service ").is_some_and(|(_, service)| of_service(service)),
        None => text.strip_prefix("unknown service ").is_some_and(of_service),
    }
}

/// What a status that is not etcd's own calls for.
fn by_code(code: Code, text: &str) -> Remedy {
    match code {
        // The server of an endpoint that speaks gRPC, and is not etcd (grpc-go's `Server.handleStream`). A proxy
        // that has no route says `Unimplemented` too, with another text, and another endpoint may do better.
        Code::Unimplemented if is_unknown_to_etcd(text) => Remedy::Unsupported,
        Code::ResourceExhausted if oversize_of_status(code, text).is_some() => Remedy::TooLarge,
        Code::Aborted => Remedy::Retry,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => Remedy::RetryElsewhere,
    }
}

/// The status that an `Unknown` one quotes: a Go program that passes on an error it got makes such ones.
fn innermost(mut code: Code, mut text: &str) -> (Code, &str) {
    while code == Code::Unknown
        && let Some(quoted) = quoted_status(text)
    {
        (code, text) = quoted;
    }
    (code, text)
}

/// A status as grpc-go prints it (`internal/status/status.go`, `codes/code_string.go`).
fn quoted_status(text: &str) -> Option<(Code, &str)> {
    let (name, text) = text.strip_prefix("rpc error: code = ")?.split_once(" desc = ")?;
    let code = match name {
        "OK" => Code::Ok,
        "Canceled" => Code::Cancelled,
        "Unknown" => Code::Unknown,
        "InvalidArgument" => Code::InvalidArgument,
        "DeadlineExceeded" => Code::DeadlineExceeded,
        "NotFound" => Code::NotFound,
        "AlreadyExists" => Code::AlreadyExists,
        "PermissionDenied" => Code::PermissionDenied,
        "ResourceExhausted" => Code::ResourceExhausted,
        "FailedPrecondition" => Code::FailedPrecondition,
        "Aborted" => Code::Aborted,
        "OutOfRange" => Code::OutOfRange,
        "Unimplemented" => Code::Unimplemented,
        "Internal" => Code::Internal,
        "Unavailable" => Code::Unavailable,
        "DataLoss" => Code::DataLoss,
        "Unauthenticated" => Code::Unauthenticated,
        _ => return None,
    };
    Some((code, text))
}

/// What gRPC says of a message over its limit: grpc-go (`rpc_util.go`), then the C core (`message_size_filter.cc`).
fn oversize_of_status(code: Code, text: &str) -> Option<Oversize> {
    const PREFIXES: [&str; 6] = [
        "grpc: received message larger than max ",
        "grpc: trying to send message larger than max ",
        "grpc: message after decompression larger than max ",
        "grpc: received message after decompression larger than max ",
        "Received message larger than max ",
        "Sent message larger than max ",
    ];
    if code != Code::ResourceExhausted {
        return None;
    }
    let numbers = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix))?;
    // "(5000000 vs. 4194304)", or the limit alone.
    let pair = numbers.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')?.split_once(" vs. "));
    let (bytes, limit) = pair.unwrap_or(("", numbers));
    let number = |text: &str| text.parse().unwrap_or(0);
    Some(Oversize { bytes: number(bytes), limit: number(limit) })
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::{
        super::{is_etcds_own, is_turned_away, remedy},
        *,
    };
    use crate::failure::etcd::TABLE;

    /// Every code but `Unknown` and these.
    fn other_codes(codes: &[Code]) -> impl Iterator<Item = Code> {
        (0..=16).map(Code::from).filter(|code| *code != Code::Unknown && !codes.contains(code))
    }

    #[test]
    fn etcds_code_and_text_together_decide() {
        for (name, codes, text, expected, _) in TABLE {
            for &code in codes.iter().chain([&Code::Unknown]) {
                assert_eq!(remedy(&Failure::status(code, text)), expected, "{name} as {code:?}");
            }
        }
    }

    #[test]
    fn etcds_text_with_a_code_that_etcd_does_not_send_it_with_goes_by_that_code() {
        for (name, codes, text, ..) in TABLE {
            for code in other_codes(codes) {
                let expected = remedy(&Failure::status(code, ""));
                assert_eq!(remedy(&Failure::status(code, text)), expected, "{name} as {code:?}");
            }
        }
    }

    #[test]
    fn every_refusal_of_etcds_is_told_by_code_and_text_and_through_a_proxy() {
        for (name, codes, text, _, expected) in TABLE.into_iter().chain([COMPACTED, FUTURE_REVISION]) {
            for &code in codes.iter().chain([&Code::Unknown]) {
                assert_eq!(refusal(code, text), Some(expected), "{name} as {code:?}");
            }
            let other = other_codes(codes).next().unwrap_or(Code::Ok);
            assert_eq!(refusal(other, text), None, "{name} as {other:?}");
            assert_eq!(refusal(Code::Unknown, &format!("upstream: {text}")), None, "{name}");
        }
        let quoted = "rpc error: code = NotFound desc = etcdserver: member not found";
        assert_eq!(refusal(Code::Unknown, quoted), Some(Refusal::MemberNotFound));
    }

    #[test]
    fn a_text_that_only_contains_etcds_goes_by_its_code() {
        for (name, codes, text, ..) in TABLE {
            for near in [
                format!("upstream: {text}"),
                format!("{text} (from 10.0.0.1)"),
                text.to_uppercase(),
                text.trim_start_matches("etcdserver: ").replace("auth: ", "").replace("mvcc: ", ""),
            ] {
                for &code in codes.iter().chain([&Code::Unknown, &Code::Unavailable]) {
                    let found = remedy(&Failure::status(code, &near[..]));
                    assert_eq!(found, Remedy::RetryElsewhere, "{name}: {code:?} {near}");
                }
            }
        }
    }

    #[test]
    fn what_a_proxy_says_is_never_final() {
        let statuses = [
            (14, "upstream connect error: dial tcp 10.0.0.1:2379: connect: permission denied"),
            (14, "user name not found"),
            (14, "invalid auth token"),
            (7, "RBAC: access denied"),
            (7, "permission denied"),
            (16, "Jwt is expired"),
            (16, "invalid auth token"),
            (12, ""),
            (12, "grpc-status header missing, mapped from HTTP status code 404"),
            (12, "unknown service grpc.health.v1.Health"),
            (12, "no route: unknown service etcdserverpb.Watch"),
            (5, "no such route"),
            (3, "bad header: authentication failed"),
            (6, "session exists"),
            (8, "rate limit: too many requests"),
            (2, "permission denied"),
        ];
        for (code, text) in statuses {
            assert_eq!(remedy(&Failure::status(code, text)), Remedy::RetryElsewhere, "{code}: {text}");
        }
    }

    #[test]
    fn a_status_is_etcds_own_by_its_text() {
        for (name, codes, text, ..) in TABLE {
            for &code in codes.iter().chain([&Code::Unknown]) {
                assert!(is_etcds_own(&Failure::status(code, text)), "{name} as {code:?}");
            }
        }
        for text in
            [COMPACTED.2, "etcdserver: mvcc: database space exceeded", "unknown service etcdserverpb.KV"]
        {
            assert!(is_etcds_own(&Failure::status(12, text)), "{text}");
        }
        let quoted =
            "rpc error: code = OutOfRange desc = etcdserver: mvcc: required revision has been compacted";
        assert!(is_etcds_own(&Failure::status(2, quoted)));
        for text in
            ["", "HTTP status 403 instead of a gRPC response", "RBAC: access denied", "no etcdserver: here"]
        {
            assert!(!is_etcds_own(&Failure::status(7, text)), "{text}");
        }
        assert!(!is_etcds_own(&Failure::EndOfStream));
    }

    #[test]
    fn what_a_member_says_at_the_door_is_told_apart_from_what_it_says_inside() {
        let turned_away = |code: i32, text| is_turned_away(&Failure::status(code, text));
        for code in [2, 9, 14] {
            assert!(turned_away(code, "etcdserver: rpc not supported for learner"), "{code}");
        }
        assert!(turned_away(14, "etcdserver: no leader") && turned_away(8, "etcdserver: too many requests"));
        assert!(!turned_away(14, "etcdserver: request timed out"));
        assert!(!turned_away(14, "upstream: etcdserver: no leader"));
    }

    #[test]
    fn a_grpc_server_that_is_not_etcd_is_told_apart() {
        let unknown =
            |code, service: &str| remedy(&Failure::status(code, format!("unknown service {service}")));
        assert_eq!(unknown(12, "etcdserverpb.Watch"), Remedy::Unsupported);
        assert_eq!(unknown(12, "etcdserverpb.KV"), Remedy::Unsupported);
        assert_eq!(unknown(14, "etcdserverpb.Watch"), Remedy::RetryElsewhere);
        let method = |text| remedy(&Failure::status(12, text));
        let of_etcd = "unknown method AuthStatus for service etcdserverpb.Auth";
        assert_eq!(method(of_etcd), Remedy::Unsupported, "an etcd that is too old for it");
        assert_eq!(method("unknown method Check for service grpc.health.v1.Health"), Remedy::RetryElsewhere);
    }

    #[test]
    fn a_status_that_an_unknown_one_quotes_is_judged_in_its_place() {
        let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        assert_eq!(remedy(&Failure::status(2, denied)), Remedy::Denied);
        assert_eq!(remedy(&Failure::status(14, denied)), Remedy::RetryElsewhere);
        let twice = format!("rpc error: code = Unknown desc = {denied}");
        assert_eq!(remedy(&Failure::status(2, twice)), Remedy::Denied);
        let foreign = "rpc error: code = Unavailable desc = etcdserver: permission denied";
        assert_eq!(remedy(&Failure::status(2, foreign)), Remedy::RetryElsewhere);
        let deep = "rpc error: code = Unknown desc = ".repeat(100_000);
        assert_eq!(remedy(&Failure::status(2, deep)), Remedy::RetryElsewhere);
    }

    #[test]
    fn every_name_that_go_prints_stands_for_its_code() {
        for number in 0..=16 {
            let code = Code::from(number);
            let name = match code {
                Code::Ok => "OK".into(),
                Code::Cancelled => "Canceled".into(),
                _ => format!("{code:?}"),
            };
            let text = format!("rpc error: code = {name} desc = words");
            assert_eq!(quoted_status(&text), Some((code, "words")));
        }
    }

    #[test]
    fn a_cancel_reason_is_judged_bare_and_as_the_status_it_quotes() {
        for (name, codes, text, expected, _) in TABLE {
            let expected = (expected != Remedy::Refused).then_some(expected);
            assert_eq!(remedy_of_cancel(text), expected, "{name}");
            for code in codes {
                let name = if *code == Code::Cancelled { "Canceled".into() } else { format!("{code:?}") };
                let quoted = format!("rpc error: code = {name} desc = {text}");
                assert_eq!(remedy_of_cancel(&quoted), expected, "{quoted}");
            }
        }
    }

    #[test]
    fn a_cancel_reason_of_foreign_words_has_no_remedy_unless_it_quotes_a_status() {
        for text in [
            "",
            "permission denied",
            "no leader",
            "upstream: etcdserver: no leader",
            "mvcc: watcher range is empty",
            "etcdserver: mvcc: required revision has been compacted",
            "rpc error: code = OutOfRange desc = etcdserver: mvcc: required revision has been compacted",
            "rpc error: code = Code(99) desc = etcdserver: no leader",
            "rpc error: code = Unavailable",
        ] {
            assert_eq!(remedy_of_cancel(text), None, "{text}");
        }
        let foreign = [
            ("rpc error: code = Unavailable desc = connect: permission denied", Remedy::RetryElsewhere),
            ("rpc error: code = Unavailable desc = etcdserver: permission denied", Remedy::RetryElsewhere),
            ("rpc error: code = PermissionDenied desc = RBAC: access denied", Remedy::RetryElsewhere),
            ("rpc error: code = Aborted desc = restarting", Remedy::Retry),
        ];
        for (text, expected) in foreign {
            assert_eq!(remedy_of_cancel(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn revisions_out_of_the_historys_range_are_known_by_code_and_text() {
        let (compacted, future) = (COMPACTED.2, FUTURE_REVISION.2);
        for code in [2, 11] {
            assert!(is_compacted(&Failure::status(code, compacted)));
            assert!(is_future_revision(&Failure::status(code, future)));
            assert!(!is_compacted(&Failure::status(code, future)));
        }
        assert!(!is_compacted(&Failure::status(14, compacted)));
        assert!(!is_compacted(&Failure::status(11, format!("{compacted}, it says"))));
        assert!(!is_future_revision(&Failure::EndOfStream));
    }

    #[test]
    fn a_message_over_a_limit_is_known_with_its_sizes() {
        let sizes = |failure: &Failure| {
            assert_eq!(remedy(failure) == Remedy::TooLarge, oversize(failure).is_some(), "{failure}");
            oversize(failure).map(|Oversize { bytes, limit }| (bytes, limit))
        };
        let texts = [
            ("grpc: received message larger than max (5000000 vs. 4194304)", (5_000_000, 4_194_304)),
            ("grpc: trying to send message larger than max (5000000 vs. 4194304)", (5_000_000, 4_194_304)),
            ("grpc: received message larger than max length allowed on current machine (7 vs. 3)", (7, 3)),
            ("grpc: received message after decompression larger than max 4194304", (0, 4_194_304)),
            ("Received message larger than max (5000000 vs. 4194304)", (5_000_000, 4_194_304)),
            ("grpc: received message larger than max (many vs. few)", (0, 0)),
            ("grpc: received message larger than max (99999999999999999999999 vs. 3)", (0, 3)),
        ];
        for (text, expected) in texts {
            assert_eq!(sizes(&Failure::status(8, text)), Some(expected), "{text}");
            assert_eq!(sizes(&Failure::status(14, text)), None, "{text}");
        }
        assert_eq!(sizes(&Failure::status(8, "the queue is larger than max (5 vs. 4)")), None);
        assert_eq!(sizes(&Failure::ResponseTooLarge { bytes: 5, limit: 4 }), Some((5, 4)));
        assert_eq!(sizes(&Failure::EndOfStream), None);
    }
}
