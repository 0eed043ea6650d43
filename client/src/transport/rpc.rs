//! Unary calls on one connection.

use etcd_watch_core::Failure;
use etcd_watch_proto::etcdserverpb as pb;
use http::uri::PathAndQuery;
use tonic::{Extensions, Request, client::Grpc, metadata::MetadataMap};
use tonic_prost::ProstCodec;

use super::{
    connection::Connection,
    error::{NotSent, StreamRefused},
    exchange::{Exchange, NotGrpc, Sent},
    wire,
};
use crate::{AttemptError, Endpoint};

/// What may be done with a call whose answer didn't come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Make it again: that changes nothing.
    Freely,
    /// Make it again only if it surely was not executed.
    IfNotExecuted,
}

/// A request message, and the method it belongs to.
pub(crate) trait Unary: prost::Message + Clone + 'static {
    type Response: prost::Message + Default + 'static;

    /// `/package.Service/Method`.
    const PATH: &'static str;

    /// `Method`, for messages.
    fn method() -> &'static str {
        Self::PATH.rsplit_once('/').map_or(Self::PATH, |(_, method)| method)
    }

    fn repeat(&self) -> Repeat;

    /// Whether a member without a leader is to refuse it at once, rather than let it wait.
    fn needs_leader(&self) -> bool {
        true
    }
}

macro_rules! unary {
    ($($request:ident -> $response:ident, $path:literal, $repeat:expr $(, $needs_leader:literal)?;)*) => {$(
        impl Unary for pb::$request {
            type Response = pb::$response;
            const PATH: &'static str = $path;

            fn repeat(&self) -> Repeat {
                $repeat
            }

            $(fn needs_leader(&self) -> bool {
                $needs_leader
            })?
        }
    )*};
}

