//! The model against etcd's rules, from outside.

mod followers;
mod history;
mod keys;
mod leases;
mod progress;
mod quirks;
mod slow_readers;
mod transactions;
mod watches;

use std::time::Duration;

use etcd_watch_proto::etcdserverpb::request_op::Request;
use etcd_watch_proto::etcdserverpb::watch_request::RequestUnion;
use etcd_watch_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};

use super::{ModelConfig, ModelEtcd, ModelStream};

const SECOND: Duration = Duration::from_secs(1);

fn etcd() -> ModelEtcd {
    ModelEtcd::new(ModelConfig::default())
}

/// Puts a key and returns the revision.
fn put(etcd: &mut ModelEtcd, key: &str, value: &str) -> i64 {
    let request =
        PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() };
    let header = etcd.put(&request).expect("put").header;
    header.expect("header").revision
}

/// Deletes a range and returns the revision.
fn delete(etcd: &mut ModelEtcd, key: &str, range_end: &str) -> i64 {
    let header = etcd.delete_range(&delete_request(key, range_end)).expect("delete").header;
    header.expect("header").revision
}

fn delete_request(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.to_owned().into(), range_end: range_end.to_owned().into(), prev_kv: false }
}

fn compact(etcd: &mut ModelEtcd, revision: i64) {
    etcd.compact(&CompactionRequest { revision, physical: false }).expect("compact");
}

fn read(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..RangeRequest::default()
    }
}

fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put_operation(key: &str, value: &str) -> RequestOp {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    operation(Request::RequestPut(PutRequest { key, value, ..PutRequest::default() }))
}

/// Puts several keys at one revision, and returns it.
fn put_all(etcd: &mut ModelEtcd, keys: &[&str]) -> i64 {
    let success = keys.iter().map(|key| put_operation(key, "v")).collect();
    let response = etcd.txn(&TxnRequest { success, ..TxnRequest::default() }).expect("txn");
    response.header.expect("header").revision
}

fn watch(key: &str, range_end: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..WatchCreateRequest::default()
    }
}

fn create(etcd: &mut ModelEtcd, stream: ModelStream, request: WatchCreateRequest) {
    let request_union = Some(RequestUnion::CreateRequest(request));
    etcd.handle_watch_request(stream, WatchRequest { request_union });
}

fn cancel(etcd: &mut ModelEtcd, stream: ModelStream, watch_id: i64) {
    let request_union = Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    etcd.handle_watch_request(stream, WatchRequest { request_union });
}

fn request_progress(etcd: &mut ModelEtcd, stream: ModelStream) {
    let request_union = Some(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    etcd.handle_watch_request(stream, WatchRequest { request_union });
}

/// Creates a watch and takes its reply.
fn created(etcd: &mut ModelEtcd, stream: ModelStream, request: WatchCreateRequest) -> WatchResponse {
    create(etcd, stream, request);
    let response = etcd.poll_watch_response(stream).expect("reply");
    assert!(response.created);
    response
}

/// Everything a stream has to say.
fn drain(etcd: &mut ModelEtcd, stream: ModelStream) -> Vec<WatchResponse> {
    std::iter::from_fn(|| etcd.poll_watch_response(stream)).collect()
}

fn revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().expect("header").revision
}

/// Mod revision and key of every event.
fn events(responses: &[WatchResponse]) -> Vec<(i64, String)> {
    responses
        .iter()
        .flat_map(|response| &response.events)
        .map(|event| {
            let kv = event.kv.as_ref().expect("kv");
            (kv.mod_revision, String::from_utf8_lossy(&kv.key).into_owned())
        })
        .collect()
}

fn owned(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected.iter().map(|(revision, key)| (*revision, (*key).to_owned())).collect()
}
