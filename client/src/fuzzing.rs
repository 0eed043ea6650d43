//! Items for fuzzers, the simulator and benches only: they are no part of the interface, and may change at any time.

use bytes::Bytes;
use etcd_watch_core::{
    ListRequest, Page, RangeDone, Request,
    wire::{Encode, RevisionRequest},
};
use etcd_watch_proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse, WatchRequest};
use prost::Message;

use crate::{
    namespace::{Namespace, Namespaced},
    recipes::config::Tree,
    recipes::discovery::{DecodeError, ServiceEndpoint},
};

pub use crate::recipes::cache::by_hand::CacheByHand;

/// What goes out for `Action::Send`, as a server reads it.
///
/// # Panics
/// If a server couldn't read it.
#[must_use]
pub fn watch_request(request: Request) -> WatchRequest {
    WatchRequest::decode(request.to_bytes()).expect("the core encodes what prost decodes")
}

/// What goes out for `Action::Range`, as a server reads it.
///
/// # Panics
/// If a server couldn't read it.
#[must_use]
pub fn revision_request(request: &RevisionRequest) -> RangeRequest {
    RangeRequest::decode(request.to_bytes()).expect("the core encodes what prost decodes")
}

/// The answer to it, as the machine takes it.
///
/// # Panics
/// If the machine couldn't read it.
#[must_use]
pub fn range_done(response: &RangeResponse) -> RangeDone {
    RangeDone::decode(&response.encode_to_vec()).expect("prost encodes what the core decodes")
}

/// What goes out for `MirrorAction::List`, as a server reads it.
///
/// # Panics
/// If a server couldn't read it.
#[must_use]
pub fn list_request(request: &ListRequest) -> RangeRequest {
    RangeRequest::decode(request.to_bytes()).expect("the core encodes what prost decodes")
}

/// The answer to it, as the mirror's machine takes it.
///
/// # Panics
/// If the core couldn't read it.
#[must_use]
pub fn page(response: &RangeResponse) -> Page {
    Page::decode(&response.encode_to_vec().into()).expect("the core decodes what prost encodes")
}

/// A message of a stream that is the answer to it.
///
/// # Panics
/// If the core couldn't read it.
#[must_use]
pub fn chunk(response: &RangeStreamResponse) -> Page {
    Page::decode_chunk(&response.encode_to_vec().into()).expect("the core decodes what prost encodes")
}

/// Reads what a registered endpoint is written down as.
///
/// # Errors
/// If it is none.
pub fn decode_service_endpoint(value: &[u8]) -> Result<ServiceEndpoint, DecodeError> {
    ServiceEndpoint::decode(value)
}

/// Writes an endpoint down as it is registered.
#[must_use]
pub fn encode_service_endpoint(endpoint: &ServiceEndpoint) -> Bytes {
    endpoint.encode()
}

/// A tree of these keys and values, as one under an empty prefix.
pub fn tree(keys: impl IntoIterator<Item = (Bytes, Bytes)>) -> Tree {
    let mut tree = Tree::new(0);
    keys.into_iter().for_each(|(key, value)| tree.insert(&key, &value));
    tree
}

/// The keys of a request, by first key and range end, in a namespace; `None` if the prefix is empty.
#[must_use]
pub fn in_namespace(prefix: &[u8], key: Bytes, range_end: Bytes) -> Option<(Bytes, Bytes)> {
    let namespace = Namespace::default().nested(prefix).ok()?;
    let request = RangeRequest { key, range_end, ..RangeRequest::default() }.enter(&namespace);
    Some((request.key, request.range_end))
}