unary! {
    PutRequest -> PutResponse, "/etcdserverpb.KV/Put", Repeat::IfNotExecuted;
    DeleteRangeRequest -> DeleteRangeResponse, "/etcdserverpb.KV/DeleteRange", Repeat::IfNotExecuted;
    CompactionRequest -> CompactionResponse, "/etcdserverpb.KV/Compact", Repeat::IfNotExecuted;
    AuthenticateRequest -> AuthenticateResponse, "/etcdserverpb.Auth/Authenticate", Repeat::Freely;
    LeaseGrantRequest -> LeaseGrantResponse, "/etcdserverpb.Lease/LeaseGrant", Repeat::IfNotExecuted;
    LeaseRevokeRequest -> LeaseRevokeResponse, "/etcdserverpb.Lease/LeaseRevoke", Repeat::IfNotExecuted;
    LeaseTimeToLiveRequest -> LeaseTimeToLiveResponse, "/etcdserverpb.Lease/LeaseTimeToLive", Repeat::Freely;
    LeaseLeasesRequest -> LeaseLeasesResponse, "/etcdserverpb.Lease/LeaseLeases", Repeat::Freely;
    // A stream on the wire, but one request and its answer look the same there as a unary call. Renewing
    // a lease twice is renewing it.
    LeaseKeepAliveRequest -> LeaseKeepAliveResponse, "/etcdserverpb.Lease/LeaseKeepAlive", Repeat::Freely;

    // Turning authentication on once more, too, would undo what another did meanwhile.
    AuthEnableRequest -> AuthEnableResponse, "/etcdserverpb.Auth/AuthEnable", Repeat::IfNotExecuted;
    AuthDisableRequest -> AuthDisableResponse, "/etcdserverpb.Auth/AuthDisable", Repeat::IfNotExecuted;
    AuthStatusRequest -> AuthStatusResponse, "/etcdserverpb.Auth/AuthStatus", Repeat::Freely;
    AuthUserAddRequest -> AuthUserAddResponse, "/etcdserverpb.Auth/UserAdd", Repeat::IfNotExecuted;
    AuthUserGetRequest -> AuthUserGetResponse, "/etcdserverpb.Auth/UserGet", Repeat::Freely;
    AuthUserListRequest -> AuthUserListResponse, "/etcdserverpb.Auth/UserList", Repeat::Freely;
    AuthUserDeleteRequest -> AuthUserDeleteResponse, "/etcdserverpb.Auth/UserDelete", Repeat::IfNotExecuted;
    AuthUserChangePasswordRequest -> AuthUserChangePasswordResponse, "/etcdserverpb.Auth/UserChangePassword", Repeat::IfNotExecuted;
    AuthUserGrantRoleRequest -> AuthUserGrantRoleResponse, "/etcdserverpb.Auth/UserGrantRole", Repeat::IfNotExecuted;
    AuthUserRevokeRoleRequest -> AuthUserRevokeRoleResponse, "/etcdserverpb.Auth/UserRevokeRole", Repeat::IfNotExecuted;
    AuthRoleAddRequest -> AuthRoleAddResponse, "/etcdserverpb.Auth/RoleAdd", Repeat::IfNotExecuted;
    AuthRoleGetRequest -> AuthRoleGetResponse, "/etcdserverpb.Auth/RoleGet", Repeat::Freely;
    AuthRoleListRequest -> AuthRoleListResponse, "/etcdserverpb.Auth/RoleList", Repeat::Freely;
    AuthRoleDeleteRequest -> AuthRoleDeleteResponse, "/etcdserverpb.Auth/RoleDelete", Repeat::IfNotExecuted;
    AuthRoleGrantPermissionRequest -> AuthRoleGrantPermissionResponse, "/etcdserverpb.Auth/RoleGrantPermission", Repeat::IfNotExecuted;
    AuthRoleRevokePermissionRequest -> AuthRoleRevokePermissionResponse, "/etcdserverpb.Auth/RoleRevokePermission", Repeat::IfNotExecuted;

    MemberAddRequest -> MemberAddResponse, "/etcdserverpb.Cluster/MemberAdd", Repeat::IfNotExecuted;
    MemberRemoveRequest -> MemberRemoveResponse, "/etcdserverpb.Cluster/MemberRemove", Repeat::IfNotExecuted;
    MemberUpdateRequest -> MemberUpdateResponse, "/etcdserverpb.Cluster/MemberUpdate", Repeat::IfNotExecuted;
    MemberPromoteRequest -> MemberPromoteResponse, "/etcdserverpb.Cluster/MemberPromote", Repeat::IfNotExecuted;

    MoveLeaderRequest -> MoveLeaderResponse, "/etcdserverpb.Maintenance/MoveLeader", Repeat::IfNotExecuted;

    // About the member alone, which answers whether it knows a leader or not.
    StatusRequest -> StatusResponse, "/etcdserverpb.Maintenance/Status", Repeat::Freely, false;
    HashRequest -> HashResponse, "/etcdserverpb.Maintenance/Hash", Repeat::Freely, false;
    HashKvRequest -> HashKvResponse, "/etcdserverpb.Maintenance/HashKV", Repeat::Freely, false;
    // It changes no data, but the member serves nothing meanwhile.
    DefragmentRequest -> DefragmentResponse, "/etcdserverpb.Maintenance/Defragment", Repeat::IfNotExecuted, false;
}

impl Unary for pb::MemberListRequest {
    type Response = pb::MemberListResponse;
    const PATH: &'static str = "/etcdserverpb.Cluster/MemberList";

    fn repeat(&self) -> Repeat {
        Repeat::Freely
    }

    /// Otherwise a member tells the list it has, leader or not.
    fn needs_leader(&self) -> bool {
        self.linearizable
    }
}

impl Unary for pb::AlarmRequest {
    type Response = pb::AlarmResponse;
    const PATH: &'static str = "/etcdserverpb.Maintenance/Alarm";

