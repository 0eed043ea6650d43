//! Calls whose messages the core encodes and decodes: here they are bytes.

use bytes::{Buf, BufMut, Bytes};
use etcd_watch_core::wire::Method;
use http::uri::PathAndQuery;
use tonic::{
    Extensions, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
};

use super::{
    connection::Connection,
    exchange::Sent,
    messages::Messages,
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
    ) -> Result<Messages<Bytes>, CallFailure> {
        let max_bytes = self.max_bytes;
        let (request, path) = self.into_parts();
        Messages::ask(connection, endpoint, request, path, Raw, max_bytes, Sent::default()).await
    }

    fn into_parts(self) -> (Request<Bytes>, PathAndQuery) {
        let request = Request::from_parts(self.metadata, Extensions::default(), self.message);
        (request, PathAndQuery::from_static(self.method.path()))
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
