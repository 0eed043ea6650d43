//! The services about the member itself: maintenance and cluster.

use std::sync::Arc;

use etcd_watch_proto::etcdserverpb as pb;
use etcd_watch_proto::etcdserverpb::cluster_server::Cluster;
use etcd_watch_proto::etcdserverpb::maintenance_server::Maintenance;
use etcd_watch_proto::etcdserverpb::{MemberListRequest, MemberListResponse, StatusRequest, StatusResponse};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::shared::Shared;

/// Calls that the model doesn't have: they are answered as by a server that doesn't know them.
macro_rules! unknown {
    ($($method:ident($request:ident) -> $response:ty;)*) => {$(
        fn $method<'life0, 'async_trait>(
            &'life0 self,
            _request: Request<pb::$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<$response>, Status>> + Send + 'async_trait>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(std::future::ready(Err(Status::unimplemented(concat!(
                "the model has no ",
                stringify!($method)
            )))))
        }
    )*};
}

pub(super) use unknown;

/// The maintenance service.
#[derive(Debug)]
pub(super) struct MaintenanceService(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.0.status()))
    }

    type SnapshotStream = BoxStream<pb::SnapshotResponse>;

    unknown! {
        alarm(AlarmRequest) -> pb::AlarmResponse;
        defragment(DefragmentRequest) -> pb::DefragmentResponse;
        hash(HashRequest) -> pb::HashResponse;
        hash_kv(HashKvRequest) -> pb::HashKvResponse;
        snapshot(SnapshotRequest) -> Self::SnapshotStream;
        move_leader(MoveLeaderRequest) -> pb::MoveLeaderResponse;
        downgrade(DowngradeRequest) -> pb::DowngradeResponse;
    }
}

/// The cluster service.
#[derive(Debug)]
pub(super) struct ClusterService(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        _request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        Ok(Response::new(self.0.member_list()))
    }

    unknown! {
        member_add(MemberAddRequest) -> pb::MemberAddResponse;
        member_remove(MemberRemoveRequest) -> pb::MemberRemoveResponse;
        member_update(MemberUpdateRequest) -> pb::MemberUpdateResponse;
        member_promote(MemberPromoteRequest) -> pb::MemberPromoteResponse;
    }
}
