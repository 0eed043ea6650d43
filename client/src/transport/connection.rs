//! One HTTP/2 connection, over whatever a runtime connects with.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::future::{Either, select};
use http::{Request, Response};
use hyper::client::conn::http2::{Builder, SendRequest};
use tonic::{body::Body, codegen::Service};

use super::{
    addresses::Route,
    answer::Answer,
    error::{ConnectError, NotSent, StreamRefused, Unprocessed},
    heard::Heard,
    hyper_runtime::{Spawn, Timers},
    options::{ConnectOptions, Keepalive},
    recorded::Recorded,
};
use crate::{BoxError, Runtime, runtime::Io, sync::Latch};

/// An HTTP/2 connection: what gRPC calls are made on.
///
/// Unlike a `tonic` channel it is exactly one connection. What was found out about the member at its
/// other end (its version, above all) holds for every call on it, and once it has broken calls fail, so
/// that the client decides where to connect next.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    heard: Heard,
    /// For one of a name's addresses.
    route: Option<Route>,
    /// Whether the member has said that it has no `KV.RangeStream`.
    lacks_streams: Arc<AtomicBool>,
}

/// How a connection is spoken over.
pub(super) struct Terms<'a> {
    pub(super) options: &'a ConnectOptions,
    pub(super) keepalive: Option<Keepalive>,
    pub(super) route: Option<Route>,
}

impl Connection {
    /// Speaks HTTP/2 over a connected socket (with TLS on it or not). The runtime runs the connection's task and
    /// its timers. Completes when the server has sent its settings: until then it may be one that hangs, whose
    /// system takes connections all the same.
    ///
    /// # Errors
    /// When the other end doesn't answer in HTTP/2.
    pub(super) async fn over(
        runtime: &Arc<dyn Runtime>,
        io: impl Io,
        terms: Terms<'_>,
        on_too_many_pings: impl FnOnce() + Send + 'static,
    ) -> Result<Self, ConnectError> {
        let Terms { options, keepalive, route } = terms;
        let mut http = Builder::new(Spawn(runtime.clone()));
        // No stream is opened before the peer has said how many it allows: it would refuse those over its limit.
        http.timer(Timers::new(runtime.clone()))
            .initial_max_send_streams(0)
            .initial_stream_window_size(options.stream_window)
            .initial_connection_window_size(options.connection_window());
        if let Some(keepalive) = keepalive {
            // Not while idle: etcd counts pings without an open stream against the client.
            http.keep_alive_interval(keepalive.interval)
                .keep_alive_timeout(keepalive.timeout)
                .keep_alive_while_idle(false);
        }
        let heard = Heard::default();
        let io = Recorded::new(io, heard.clone(), on_too_many_pings);
        let (sender, connection) = http.handshake(io).await.map_err(ConnectError::new)?;
        let end = Arc::new(Latch::default());
        let ended = end.clone();
        runtime.run(async move {
            // Why it broke is told to each call on it.
            ended.set(connection.await.err().map(Arc::new));
        });
        match select(pin!(heard.settings()), end.wait()).await {
            Either::Left(((), _)) => {}
            Either::Right((error, _)) => {
                return Err(ConnectError::told(heard.explain_end(error.as_deref()), heard.is_nothing()));
            }
        }
        Ok(Self { sender, heard, route, lacks_streams: Arc::default() })
    }

    /// Whether the member may have `KV.RangeStream`: etcd has it from 3.7 on.
    pub(crate) fn may_have_streams(&self) -> bool {
        !self.lacks_streams.load(Ordering::Relaxed)
    }

    /// The member has no `KV.RangeStream`, which holds for as long as the connection does.
    pub(crate) fn has_no_streams(&self) {
        self.lacks_streams.store(true, Ordering::Relaxed);
    }

    /// Whether it is known to have ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// The member at the other end is of no use: the next connection to the endpoint goes to another of its
    /// addresses, if it has several.
    pub(crate) fn blame(&self) {
        if let Some(route) = &self.route {
            route.failed();
        }
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.sender.poll_ready(cx).map_err(|error| self.heard.explain(error))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let response = self.sender.try_send_request(request);
        let heard = self.heard.clone();
        Box::pin(async move {
            match response.await {
                Ok(response) => Ok(response.map(|body| Answer::new(body, heard))),
                Err(mut failed) => {
                    let unsent = failed.take_message().is_some();
                    let error = failed.into_error();
                    let unprocessed = Unprocessed::find(&error);
                    let error = heard.explain(error);
                    Err(match unprocessed {
                        Some(Unprocessed::StreamRefused) => StreamRefused(error).into(),
                        Some(Unprocessed::GoingAway) => NotSent::new(error).into(),
                        None if unsent => NotSent::new(error).into(),
                        None => error,
                    })
                }
            }
        })
    }
}
