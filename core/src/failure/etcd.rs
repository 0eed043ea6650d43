//! The errors of etcd that mean something to a client, as its servers send them.

use super::{Code, Remedy};

/// An error of etcd's: its name in the source, the codes it is or was sent with, its text, and what it calls for.
pub(super) type EtcdError = (&'static str, &'static [Code], &'static str, Remedy);

/// The table. Where nothing else is said, an error is from etcd's `api/v3rpc/rpctypes/error.go` (until 3.4,
/// `etcdserver/api/v3rpc/rpctypes/error.go`), as of 3.4, 3.5 and main. Errors that are not in etcd's `toGRPCErrorMap`
/// (the server's `api/v3rpc/util.go`) are sent as `Unknown` with the text they have inside the server.
///
/// What by its code alone would call for the same is here because a `cancel_reason` may have its bare text.
pub(super) const TABLE: [EtcdError; 36] = {
    use Code::*;
    use Remedy::*;
    [
        // Users and tokens. Servers older than etcd's pull request 14322 (of 2022) refuse a watch with
        // `ErrGRPCPermissionDenied`, whatever is wrong with its token.
        (
            "ErrGRPCAuthFailed",
            &[InvalidArgument],
            "etcdserver: authentication failed, invalid user ID or password",
            BadCredentials,
        ),
        // `server/auth/store.go`; not in the map.
        (
            "auth.ErrNoPasswordUser",
            &[],
            "auth: authentication failed, password was given for no password user",
            BadCredentials,
        ),
        ("ErrGRPCPermissionDenied", &[PermissionDenied], "etcdserver: permission denied", Denied),
        ("ErrGRPCUserNotFound", &[FailedPrecondition], "etcdserver: user name not found", Denied),
        ("ErrGRPCInvalidAuthToken", &[Unauthenticated], "etcdserver: invalid auth token", Reauthenticate),
        ("ErrGRPCUserEmpty", &[InvalidArgument], "etcdserver: user name is empty", Reauthenticate),
        (
            "ErrGRPCAuthOldRevision",
            &[InvalidArgument],
            "etcdserver: revision of auth store is old",
            Reauthenticate,
        ),
        // `server/auth/store.go`; not in the map of servers that have no `ErrGRPCAuthOldRevision` yet.
        ("auth.ErrAuthOldRevision", &[], "auth: revision in header is old", Reauthenticate),
        // The member and its cluster.
        ("ErrGRPCNoLeader", &[Unavailable], "etcdserver: no leader", NoLeader),
        ("ErrGRPCNotLeader", &[FailedPrecondition], "etcdserver: not leader", RetryElsewhere),
        ("ErrGRPCLeaderChanged", &[Unavailable], "etcdserver: leader changed", RetryElsewhere),
        // `Unavailable` in 3.4 and 3.5.
        ("ErrGRPCNotCapable", &[FailedPrecondition, Unavailable], "etcdserver: not capable", RetryElsewhere),
        ("ErrGRPCStopped", &[Unavailable], "etcdserver: server stopped", RetryElsewhere),
        ("ErrGRPCTimeout", &[Unavailable], "etcdserver: request timed out", RetryElsewhere),
        (
            "ErrGRPCTimeoutDueToLeaderFail",
            &[Unavailable],
            "etcdserver: request timed out, possibly due to previous leader failure",
            RetryElsewhere,
        ),
        (
            "ErrGRPCTimeoutDueToConnectionLost",
            &[Unavailable],
            "etcdserver: request timed out, possibly due to connection lost",
            RetryElsewhere,
        ),
        (
            "ErrGRPCTimeoutWaitAppliedIndex",
            &[Unavailable],
            "etcdserver: request timed out, waiting for the applied index took too long",
            RetryElsewhere,
        ),
        ("ErrGRPCUnhealthy", &[Unavailable], "etcdserver: unhealthy cluster", RetryElsewhere),
        ("ErrGRPCCorrupt", &[DataLoss], "etcdserver: corrupt cluster", RetryElsewhere),
        // `Unavailable` in 3.4 and 3.5.
        (
            "ErrGRPCNotSupportedForLearner",
            &[FailedPrecondition, Unavailable],
            "etcdserver: rpc not supported for learner",
            RetryElsewhere,
        ),
        // The map names the client's error, which has no status: it is sent as `Unknown`.
        (
            "ErrGRPCRequestTooManyRequests",
            &[ResourceExhausted],
            "etcdserver: too many requests",
            RetryElsewhere,
        ),
        // `server/storage/mvcc/watcher.go` (until 3.4, `mvcc/watcher.go`); only ever a `cancel_reason`.
        ("mvcc.ErrWatcherDuplicateID", &[], "mvcc: duplicate watch ID provided on the WatchStream", Retry),
        // Requests that no member serves.
        ("ErrGRPCEmptyKey", &[InvalidArgument], "etcdserver: key is not provided", Refused),
        ("ErrGRPCKeyNotFound", &[InvalidArgument], "etcdserver: key not found", Refused),
        ("ErrGRPCValueProvided", &[InvalidArgument], "etcdserver: value is provided", Refused),
        ("ErrGRPCLeaseProvided", &[InvalidArgument], "etcdserver: lease is provided", Refused),
        ("ErrGRPCTooManyOps", &[InvalidArgument], "etcdserver: too many operations in txn request", Refused),
        (
            "ErrGRPCDuplicateKey",
            &[InvalidArgument],
            "etcdserver: duplicate key given in txn request",
            Refused,
        ),
        ("ErrGRPCInvalidSortOption", &[InvalidArgument], "etcdserver: invalid sort option", Refused),
        (
            "ErrGRPCInvalidClientAPIVersion",
            &[InvalidArgument],
            "etcdserver: invalid client api version",
            Refused,
        ),
        ("ErrGRPCRequestTooLarge", &[InvalidArgument], "etcdserver: request is too large", Refused),
        ("ErrGRPCLeaseNotFound", &[NotFound], "etcdserver: requested lease not found", Refused),
        ("ErrGRPCLeaseExist", &[FailedPrecondition], "etcdserver: lease already exists", Refused),
        ("ErrGRPCLeaseTTLTooLarge", &[OutOfRange], "etcdserver: too large lease TTL", Refused),
        ("ErrGRPCMemberNotFound", &[NotFound], "etcdserver: member not found", Refused),
        ("ErrGRPCInvalidAuthMgmt", &[InvalidArgument], "etcdserver: invalid auth management", Refused),
    ]
};

/// Apart from the table: they are for whoever asked for a revision, and say nothing about the member.
pub(super) const COMPACTED: EtcdError = (
    "ErrGRPCCompacted",
    &[Code::OutOfRange],
    "etcdserver: mvcc: required revision has been compacted",
    Remedy::RetryElsewhere,
);
pub(super) const FUTURE_REVISION: EtcdError = (
    "ErrGRPCFutureRev",
    &[Code::OutOfRange],
    "etcdserver: mvcc: required revision is a future revision",
    Remedy::RetryElsewhere,
);

/// Whether a status is this error of etcd's; without a code, whether a text is.
pub(super) fn matches(code: Option<Code>, text: &str, (_, codes, etcds_text, _): &EtcdError) -> bool {
    text == *etcds_text && code.is_none_or(|code| code == Code::Unknown || codes.contains(&code))
}

/// What an error of etcd's calls for; `None` for any other status or text.
pub(super) fn remedy(code: Option<Code>, text: &str) -> Option<Remedy> {
    TABLE.iter().find(|error| matches(code, text, error)).map(|&(.., remedy)| remedy)
}

/// The errors with which a member refuses a request before it does anything for it, though it may serve the same request
/// later, and another member may now. The first three are said by the interceptors of all calls (the server's
/// `api/v3rpc/interceptor.go`), the last when a proposal would be made (`v3_server.go`, `processInternalRaftRequestOnce`).
const TURNED_AWAY: [&str; 4] = [
    "ErrGRPCNoLeader",
    "ErrGRPCNotCapable",
    "ErrGRPCNotSupportedForLearner",
    "ErrGRPCRequestTooManyRequests",
];

/// Whether a status is one of [`TURNED_AWAY`].
pub(super) fn is_turned_away(code: Code, text: &str) -> bool {
    let found = TABLE.iter().find(|error| matches(Some(code), text, error));
    found.is_some_and(|(name, ..)| TURNED_AWAY.contains(name))
}

/// What etcd's packages begin the texts of their errors with.
const PREFIXES: [&str; 5] = ["etcdserver: ", "auth: ", "mvcc: ", "lease: ", "raft: "];

/// Whether a text is one of etcd's own.
pub(super) fn is_own_text(text: &str) -> bool {
    PREFIXES.iter().any(|prefix| text.starts_with(prefix))
}
