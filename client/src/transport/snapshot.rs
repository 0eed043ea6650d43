//! The call for a snapshot.

use etcd_watch_proto::etcdserverpb::SnapshotRequest;
use http::uri::PathAndQuery;
use tonic::{Extensions, Request, metadata::MetadataMap};
use tonic_prost::ProstCodec;

use super::{connection::Connection, exchange::Sent, messages::Messages, rpc::CallFailure};
use crate::Endpoint;

pub(crate) use etcd_watch_proto::etcdserverpb::SnapshotResponse as Message;

/// The method, for messages.
pub(crate) const METHOD: &str = "Snapshot";
pub(crate) const PATH: &str = "/etcdserverpb.Maintenance/Snapshot";

/// Asks for a snapshot on this connection, and says in `sent` when the request has begun to leave.
pub(crate) async fn begin(
    connection: Connection,
    endpoint: &Endpoint,
    metadata: MetadataMap,
    max_message_bytes: usize,
    sent: Sent,
) -> Result<Messages<Message>, CallFailure> {
    let request = Request::from_parts(metadata, Extensions::default(), SnapshotRequest {});
    let codec = ProstCodec::default();
    let path = PathAndQuery::from_static(PATH);
    Messages::ask(connection, endpoint, request, path, codec, max_message_bytes, sent).await
}
