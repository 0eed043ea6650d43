//! Calls whose answer is many messages.

use etcd_watch_core::Failure;
use http::uri::PathAndQuery;
use tonic::{Request, Streaming, codec::Codec};

use super::{
    connection::Connection,
    exchange::Sent,
    rpc::{self, CallFailure},
};
use crate::Endpoint;

/// The messages of an answer. Dropping it resets the stream.
pub(crate) struct Messages<T> {
    messages: Streaming<T>,
    sent: Sent,
    max_bytes: usize,
}

impl<T> Messages<T> {
    /// Makes the call on this connection, and says in `sent` when the request has begun to leave. A message of more than
    /// `max_bytes` is not received.
    pub(super) async fn ask<C>(
        connection: Connection,
        endpoint: &Endpoint,
        request: Request<C::Encode>,
        path: PathAndQuery,
        codec: C,
        max_bytes: usize,
        sent: Sent,
    ) -> Result<Self, CallFailure>
    where
        C: Codec<Decode = T>,
        C::Encode: Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        let mut grpc = rpc::grpc(connection, endpoint, max_bytes, &sent).await?;
        match grpc.server_streaming(request, path, codec).await {
            Ok(response) => Ok(Self { messages: response.into_inner(), sent, max_bytes }),
            Err(status) => Err(CallFailure::of_status(status, &sent, max_bytes)),
        }
    }

    /// The next message. The body is read only while this is waited for, so that the server is held up otherwise by
    /// HTTP/2's flow control.
    ///
    /// # Errors
    /// How it ended: the good end is [`Failure::EndOfStream`].
    pub(crate) async fn next(&mut self) -> Result<T, CallFailure> {
        match self.messages.message().await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(CallFailure::sent(Failure::EndOfStream)),
            Err(status) => Err(CallFailure::of_status(status, &self.sent, self.max_bytes)),
        }
    }
}
