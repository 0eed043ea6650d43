//! One HTTP/2 connection over TCP.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use etcd_watch_client::{BoxError, ConnectError, ConnectOptions, Endpoint, NotSent};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tonic::{body::Body, codegen::Service};

/// An HTTP/2 connection: what gRPC calls are made on.
///
/// Unlike a `tonic` channel it is exactly one connection. What was found out about the member at its
/// other end (its version, above all) holds for every call on it, and once it has broken calls fail, so
/// that the client decides where to connect next.
#[derive(Clone, Debug)]
pub struct Connection(SendRequest<Body>);

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let response = self.0.try_send_request(request);
        Box::pin(async move {
            response.await.map_err(|mut failed| {
                let unsent = failed.take_message().is_some();
                let error = failed.into_error();
                if unsent { NotSent::new(error).into() } else { error.into() }
            })
        })
    }
}

pub(crate) async fn connect(endpoint: Endpoint, options: ConnectOptions) -> Result<Connection, ConnectError> {
    let stream = dial(endpoint.host(), endpoint.port()).await.map_err(ConnectError::new)?;
    stream.set_nodelay(true).map_err(ConnectError::new)?;
    let mut http = Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .initial_stream_window_size(options.stream_window)
        .initial_connection_window_size(options.connection_window);
    if let Some(keepalive) = options.keepalive {
        // Not while idle: etcd counts pings without an open stream against the client.
        http.keep_alive_interval(keepalive.interval)
            .keep_alive_timeout(keepalive.timeout)
            .keep_alive_while_idle(false);
    }
    let (sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(ConnectError::new)?;
    tokio::spawn(async move {
        // Why it broke is told to each call on it.
        let _ = connection.await;
    });
    Ok(Connection(sender))
}

/// How long one of a name's addresses is waited for before the next is tried beside it (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to whichever of the name's addresses answers, in the order the resolver prefers.
async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut addresses = tokio::net::lookup_host((host, port)).await?;
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let more = match addresses.next() {
            Some(address) => {
                attempts.spawn(TcpStream::connect(address));
                true
            }
            None => false,
        };
        let finished =
            if more { timeout(STAGGER, attempts.join_next()).await } else { Ok(attempts.join_next().await) };
        match finished {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(error)))) => failure = error,
            Ok(Some(Err(error))) => failure = error.into(),
            Ok(None) => return Err(failure),
            // Still under way: the next address beside it.
            Err(_) => {}
        }
    }
}
