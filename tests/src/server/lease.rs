//! The lease service.

use std::sync::Arc;

use etcd_watch_proto::etcdserverpb::lease_server::Lease;
use etcd_watch_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use tonic::{Request, Response, Status, Streaming};

use super::guard::caller;
use super::replies::{Replies, replies};
use super::shared::Shared;

/// The lease service.
#[derive(Debug)]
pub(super) struct LeaseService(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        self.0.check_leader()?;
        let now = self.0.now();
        self.0.write(|model| model.lease_grant(request.get_ref(), now)).await.map(Response::new)
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        self.0.check_leader()?;
        self.0.write(|model| model.lease_revoke(request.get_ref())).await.map(Response::new)
    }

    type LeaseKeepAliveStream = Replies<LeaseKeepAliveResponse>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        self.0.check_leader()?;
        let caller = caller(&request);
        let mut requests = request.into_inner();
        let (answers, outbound) = tokio::sync::mpsc::channel(1);
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let admitted = caller.rights().map(|_| ());
                let reply = shared.check_leader().and(admitted).map(|()| keep_alive(&shared, &request));
                let is_last = reply.is_err();
                if answers.send(reply).await.is_err() || is_last {
                    break;
                }
            }
        });
        replies(outbound).await
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        self.0.check_leader()?;
        let now = self.0.now();
        let response = self.0.with_leader(|model| model.lease_time_to_live(request.get_ref(), now));
        let header = self.0.with_model(|model| model.header());
        Ok(Response::new(LeaseTimeToLiveResponse { header, ..response }))
    }

    async fn lease_leases(
        &self,
        _request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        Ok(Response::new(self.0.with_model(|model| model.lease_leases())))
    }
}

/// The leader renews a lease; the header is this member's own, and no newer than the renewal.
fn keep_alive(shared: &Shared, request: &LeaseKeepAliveRequest) -> LeaseKeepAliveResponse {
    let header = shared.with_model(|model| model.header());
    let now = shared.now();
    let response = shared.with_leader(|model| model.lease_keep_alive(request, now));
    LeaseKeepAliveResponse { header, ..response }
}
