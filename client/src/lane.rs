//! One watch stream: connecting, being opened, open.
//!
//! ```text
//! Connecting --connected, member's version known--> Opening --response headers--> Open
//! ```
//!
//! etcd sends its response headers only together with the first response, and that comes only after the
//! first request. So the stream is reported as opened when the connection is up, the machine's first
//! request goes out while the headers are still awaited, and awaiting them is part of polling.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use etcd_watch_core::{Failure, Opened, StreamKey, StreamOptions};
use etcd_watch_proto::etcdserverpb as pb;
use futures_core::Stream;
use http::uri::PathAndQuery;
use tonic::{Extensions, Request, Streaming, client::Grpc, metadata::MetadataMap};

use crate::{
    Runtime,
    codec::FrameCodec,
    endpoints::EndpointId,
    outbox::{Outbox, Requests, outbox},
    pool::Dialer,
    rpc,
    sync::timeout,
    wire,
};

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How long the member may take to tell its version. Without it its manual progress replies are not
/// believed, that is all; so there is no point in waiting for long.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// One incarnation of one stream. Dropping it resets the stream and closes its connection.
pub(crate) struct Lane<T> {
    pub(crate) stream: StreamKey,
    pub(crate) endpoint: EndpointId,
    state: LaneState<T>,
    outbox: Outbox,
    max_message_bytes: usize,
    opened: bool,
    paused: bool,
}

#[expect(clippy::large_enum_variant, reason = "a client has few of them, and they are open most of the time")]
enum LaneState<T> {
    Connecting(BoxFuture<Result<Connected<T>, Failure>>),
    Opening(BoxFuture<Result<Streaming<Bytes>, Failure>>),
    Open(Streaming<Bytes>),
    Failed,
}

struct Connected<T> {
    transport: T,
    opened: Opened,
    origin: http::Uri,
    metadata: MetadataMap,
    requests: Requests,
}

/// What a lane has to say.
#[derive(Debug)]
pub(crate) enum LaneEvent {
    Opened(Opened),
    Frame(Bytes),
    Failed(Failure),
}

impl<T: crate::Transport> Lane<T> {
    /// Begins to connect.
    pub(crate) fn open<R: Runtime<Transport = T>>(
        dialer: &Arc<Dialer<R>>,
        endpoint: EndpointId,
        stream: StreamKey,
        options: Arc<StreamOptions>,
    ) -> Self {
        let (outbox, requests) = outbox();
        let connecting = connect(dialer.clone(), endpoint, options, requests);
        let state = LaneState::Connecting(Box::pin(connecting));
        let max_message_bytes = dialer.max_message_bytes;
        Self { stream, endpoint, state, outbox, max_message_bytes, opened: false, paused: false }
    }

    pub(crate) fn send(&self, request: etcd_watch_core::Request) {
        self.outbox.send(wire::watch_request(request));
    }

    /// Whether the connection was up.
    pub(crate) fn is_opened(&self) -> bool {
        self.opened
    }

    /// Whether it is not being read, since the machine has no room.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Whether polling may yield frames: then it is done only while the machine wants some.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, LaneState::Open(_))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LaneEvent> {
        loop {
            match &mut self.state {
                LaneState::Connecting(connecting) => match connecting.as_mut().poll(cx) {
                    Poll::Ready(Ok(connected)) => {
                        let opened = connected.opened;
                        self.opened = true;
                        self.state = LaneState::Opening(Box::pin(open(connected, self.max_message_bytes)));
                        return Poll::Ready(LaneEvent::Opened(opened));
                    }
                    Poll::Ready(Err(failure)) => return self.fail(failure),
                    Poll::Pending => return Poll::Pending,
                },
                LaneState::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Ready(Ok(frames)) => self.state = LaneState::Open(frames),
                    Poll::Ready(Err(failure)) => return self.fail(failure),
                    Poll::Pending => return Poll::Pending,
                },
                LaneState::Open(frames) => match Pin::new(frames).poll_next(cx) {
                    Poll::Ready(Some(Ok(frame))) => return Poll::Ready(LaneEvent::Frame(frame)),
                    Poll::Ready(Some(Err(status))) => {
                        let failure = wire::failure_of(&status, self.max_message_bytes);
                        return self.fail(failure);
                    }
                    Poll::Ready(None) => return self.fail(Failure::EndOfStream),
                    Poll::Pending => return Poll::Pending,
                },
                LaneState::Failed => return Poll::Pending,
            }
        }
    }

    fn fail(&mut self, failure: Failure) -> Poll<LaneEvent> {
        self.state = LaneState::Failed;
        Poll::Ready(LaneEvent::Failed(failure))
    }
}

/// Connects, and asks the member for its version on the same connection.
async fn connect<R: Runtime>(
    dialer: Arc<Dialer<R>>,
    id: EndpointId,
    options: Arc<StreamOptions>,
    requests: Requests,
) -> Result<Connected<R::Transport>, Failure> {
    let extra = || options.metadata.iter().map(|(name, value)| (&name[..], &value[..]));
    let metadata = wire::metadata(options.require_leader, extra())?;
    let transport = dialer.dial(id).await?;
    let endpoint = dialer.endpoints.get(id);
    let status = rpc::unary(
        transport.clone(),
        &endpoint,
        pb::StatusRequest {},
        wire::metadata(false, extra())?,
        dialer.max_message_bytes,
    );
    let version = match timeout(&dialer.runtime, STATUS_TIMEOUT, status).await {
        Some(Ok(status)) => status.version.parse().ok(),
        Some(Err(failed)) => match failed.failure {
            dead @ (Failure::Connection { .. } | Failure::EndOfStream) => return Err(dead),
            failure => {
                tracing::debug!(%endpoint, reason = %failure, "the member does not tell its version");
                None
            }
        },
        None => None,
    };
    Ok(Connected {
        transport,
        opened: Opened { version, ..Opened::default() },
        origin: endpoint.uri().clone(),
        metadata,
        requests,
    })
}

/// Makes the streaming call; completes with the response's headers.
async fn open<T: crate::Transport>(
    connected: Connected<T>,
    max_message_bytes: usize,
) -> Result<Streaming<Bytes>, Failure> {
    let mut grpc =
        Grpc::with_origin(connected.transport, connected.origin).max_decoding_message_size(max_message_bytes);
    if let Err(error) = grpc.ready().await {
        let error = error.into();
        return Err(Failure::connection(wire::chain(&*error)));
    }
    let request = Request::from_parts(connected.metadata, Extensions::default(), connected.requests);
    match grpc.streaming(request, PathAndQuery::from_static(WATCH), FrameCodec).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(wire::failure_of(&status, max_message_bytes)),
    }
}
