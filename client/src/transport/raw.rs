//! Calls whose messages the core encodes and decodes: here they are bytes.

use bytes::{Buf, BufMut, Bytes};
use etcd_watch_core::{Failure, wire::Method};
use http::uri::PathAndQuery;
use tonic::{
    Extensions, Request, Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
};

use super::{
    connection::Connection,
    exchange::Sent,
    rpc::{self, CallFailure},
};
use crate::Endpoint;

/// A call to make.
#[derive(Clone, Debug)]
pub(crate) struct RawCall {
    pub(crate) method: Method,
    pub(crate) message: Bytes,
    pub(crate) metadata: MetadataMap,
    /// A larger message is not received.
    pub(crate) max_bytes: usize,
}

impl RawCall {
    /// Makes it on this connection: one message is answered.
    pub(crate) async fn unary(
        self,
        connection: Connection,
        endpoint: &Endpoint,
    ) -> Result<Bytes, CallFailure> {
        let sent = Sent::default();
        let mut grpc = rpc::grpc(connection, endpoint, self.max_bytes, &sent).await?;
        let max_bytes = self.max_bytes;
        let (request, path) = self.into_parts();
        match grpc.unary(request, path, Raw).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(CallFailure::of_status(status, &sent, max_bytes)),
        }
    }

    /// Makes it on this connection: messages are answered, one after the other.
    pub(crate) async fn stream(
        self,
        connection: Connection,
        endpoint: &Endpoint,
    ) -> Result<RawStream, CallFailure> {
        let sent = Sent::default();
        let mut grpc = rpc::grpc(connection, endpoint, self.max_bytes, &sent).await?;
        let max_bytes = self.max_bytes;
        let (request, path) = self.into_parts();
        match grpc.server_streaming(request, path, Raw).await {
            Ok(response) => Ok(RawStream { messages: response.into_inner(), sent, max_bytes }),
            Err(status) => Err(CallFailure::of_status(status, &sent, max_bytes)),
        }
    }

    fn into_parts(self) -> (Request<Bytes>, PathAndQuery) {
        let request = Request::from_parts(self.metadata, Extensions::default(), self.message);
        (request, PathAndQuery::from_static(self.method.path()))
    }
}

/// The messages of an answer. Dropping it resets the stream.
pub(crate) struct RawStream {
    messages: Streaming<Bytes>,
    sent: Sent,
    max_bytes: usize,
}

impl RawStream {
    /// The next message. The body is read only while this is waited for, so that the server is held up otherwise by
    /// HTTP/2's flow control.
    ///
    /// # Errors
    /// How it ended: the good end is [`Failure::EndOfStream`].
    pub(crate) async fn next(&mut self) -> Result<Bytes, CallFailure> {
        match self.messages.message().await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(CallFailure::sent(Failure::EndOfStream)),
            Err(status) => Err(CallFailure::of_status(status, &self.sent, self.max_bytes)),
        }
    }
}

/// Messages as they are.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    /// tonic has put the whole message into its buffer, and gives that away.
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
