//! The KV service.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use etcd_watch_proto::etcdserverpb::kv_server::Kv;
use etcd_watch_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use etcd_watch_proto::etcdserverpb::request_op::Request as Operation;
use etcd_watch_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::model::RangeStream;

use super::guard::permit;
use super::shared::Shared;
use super::status::status;
use super::users::NeedsRights;

/// The KV service.
#[derive(Debug)]
pub(super) struct KvService(pub(super) Arc<Shared>);

impl KvService {
    /// Whether a request is served: its caller may make it, and the member takes it.
    ///
    /// # Errors
    /// What etcd says if not.
    fn admit<T: NeedsRights>(&self, request: &Request<T>) -> Result<(), Status> {
        permit(request)?;
        self.0.admit()
    }
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        self.admit(&request)?;
        if !request.get_ref().serializable {
            self.0.catch_up().await;
        }
        let response = self.0.with_model(|model| model.range(request.get_ref()));
        response.map(Response::new).map_err(status)
    }

    type RangeStreamStream = Chunks;

    async fn range_stream(&self, request: Request<RangeRequest>) -> Result<Response<Chunks>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        let counters = &self.0.range_streams;
        if !self.0.with_model(|model| model.config().has_range_stream()) {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Status::unimplemented("unknown method RangeStream for service etcdserverpb.KV"));
        }
        let is_by_key = request.sort_target() == SortTarget::Key && request.sort_order() == SortOrder::Ascend;
        if request.sort_order() != SortOrder::None && !is_by_key {
            return Err(Status::unimplemented("RangeStream does not support custom sort orders"));
        }
        let bounds = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        if bounds != [0; 4] {
            return Err(Status::unimplemented("RangeStream does not support revision filters"));
        }
        counters.begun.fetch_add(1, Ordering::Relaxed);
        if !request.serializable {
            self.0.catch_up().await;
        }
        Ok(Response::new(Chunks { shared: self.0.clone(), range: RangeStream::new(request) }))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.admit(&request)?;
        self.0.write(|model| model.put(request.get_ref())).await.map(Response::new)
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.admit(&request)?;
        self.0.write(|model| model.delete_range(request.get_ref())).await.map(Response::new)
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.admit(&request)?;
        let txn = request.get_ref();
        if !reads(txn, |_| true) {
            return self.0.write(|model| model.txn(txn)).await.map(Response::new);
        }
        if !reads(txn, |range| range.serializable) {
            self.0.catch_up().await;
        }
        self.0.with_model(|model| model.txn(txn)).map(Response::new).map_err(status)
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        self.admit(&request)?;
        self.0.write(|model| model.compact(request.get_ref())).await.map(Response::new)
    }
}

/// Whether a transaction, whatever its conditions, does nothing but such reads. Then etcd doesn't put it into its log, and
/// doesn't look into transactions inside it.
fn reads(txn: &TxnRequest, is_such: impl Fn(&RangeRequest) -> bool) -> bool {
    txn.success.iter().chain(&txn.failure).all(|operation| match &operation.request {
        Some(Operation::RequestRange(range)) => is_such(range),
        _ => false,
    })
}

/// The chunks of a range, each read from the model when the one before has left.
#[derive(Debug)]
pub(super) struct Chunks {
    shared: Arc<Shared>,
    range: RangeStream,
}

impl Stream for Chunks {
    type Item = Result<RangeStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { shared, range } = &mut *self;
        let chunk = shared.with_model(|model| range.next(model));
        if chunk.is_some() {
            shared.range_streams.chunks.fetch_add(1, Ordering::Relaxed);
        }
        let response = |chunk| RangeStreamResponse { range_response: Some(chunk) };
        Poll::Ready(chunk.map(|chunk| chunk.map(response).map_err(status)))
    }
}
