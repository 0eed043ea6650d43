//! The errors of etcd that mean something to a client, as its servers send them.

use super::{Code, Refusal, Remedy};

/// An error of etcd's: its name in the source, the codes it is or was sent with, its text, what it calls for,
/// and what it means.
pub(super) type EtcdError = (&'static str, &'static [Code], &'static str, Remedy, Refusal);

/// The table. Where nothing else is said, an error is from etcd's `api/v3rpc/rpctypes/error.go` (until 3.4,
/// `etcdserver/api/v3rpc/rpctypes/error.go`), as of 3.4, 3.5 and main. Errors that are not in etcd's `toGRPCErrorMap`
/// (the server's `api/v3rpc/util.go`) are sent as `Unknown` with the text they have inside the server.
///
/// What by its code alone would call for the same is here because a `cancel_reason` may have its bare text.
pub(super) const TABLE: [EtcdError; 65] = {
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
            Refusal::AuthenticationFailed,
        ),
        // `server/auth/store.go`; not in the map.
        (
            "auth.ErrNoPasswordUser",
            &[],
            "auth: authentication failed, password was given for no password user",
            BadCredentials,
            Refusal::AuthenticationFailed,
        ),
        (
            "ErrGRPCPermissionDenied",
            &[PermissionDenied],
            "etcdserver: permission denied",
            Denied,
            Refusal::PermissionDenied,
        ),
        (
            "ErrGRPCUserNotFound",
            &[FailedPrecondition],
            "etcdserver: user name not found",
            Denied,
            Refusal::UserNotFound,
        ),
        (
            "ErrGRPCInvalidAuthToken",
            &[Unauthenticated],
            "etcdserver: invalid auth token",
            Reauthenticate,
            Refusal::TokenRefused,
        ),
        (
            "ErrGRPCUserEmpty",
            &[InvalidArgument],
            "etcdserver: user name is empty",
            Reauthenticate,
            Refusal::UserRequired,
        ),
        (
            "ErrGRPCAuthOldRevision",
            &[InvalidArgument],
            "etcdserver: revision of auth store is old",
            Reauthenticate,
            Refusal::TokenRefused,
        ),
        // `server/auth/store.go`; not in the map of servers that have no `ErrGRPCAuthOldRevision` yet.
        (
            "auth.ErrAuthOldRevision",
            &[],
            "auth: revision in header is old",
            Reauthenticate,
            Refusal::TokenRefused,
        ),
        // `server/auth/store.go`; the Maintenance service of 3.4 and 3.5 sends them as they are
        // (`api/v3rpc/maintenance.go`, `authMaintenanceServer`).
        ("auth.ErrPermissionDenied", &[], "auth: permission denied", Denied, Refusal::PermissionDenied),
        ("auth.ErrUserEmpty", &[], "auth: user name is empty", Reauthenticate, Refusal::UserRequired),
        ("auth.ErrInvalidAuthToken", &[], "auth: invalid auth token", Reauthenticate, Refusal::TokenRefused),
        // The member and its cluster.
        ("ErrGRPCNoLeader", &[Unavailable], "etcdserver: no leader", NoLeader, Refusal::NoLeader),
        (
            "ErrGRPCNotLeader",
            &[FailedPrecondition],
            "etcdserver: not leader",
            RetryElsewhere,
            Refusal::NotLeader,
        ),
        (
            "ErrGRPCLeaderChanged",
            &[Unavailable],
            "etcdserver: leader changed",
            RetryElsewhere,
            Refusal::LeaderChanged,
        ),
        // `Unavailable` in 3.4 and 3.5.
        (
            "ErrGRPCNotCapable",
            &[FailedPrecondition, Unavailable],
            "etcdserver: not capable",
            RetryElsewhere,
            Refusal::NotCapable,
        ),
        ("ErrGRPCStopped", &[Unavailable], "etcdserver: server stopped", RetryElsewhere, Refusal::Stopped),
        ("ErrGRPCTimeout", &[Unavailable], "etcdserver: request timed out", RetryElsewhere, Refusal::Timeout),
        (
            "ErrGRPCTimeoutDueToLeaderFail",
            &[Unavailable],
            "etcdserver: request timed out, possibly due to previous leader failure",
            RetryElsewhere,
            Refusal::Timeout,
        ),
        (
            "ErrGRPCTimeoutDueToConnectionLost",
            &[Unavailable],
            "etcdserver: request timed out, possibly due to connection lost",
            RetryElsewhere,
            Refusal::Timeout,
        ),
        (
            "ErrGRPCTimeoutWaitAppliedIndex",
            &[Unavailable],
            "etcdserver: request timed out, waiting for the applied index took too long",
            RetryElsewhere,
            Refusal::Timeout,
        ),
        // `server/etcdserver/errors/errors.go`; not in the map.
        (
            "errors.ErrTimeoutLeaderTransfer",
            &[],
            "etcdserver: request timed out, leader transfer took too long",
            RetryElsewhere,
            Refusal::Timeout,
        ),
        (
            "ErrGRPCUnhealthy",
            &[Unavailable],
            "etcdserver: unhealthy cluster",
            RetryElsewhere,
            Refusal::UnhealthyCluster,
        ),
        ("ErrGRPCCorrupt", &[DataLoss], "etcdserver: corrupt cluster", RetryElsewhere, Refusal::Corrupt),
        // `Unavailable` in 3.4 and 3.5.
        (
            "ErrGRPCNotSupportedForLearner",
            &[FailedPrecondition, Unavailable],
            "etcdserver: rpc not supported for learner",
            RetryElsewhere,
            Refusal::Learner,
        ),
        // The map names the client's error, which has no status: it is sent as `Unknown`.
        (
            "ErrGRPCRequestTooManyRequests",
            &[ResourceExhausted],
            "etcdserver: too many requests",
            RetryElsewhere,
            Refusal::TooManyRequests,
        ),
        // `server/storage/mvcc/watcher.go` (until 3.4, `mvcc/watcher.go`); only ever a `cancel_reason`.
        (
            "mvcc.ErrWatcherDuplicateID",
            &[],
            "mvcc: duplicate watch ID provided on the WatchStream",
            Retry,
            Refusal::WatchExists,
        ),
        // Requests that no member serves.
        (
            "ErrGRPCEmptyKey",
            &[InvalidArgument],
            "etcdserver: key is not provided",
            Refused,
            Refusal::InvalidRequest,
        ),
        (
            "ErrGRPCKeyNotFound",
            &[InvalidArgument],
            "etcdserver: key not found",
            Refused,
            Refusal::KeyNotFound,
        ),
        (
            "ErrGRPCValueProvided",
            &[InvalidArgument],
            "etcdserver: value is provided",
            Refused,
            Refusal::InvalidRequest,
        ),
        (
            "ErrGRPCLeaseProvided",
            &[InvalidArgument],
            "etcdserver: lease is provided",
            Refused,
            Refusal::InvalidRequest,
        ),
        (
            "ErrGRPCTooManyOps",
            &[InvalidArgument],
            "etcdserver: too many operations in txn request",
            Refused,
            Refusal::InvalidRequest,
        ),
        (
            "ErrGRPCDuplicateKey",
            &[InvalidArgument],
            "etcdserver: duplicate key given in txn request",
            Refused,
            Refusal::InvalidRequest,
        ),
        (
            "ErrGRPCInvalidSortOption",
            &[InvalidArgument],
            "etcdserver: invalid sort option",
            Refused,
            Refusal::InvalidRequest,
        ),
        (
            "ErrGRPCInvalidClientAPIVersion",
            &[InvalidArgument],
            "etcdserver: invalid client api version",
            Refused,
            Refusal::InvalidRequest,
        ),
        (
            "ErrGRPCRequestTooLarge",
            &[InvalidArgument],
            "etcdserver: request is too large",
            Refused,
            Refusal::RequestTooLarge,
        ),
        (
            "ErrGRPCLeaseNotFound",
            &[NotFound],
            "etcdserver: requested lease not found",
            Refused,
            Refusal::LeaseNotFound,
        ),
        (
            "ErrGRPCLeaseExist",
            &[FailedPrecondition],
            "etcdserver: lease already exists",
            Refused,
            Refusal::LeaseExists,
        ),
        (
            "ErrGRPCLeaseTTLTooLarge",
            &[OutOfRange],
            "etcdserver: too large lease TTL",
            Refused,
            Refusal::LeaseTtlTooLarge,
        ),
        (
            "ErrGRPCMemberNotFound",
            &[NotFound],
            "etcdserver: member not found",
            Refused,
            Refusal::MemberNotFound,
        ),
        (
            "ErrGRPCInvalidAuthMgmt",
            &[InvalidArgument],
            "etcdserver: invalid auth management",
            Refused,
            Refusal::InvalidAuthManagement,
        ),
        // Users and roles, members and versions as they are to be, and a database that is full.
        (
            "ErrGRPCNoSpace",
            &[ResourceExhausted],
            "etcdserver: mvcc: database space exceeded",
            Refused,
            Refusal::NoSpace,
        ),
        (
            "ErrGRPCUserAlreadyExist",
            &[FailedPrecondition],
            "etcdserver: user name already exists",
            Refused,
            Refusal::UserExists,
        ),
        (
            "ErrGRPCRoleNotFound",
            &[FailedPrecondition],
            "etcdserver: role name not found",
            Refused,
            Refusal::RoleNotFound,
        ),
        (
            "ErrGRPCRoleAlreadyExist",
            &[FailedPrecondition],
            "etcdserver: role name already exists",
            Refused,
            Refusal::RoleExists,
        ),
        (
            "ErrGRPCRoleEmpty",
            &[InvalidArgument],
            "etcdserver: role name is empty",
            Refused,
            Refusal::InvalidRequest,
        ),
        (
            "ErrGRPCRoleNotGranted",
            &[FailedPrecondition],
            "etcdserver: role is not granted to the user",
            Refused,
            Refusal::RoleNotGranted,
        ),
        (
            "ErrGRPCPermissionNotGiven",
            &[InvalidArgument],
            "etcdserver: permission not given",
            Refused,
            Refusal::InvalidRequest,
        ),
        (
            "ErrGRPCPermissionNotGranted",
            &[FailedPrecondition],
            "etcdserver: permission is not granted to the role",
            Refused,
            Refusal::PermissionNotGranted,
        ),
        (
            "ErrGRPCAuthNotEnabled",
            &[FailedPrecondition],
            "etcdserver: authentication is not enabled",
            Refused,
            Refusal::AuthNotEnabled,
        ),
        (
            "ErrGRPCRootUserNotExist",
            &[FailedPrecondition],
            "etcdserver: root user does not exist",
            Refused,
            Refusal::RootUserMissing,
        ),
        (
            "ErrGRPCRootRoleNotExist",
            &[FailedPrecondition],
            "etcdserver: root user does not have root role",
            Refused,
            Refusal::RootRoleMissing,
        ),
        (
            "ErrGRPCMemberExist",
            &[FailedPrecondition],
            "etcdserver: member ID already exist",
            Refused,
            Refusal::MemberExists,
        ),
        (
            "ErrGRPCPeerURLExist",
            &[FailedPrecondition],
            "etcdserver: Peer URLs already exists",
            Refused,
            Refusal::PeerUrlExists,
        ),
        (
            "ErrGRPCMemberBadURLs",
            &[InvalidArgument],
            "etcdserver: given member URLs are invalid",
            Refused,
            Refusal::InvalidPeerUrls,
        ),
        (
            "ErrGRPCMemberNotEnoughStarted",
            &[FailedPrecondition],
            "etcdserver: re-configuration failed due to not enough started members",
            Refused,
            Refusal::NotEnoughStartedMembers,
        ),
        (
            "ErrGRPCMemberNotLearner",
            &[FailedPrecondition],
            "etcdserver: can only promote a learner member",
            Refused,
            Refusal::MemberNotLearner,
        ),
        (
            "ErrGRPCLearnerNotReady",
            &[FailedPrecondition],
            "etcdserver: can only promote a learner member which is in sync with leader",
            Refused,
            Refusal::LearnerNotReady,
        ),
        (
            "ErrGRPCTooManyLearners",
            &[FailedPrecondition],
            "etcdserver: too many learner members in cluster",
            Refused,
            Refusal::TooManyLearners,
        ),
        (
            "ErrGRPCClusterIDMismatch",
            &[FailedPrecondition],
            "etcdserver: cluster ID mismatch",
            Refused,
            Refusal::ClusterIdMismatch,
        ),
        (
            "ErrGRPCBadLeaderTransferee",
            &[FailedPrecondition],
            "etcdserver: bad leader transferee",
            Refused,
            Refusal::BadLeaderTransferee,
        ),
        (
            "ErrGRPCWrongDowngradeVersionFormat",
            &[InvalidArgument],
            "etcdserver: wrong downgrade target version format",
            Refused,
            Refusal::InvalidDowngradeTarget,
        ),
        (
            "ErrGRPCInvalidDowngradeTargetVersion",
            &[InvalidArgument],
            "etcdserver: invalid downgrade target version",
            Refused,
            Refusal::InvalidDowngradeTarget,
        ),
        (
            "ErrGRPCDowngradeInProcess",
            &[FailedPrecondition],
            "etcdserver: cluster has a downgrade job in progress",
            Refused,
            Refusal::DowngradeInProgress,
        ),
        (
            "ErrGRPCNoInflightDowngrade",
            &[FailedPrecondition],
            "etcdserver: no inflight downgrade job",
            Refused,
            Refusal::NoInflightDowngrade,
        ),
        (
            "ErrGRPCClusterVersionUnavailable",
            &[FailedPrecondition],
            "etcdserver: cluster version not found during downgrade",
            Refused,
            Refusal::ClusterVersionUnknown,
        ),
    ]
};

