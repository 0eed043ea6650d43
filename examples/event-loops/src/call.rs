//! One gRPC call on an HTTP/2 connection, polled. `h2` needs no runtime: whoever polls is woken through
//! the waker that came along.

use std::{
    error::Error,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use etcd_watch_core::{
    Failure, Opened, StreamOptions,
    wire::{Encode, Messages, Method, check_head, decode_version},
};
use h2::{
    RecvStream, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{HeaderMap, HeaderValue, Request, Version};

use crate::endpoints::Endpoint;

/// HTTP/2's flow-control windows: what a server may send ahead of being read. h2 ends a connection with too many unread
/// small frames, and allows more of them the larger the connection's window is.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 * STREAM_WINDOW;

/// The largest message taken: a revision comes in one, unless the server splits it.
const MAX_MESSAGE: usize = 512 << 20;

/// The settings of the connections that calls are made on.
#[must_use]
pub fn http2() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    builder
}

/// What a broken connection is to the machine.
#[must_use]
pub fn broken(error: &(impl Error + ?Sized)) -> Failure {
    Failure::connection(error.to_string())
}

/// What the answer to a question for the version says. A member that won't tell is believed less, that is all.
#[must_use]
pub fn opened(reply: &[u8]) -> Opened {
    Opened { version: decode_version(reply).ok().flatten(), ..Opened::default() }
}

/// One call. Dropping it resets its stream.
#[derive(Debug)]
pub struct Call {
    requests: SendStream<Bytes>,
    response: Response,
    messages: Messages,
    reply: Option<Bytes>,
}

#[derive(Debug)]
enum Response {
    Head(ResponseFuture),
    Body(RecvStream),
}

impl Call {
    /// Sends the head. The request side stays open: messages follow by [`send`](Self::send).
    ///
    /// # Errors
    /// When the connection is gone, or the metadata can't be sent.
    pub fn streaming(
        connection: &mut SendRequest<Bytes>,
        endpoint: &Endpoint,
        options: &StreamOptions,
        method: Method,
    ) -> Result<Self, Failure> {
        let uri = format!("http://{}{}", endpoint.authority, method.path());
        let mut head = Request::post(uri).version(Version::HTTP_2);
        for (name, value) in method.headers(options) {
            head = head.header(name, value);
        }
        // Only the name of what is wrong: values may be secret.
        let invalid = |error| Failure::invalid_request(format!("metadata: {error}"));
        let head = head.body(()).map_err(invalid)?;
        let (response, requests) = connection.send_request(head, false).map_err(|error| broken(&error))?;
        let messages = Messages::new(MAX_MESSAGE);
        Ok(Self { requests, response: Response::Head(response), messages, reply: None })
    }

    /// Sends the head and the only message.
    ///
    /// # Errors
    /// When the connection is gone, or the metadata can't be sent.
    pub fn unary<M: Encode>(
        connection: &mut SendRequest<Bytes>,
        endpoint: &Endpoint,
        options: &StreamOptions,
        message: &M,
    ) -> Result<Self, Failure> {
        let mut call = Self::streaming(connection, endpoint, options, M::METHOD)?;
        call.requests.send_data(message.to_frame(), true).map_err(|error| broken(&error))?;
        Ok(call)
    }

    /// Sends a message. `h2` keeps what the flow control does not let out yet. That the stream is gone,
    /// [`poll_message`](Self::poll_message) tells, after what had arrived.
    pub fn send(&mut self, message: &impl Encode) {
        // Never with end_of_stream: some servers take a half-close for the end of the watches.
        let _ = self.requests.send_data(message.to_frame(), false);
    }

    /// The next message of the response. It has no end but a failure.
    ///
    /// # Errors
    /// How the call ended; don't poll again after that.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Failure>> {
        loop {
            if let Some(message) = self.messages.pop()? {
                return Poll::Ready(Ok(message));
            }
            let body = match &mut self.response {
                Response::Body(body) => body,
                // It comes with the first message, and that only after a request.
                Response::Head(head) => {
                    let head = ready!(Pin::new(head).poll(cx)).map_err(|error| broken(&error))?;
                    check_head(head.status().as_u16(), value_in(head.headers()))?;
                    self.response = Response::Body(head.into_body());
                    continue;
                }
            };
            match ready!(body.poll_data(cx)) {
                Some(chunk) => {
                    let chunk = chunk.map_err(|error| broken(&error))?;
                    // Taken: the server may send as much again. It fails only on a stream that is gone.
                    let _ = body.flow_control().release_capacity(chunk.len());
                    self.messages.push(chunk);
                }
                None => {
                    let trailers = ready!(body.poll_trailers(cx)).map_err(|error| broken(&error))?;
                    return Poll::Ready(Err(self.messages.end(value_in(&trailers.unwrap_or_default()))));
                }
            }
        }
    }

    /// The only message of a unary call's response, once the status says that it counts.
    ///
    /// # Errors
    /// How the call ended otherwise.
    pub fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Failure>> {
        loop {
            match ready!(self.poll_message(cx)) {
                Ok(reply) => self.reply = Some(reply),
                Err(end) => {
                    let reply = self.reply.take().filter(|_| end == Failure::EndOfStream);
                    return Poll::Ready(reply.ok_or(end));
                }
            }
        }
    }

    /// [`poll_reply`](Self::poll_reply), to be awaited.
    ///
    /// # Errors
    /// How the call ended otherwise.
    pub async fn reply(mut self) -> Result<Bytes, Failure> {
        poll_fn(|cx| self.poll_reply(cx)).await
    }
}

fn value_in<'h>(headers: &'h HeaderMap) -> impl Fn(&str) -> Option<&'h [u8]> {
    |name| headers.get(name).map(HeaderValue::as_bytes)
}
