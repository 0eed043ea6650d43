//! The stream of a snapshot: the only call but watches and lists whose answer is many messages.

use etcd_watch_core::Failure;
use etcd_watch_proto::etcdserverpb::SnapshotRequest;
use http::uri::PathAndQuery;
use tonic::{Extensions, Request, Streaming, metadata::MetadataMap};
use tonic_prost::ProstCodec;

use super::{
    connection::Connection,
    exchange::Sent,
    rpc::{self, CallFailure},
};
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
) -> Result<Messages, CallFailure> {
    let mut grpc = rpc::grpc(connection, endpoint, max_message_bytes, &sent).await?;
    let request = Request::from_parts(metadata, Extensions::default(), SnapshotRequest {});
    let codec = ProstCodec::default();
    match grpc.server_streaming(request, PathAndQuery::from_static(PATH), codec).await {
        Ok(response) => Ok(Messages { messages: response.into_inner(), sent, max_message_bytes }),
        Err(status) => Err(CallFailure::of_status(status, &sent, max_message_bytes)),
    }
}

/// The messages of a snapshot. Dropping it resets the stream.
pub(crate) struct Messages {
    messages: Streaming<Message>,
    sent: Sent,
    max_message_bytes: usize,
}

impl Messages {
    /// The next message. The body is read only while this is waited for, so that the server is held up otherwise by
    /// HTTP/2's flow control.
    ///
    /// # Errors
    /// How it ended: the good end is [`Failure::EndOfStream`].
    pub(crate) async fn next(&mut self) -> Result<Message, CallFailure> {
        match self.messages.message().await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(CallFailure::sent(Failure::EndOfStream)),
            Err(status) => Err(CallFailure::of_status(status, &self.sent, self.max_message_bytes)),
        }
    }
}