/// Apart from the table: they are for whoever asked for a revision, and say nothing about the member.
pub(super) const COMPACTED: EtcdError = (
    "ErrGRPCCompacted",
    &[Code::OutOfRange],
    "etcdserver: mvcc: required revision has been compacted",
    Remedy::RetryElsewhere,
    Refusal::Compacted,
);
pub(super) const FUTURE_REVISION: EtcdError = (
    "ErrGRPCFutureRev",
    &[Code::OutOfRange],
    "etcdserver: mvcc: required revision is a future revision",
    Remedy::RetryElsewhere,
    Refusal::FutureRevision,
);

/// Whether a status is this error of etcd's; without a code, whether a text is.
pub(super) fn matches(code: Option<Code>, text: &str, (_, codes, etcds_text, ..): &EtcdError) -> bool {
    text == *etcds_text && code.is_none_or(|code| code == Code::Unknown || codes.contains(&code))
}

/// What an error of etcd's calls for; `None` for any other status or text.
pub(super) fn remedy(code: Option<Code>, text: &str) -> Option<Remedy> {
    TABLE.iter().find(|error| matches(code, text, error)).map(|&(.., remedy, _)| remedy)
}

/// Which refusal of etcd's a status is; `None` for any other.
pub(super) fn refusal(code: Code, text: &str) -> Option<Refusal> {
    let mut all = TABLE.iter().chain([&COMPACTED, &FUTURE_REVISION]);
    all.find(|error| matches(Some(code), text, error)).map(|&(.., refusal)| refusal)
}

/// The errors with which a member refuses a request before it does anything for it, though it may serve the same request
/// later, and another member may now. The first three are said by the interceptors of all calls (the server's
/// `api/v3rpc/interceptor.go`), the last when a proposal would be made (`v3_server.go`, `processInternalRaftRequestOnce`).
const TURNED_AWAY: [Refusal; 4] =
    [Refusal::NoLeader, Refusal::NotCapable, Refusal::Learner, Refusal::TooManyRequests];

/// Whether a status is one of [`TURNED_AWAY`].
pub(super) fn is_turned_away(code: Code, text: &str) -> bool {
    refusal(code, text).is_some_and(|refusal| TURNED_AWAY.contains(&refusal))
}

/// What etcd's packages begin the texts of their errors with.
const PREFIXES: [&str; 5] = ["etcdserver: ", "auth: ", "mvcc: ", "lease: ", "raft: "];

/// Whether a text is one of etcd's own.
pub(super) fn is_own_text(text: &str) -> bool {
    PREFIXES.iter().any(|prefix| text.starts_with(prefix))
}
