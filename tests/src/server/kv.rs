//! The KV service.

use std::sync::Arc;

use etcd_watch_proto::etcdserverpb::kv_server::Kv;
use etcd_watch_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use tonic::{Request, Response, Status};

use super::shared::Shared;
use super::status::status;

/// Keys in one part of a streamed range.
const CHUNK: usize = 1000;

/// The KV service.
#[derive(Debug)]
pub(super) struct KvService(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        self.0.admit()?;
        let response = self.0.with_model(|model| model.range(request.get_ref()));
        response.map(Response::new).map_err(status)
    }

    type RangeStreamStream = tokio_stream::Iter<std::vec::IntoIter<Result<RangeStreamResponse, Status>>>;

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        self.0.admit()?;
        let whole = self.0.with_model(|model| model.range(request.get_ref())).map_err(status)?;
        Ok(Response::new(tokio_stream::iter(in_chunks(whole))))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.0.admit()?;
        let response = self.0.with_model(|model| model.put(request.get_ref()));
        response.map(Response::new).map_err(status)
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.0.admit()?;
        let response = self.0.with_model(|model| model.delete_range(request.get_ref()));
        response.map(Response::new).map_err(status)
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.0.admit()?;
        let response = self.0.with_model(|model| model.txn(request.get_ref()));
        response.map(Response::new).map_err(status)
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        self.0.admit()?;
        let response = self.0.with_model(|model| model.compact(request.get_ref()));
        response.map(Response::new).map_err(status)
    }
}

/// Parts that, merged in order, are the whole: keys in all of them, the rest in the last.
fn in_chunks(mut whole: RangeResponse) -> Vec<Result<RangeStreamResponse, Status>> {
    let mut kvs = std::mem::take(&mut whole.kvs).into_iter().peekable();
    let mut parts = Vec::new();
    loop {
        let chunk: Vec<_> = kvs.by_ref().take(CHUNK).collect();
        let last = kvs.peek().is_none();
        let part = if last { std::mem::take(&mut whole) } else { RangeResponse::default() };
        parts.push(Ok(RangeStreamResponse { range_response: Some(RangeResponse { kvs: chunk, ..part }) }));
        if last {
            return parts;
        }
    }
}