    fn repeat(&self) -> Repeat {
        if self.action() == pb::alarm_request::AlarmAction::Get {
            Repeat::Freely
        } else {
            Repeat::IfNotExecuted
        }
    }
}

impl Unary for pb::DowngradeRequest {
    type Response = pb::DowngradeResponse;
    const PATH: &'static str = "/etcdserverpb.Maintenance/Downgrade";

    fn repeat(&self) -> Repeat {
        use pb::downgrade_request::DowngradeAction::Validate;
        if self.action() == Validate { Repeat::Freely } else { Repeat::IfNotExecuted }
    }
}

impl Unary for pb::RangeRequest {
    type Response = pb::RangeResponse;
    const PATH: &'static str = "/etcdserverpb.KV/Range";

    fn repeat(&self) -> Repeat {
        Repeat::Freely
    }

    /// A serializable read is answered from the member's own store, leader or not.
    fn needs_leader(&self) -> bool {
        !self.serializable
    }
}

impl Unary for pb::TxnRequest {
    type Response = pb::TxnResponse;
    const PATH: &'static str = "/etcdserverpb.KV/Txn";

    fn repeat(&self) -> Repeat {
        if only_reads(self) { Repeat::Freely } else { Repeat::IfNotExecuted }
    }
}

fn only_reads(txn: &pb::TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match &op.request {
        Some(pb::request_op::Request::RequestRange(_)) | None => true,
        Some(pb::request_op::Request::RequestTxn(nested)) => only_reads(nested),
        Some(_) => false,
    })
}

/// How a call failed.
#[derive(Clone, Debug)]
pub(crate) struct CallFailure {
    pub(crate) error: AttemptError,
    pub(crate) fate: Fate,
}

/// What has become of the request of a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was sent; whether it was executed, only the failure can tell.
    Open,
    /// It never left this process, or the peer has said that it will not look at it.
    NotSent,
    /// The peer had more streams than it allows, and has not looked at it. The connection is good.
    StreamRefused,
    /// Something on the way has refused it, and has not passed it on.
    TurnedAway,
    /// The server did not accept the auth token, and did not execute the request; the next attempt has
    /// another token.
    TokenRefused,
    /// The same, and there is no other token until the application gives one.
    GivenTokenRefused,
}

impl CallFailure {
    /// It was sent; whether it was executed, only the failure can tell.
    pub(crate) fn sent(error: impl Into<AttemptError>) -> Self {
        Self { error: error.into(), fate: Fate::Open }
    }

    pub(crate) fn not_sent(error: impl Into<AttemptError>) -> Self {
        Self { error: error.into(), fate: Fate::NotSent }
    }

    pub(crate) fn failure(&self) -> &Failure {
        self.error.failure()
    }

    pub(crate) fn into_failure(self) -> Failure {
        self.error.into_failure()
    }

    pub(super) fn of_status(status: tonic::Status, sent: &Sent, max_message_bytes: usize) -> Self {
        let not_grpc = wire::cause::<NotGrpc>(&status);
        let fate = if !sent.get() || wire::cause::<NotSent>(&status).is_some() {
            Fate::NotSent
        } else if wire::cause::<StreamRefused>(&status).is_some() {
            Fate::StreamRefused
        } else if not_grpc.is_some_and(NotGrpc::is_refusal) {
            Fate::TurnedAway
        } else {
            Fate::Open
        };
        let failure = not_grpc
            .map_or_else(|| wire::failure_of(&status, max_message_bytes), |found| found.failure().clone());
        Self { error: AttemptError::of_status(failure, status), fate }
    }
}

/// Makes the call on this connection.
pub(crate) async fn unary<Q: Unary>(
    connection: Connection,
    endpoint: &Endpoint,
    request: Q,
    metadata: MetadataMap,
    max_message_bytes: usize,
) -> Result<Q::Response, CallFailure> {
    exchange(connection, endpoint, request, metadata, max_message_bytes, Sent::default()).await
}

