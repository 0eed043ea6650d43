//! One HTTP/2 connection, over whatever a runtime connects with.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
    rt,
};
use tonic::{body::Body, codegen::Service};

use crate::{BoxError, ConnectError, ConnectOptions, NotSent, Runtime, wire};

/// An HTTP/2 connection: what gRPC calls are made on.
///
/// Unlike a `tonic` channel it is exactly one connection. What was found out about the member at its
/// other end (its version, above all) holds for every call on it, and once it has broken calls fail, so
/// that the client decides where to connect next.
#[derive(Clone, Debug)]
pub struct Connection(SendRequest<Body>);

impl Connection {
    /// Speaks HTTP/2 over `io`, a connected socket (with TLS on it or not). The runtime runs the
    /// connection's task and its timers.
    ///
    /// # Errors
    /// When the other end doesn't answer in HTTP/2.
    pub async fn over<R, I>(runtime: &R, io: I, options: &ConnectOptions) -> Result<Self, ConnectError>
    where
        R: Runtime,
        I: rt::Read + rt::Write + Unpin + Send + 'static,
    {
        let mut http = Builder::new(Spawn(runtime.clone()));
        http.timer(Timers(runtime.clone()))
            .initial_stream_window_size(options.stream_window)
            .initial_connection_window_size(options.connection_window);
        if let Some(keepalive) = options.keepalive {
            // Not while idle: etcd counts pings without an open stream against the client.
            http.keep_alive_interval(keepalive.interval)
                .keep_alive_timeout(keepalive.timeout)
                .keep_alive_while_idle(false);
        }
        let (sender, connection) = http.handshake(io).await.map_err(ConnectError::new)?;
        runtime.spawn(async move {
            // Why it broke is told to each call on it.
            let _ = connection.await;
        });
        Ok(Self(sender))
    }
}

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
                let error = explained(failed.into_error());
                if unsent { NotSent::new(error).into() } else { error }
            })
        })
    }
}

/// In TLS 1.3 a server refuses a client's certificate only after the handshake, on the first call.
fn explained(error: hyper::Error) -> BoxError {
    let chain = wire::chain(&error);
    match crate::runtime::alert_remedy(&chain) {
        Some(remedy) => crate::runtime::TlsRefused(format!("{chain}: {remedy}")).into(),
        None => error.into(),
    }
}

/// hyper's executor, on a runtime.
#[derive(Clone, Debug)]
struct Spawn<R>(R);

impl<R: Runtime, F> rt::Executor<F> for Spawn<R>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(async move {
            let _ = task.await;
        });
    }
}

/// hyper's timers, on a runtime.
#[derive(Clone, Debug)]
struct Timers<R>(R);

impl<R: Runtime> rt::Timer for Timers<R> {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        let runtime = self.0.clone();
        let sleep = Box::pin(async move { runtime.sleep(duration).await });
        Box::pin(Sleeping(Mutex::new(sleep)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

/// The lock is never waited for; it makes the future `Sync`, as hyper wants it.
struct Sleeping(Mutex<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Future for Sleeping {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(cx)
    }
}

impl rt::Sleep for Sleeping {}
