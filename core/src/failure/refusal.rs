//! etcd's refusals by their meaning.

/// Why etcd refused a request. Known by etcd's own code and text, as the member sent it or as a Go program passed it on
/// (etcd's gRPC proxy sends it as `Unknown`); what proxies and other servers say in their own words is none of these.
///
/// The names in the descriptions are those of etcd's errors in `api/v3rpc/rpctypes/error.go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The user's name or password is wrong (`ErrGRPCAuthFailed`).
    AuthenticationFailed,
    /// The request has no user, and authentication is on (`ErrGRPCUserEmpty`).
    UserRequired,
    /// The auth token is unknown, has expired, or is older than the last change of users and roles
    /// (`ErrGRPCInvalidAuthToken`, `ErrGRPCAuthOldRevision`).
    TokenRefused,
    /// The user may not do this (`ErrGRPCPermissionDenied`).
    PermissionDenied,
    /// There is no such user (`ErrGRPCUserNotFound`).
    UserNotFound,
    /// There is a user of this name already (`ErrGRPCUserAlreadyExist`).
    UserExists,
    /// There is no such role (`ErrGRPCRoleNotFound`).
    RoleNotFound,
    /// There is a role of this name already (`ErrGRPCRoleAlreadyExist`).
    RoleExists,
    /// The user doesn't have this role (`ErrGRPCRoleNotGranted`).
    RoleNotGranted,
    /// The role has no permission on exactly this range (`ErrGRPCPermissionNotGranted`).
    PermissionNotGranted,
    /// Authentication is off (`ErrGRPCAuthNotEnabled`).
    AuthNotEnabled,
    /// Authentication can't be turned on without the user `root` (`ErrGRPCRootUserNotExist`).
    RootUserMissing,
    /// Authentication can't be turned on before the user `root` has the role `root` (`ErrGRPCRootRoleNotExist`).
    RootRoleMissing,
    /// `root` can't be deleted or lose its role while authentication is on, or a permission's range is not valid
    /// (`ErrGRPCInvalidAuthMgmt`).
    InvalidAuthManagement,
    /// The member knows no leader (`ErrGRPCNoLeader`).
    NoLeader,
    /// The member is not the leader, and only the leader can do this (`ErrGRPCNotLeader`).
    NotLeader,
    /// The leader changed while the request was under way (`ErrGRPCLeaderChanged`).
    LeaderChanged,
    /// The cluster's version has no such call, or is not known yet (`ErrGRPCNotCapable`).
    NotCapable,
    /// The member is stopping (`ErrGRPCStopped`).
    Stopped,
    /// The request was not applied in time (`ErrGRPCTimeout` and its variants). It may be applied later.
    Timeout,
    /// Too few members are connected for a change of the membership (`ErrGRPCUnhealthy`). Nothing has changed.
    UnhealthyCluster,
    /// The members' data differ, and the alarm for that is raised (`ErrGRPCCorrupt`).
    Corrupt,
    /// The member is a learner, and learners don't do this (`ErrGRPCNotSupportedForLearner`).
    Learner,
    /// The member is behind with what it has to apply (`ErrGRPCRequestTooManyRequests`).
    TooManyRequests,
    /// The member is not in the cluster, or is a learner, and so can't become the leader
    /// (`ErrGRPCBadLeaderTransferee`).
    BadLeaderTransferee,
    /// The request is not valid: the text says how (`ErrGRPCEmptyKey`, `ErrGRPCTooManyOps`, `ErrGRPCDuplicateKey` and
    /// the like).
    InvalidRequest,
    /// A put that keeps the value or the lease names a key that is not there (`ErrGRPCKeyNotFound`).
    KeyNotFound,
    /// The request is larger than the member's `--max-request-bytes` (`ErrGRPCRequestTooLarge`).
    RequestTooLarge,
    /// A member's database is full, and the alarm for that is raised (`ErrGRPCNoSpace`). A write that has this answer may
    /// have been executed: a member that finds its quota used up while it applies a write makes it.
    NoSpace,
    /// The revision has been compacted (`ErrGRPCCompacted`).
    Compacted,
    /// The revision is not there yet (`ErrGRPCFutureRev`).
    FutureRevision,
    /// There is no such lease (`ErrGRPCLeaseNotFound`).
    LeaseNotFound,
    /// There is a lease with this id already (`ErrGRPCLeaseExist`).
    LeaseExists,
    /// The lease would last longer than etcd grants (`ErrGRPCLeaseTTLTooLarge`).
    LeaseTtlTooLarge,
    /// A stream has a watch with this id already (`mvcc.ErrWatcherDuplicateID`).
    WatchExists,
    /// There is no such member, or it was removed (`ErrGRPCMemberNotFound`).
    MemberNotFound,
    /// There is a member with this id already (`ErrGRPCMemberExist`).
    MemberExists,
    /// A member has one of these peer URLs already (`ErrGRPCPeerURLExist`).
    PeerUrlExists,
    /// The peer URLs are not valid (`ErrGRPCMemberBadURLs`).
    InvalidPeerUrls,
    /// With this change the cluster would have too few members that have started (`ErrGRPCMemberNotEnoughStarted`).
    NotEnoughStartedMembers,
    /// Only a learner can be promoted, and this member has a vote (`ErrGRPCMemberNotLearner`).
    MemberNotLearner,
    /// The learner is too far behind the leader to be promoted yet (`ErrGRPCLearnerNotReady`).
    LearnerNotReady,
    /// The cluster has as many learners as it may (`ErrGRPCTooManyLearners`).
    TooManyLearners,
    /// The member is of another cluster (`ErrGRPCClusterIDMismatch`).
    ClusterIdMismatch,
    /// The cluster can't be downgraded to this version (`ErrGRPCInvalidDowngradeTargetVersion`,
    /// `ErrGRPCWrongDowngradeVersionFormat`).
    InvalidDowngradeTarget,
    /// A downgrade is under way already (`ErrGRPCDowngradeInProcess`).
    DowngradeInProgress,
    /// No downgrade is under way (`ErrGRPCNoInflightDowngrade`).
    NoInflightDowngrade,
    /// The cluster has no version yet (`ErrGRPCClusterVersionUnavailable`).
    ClusterVersionUnknown,
}