/// A connection that is ready for one call, which says in `sent` when it has begun to leave.
pub(super) async fn grpc(
    connection: Connection,
    endpoint: &Endpoint,
    max_message_bytes: usize,
    sent: &Sent,
) -> Result<Grpc<Exchange>, CallFailure> {
    let exchange = Exchange::new(connection, sent.clone());
    let mut grpc =
        Grpc::with_origin(exchange, endpoint.uri().clone()).max_decoding_message_size(max_message_bytes);
    match grpc.ready().await {
        Ok(()) => Ok(grpc),
        Err(error) => {
            let error: crate::BoxError = error;
            Err(CallFailure::not_sent(AttemptError::new(wire::broken(&*error), error)))
        }
    }
}

/// Makes the call on this connection, and says in `sent` when it has begun to leave.
pub(crate) async fn exchange<Q: Unary>(
    connection: Connection,
    endpoint: &Endpoint,
    request: Q,
    metadata: MetadataMap,
    max_message_bytes: usize,
    sent: Sent,
) -> Result<Q::Response, CallFailure> {
    let mut grpc = grpc(connection, endpoint, max_message_bytes, &sent).await?;
    let request = Request::from_parts(metadata, Extensions::default(), request);
    let codec = ProstCodec::default();
    match grpc.unary(request, PathAndQuery::from_static(Q::PATH), codec).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(CallFailure::of_status(status, &sent, max_message_bytes)),
    }
}

#[cfg(test)]
mod tests {
    use pb::request_op::Request as Op;

    use super::*;

    fn txn(ops: impl IntoIterator<Item = Op>) -> pb::TxnRequest {
        let success = ops.into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect();
        pb::TxnRequest { success, ..Default::default() }
    }

    #[test]
    fn a_transaction_is_repeated_freely_only_if_it_reads_only() {
        let read = || Op::RequestRange(pb::RangeRequest::default());
        let write = || Op::RequestPut(pb::PutRequest::default());
        assert_eq!(txn([read()]).repeat(), Repeat::Freely);
        assert_eq!(txn([read(), Op::RequestTxn(txn([read()]))]).repeat(), Repeat::Freely);
        assert_eq!(txn([read(), write()]).repeat(), Repeat::IfNotExecuted);
        assert_eq!(txn([Op::RequestTxn(txn([write()]))]).repeat(), Repeat::IfNotExecuted);
        let otherwise = pb::TxnRequest { failure: txn([write()]).success, ..Default::default() };
        assert_eq!(otherwise.repeat(), Repeat::IfNotExecuted);
    }

    #[test]
    fn an_alarm_is_repeated_freely_only_to_look_and_a_downgrade_only_to_ask() {
        use pb::{alarm_request::AlarmAction, downgrade_request::DowngradeAction};
        let alarm =
            |action: AlarmAction| pb::AlarmRequest { action: action.into(), ..Default::default() }.repeat();
        assert_eq!(alarm(AlarmAction::Get), Repeat::Freely);
        assert_eq!(alarm(AlarmAction::Activate), Repeat::IfNotExecuted);
        assert_eq!(alarm(AlarmAction::Deactivate), Repeat::IfNotExecuted);
        let downgrade = |action: DowngradeAction| {
            pb::DowngradeRequest { action: action.into(), ..Default::default() }.repeat()
        };
        assert_eq!(downgrade(DowngradeAction::Validate), Repeat::Freely);
        assert_eq!(downgrade(DowngradeAction::Enable), Repeat::IfNotExecuted);
        assert_eq!(downgrade(DowngradeAction::Cancel), Repeat::IfNotExecuted);
    }

    #[test]
    fn methods_are_named_as_in_the_service() {
        assert_eq!(pb::PutRequest::method(), "Put");
        assert_eq!(pb::LeaseKeepAliveRequest::method(), "LeaseKeepAlive");
    }
}
