//! The services about the member itself: maintenance and cluster.

use std::sync::Arc;

use etcd_watch_proto::etcdserverpb::cluster_server::Cluster;
use etcd_watch_proto::etcdserverpb::maintenance_server::Maintenance;
use etcd_watch_proto::etcdserverpb::{MemberListRequest, MemberListResponse, StatusRequest, StatusResponse};
use tonic::{Request, Response, Status};

use super::shared::Shared;

/// The maintenance service.
#[derive(Debug)]
pub(super) struct MaintenanceService(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.0.with_model(|model| model.status())))
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
        Ok(Response::new(self.0.with_model(|model| model.member_list())))
    }
}
