//! One HTTP/2 connection, over whatever a runtime connects with.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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

use super::{
    error::{Broken, ConnectError, NotSent, StreamRefused, TlsRefused, Unprocessed, alert_remedy},
    options::ConnectOptions,
    wire,
};
use crate::{
    BoxError, Runtime,
    runtime::{BoxFuture, Io},
};

/// An HTTP/2 connection: what gRPC calls are made on.
///
/// Unlike a `tonic` channel it is exactly one connection. What was found out about the member at its
/// other end (its version, above all) holds for every call on it, and once it has broken calls fail, so
/// that the client decides where to connect next.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    cause: Cause,
}

impl Connection {
    /// Speaks HTTP/2 over a connected socket (with TLS on it or not). The runtime runs the connection's task and
    /// its timers.
    ///
    /// # Errors
    /// When the other end doesn't answer in HTTP/2.
    pub(super) async fn over(
        runtime: &Arc<dyn Runtime>,
        io: impl Io,
        options: &ConnectOptions,
    ) -> Result<Self, ConnectError> {
        let mut http = Builder::new(Spawn(runtime.clone()));
        // No stream is opened before the peer has said how many it allows: it would refuse those over its limit, and
        // one that has never said anything has not executed anything.
        http.timer(Timers(runtime.clone()))
            .initial_max_send_streams(0)
            .initial_stream_window_size(options.stream_window)
            .initial_connection_window_size(options.connection_window);
        if let Some(keepalive) = options.keepalive {
            // Not while idle: etcd counts pings without an open stream against the client.
            http.keep_alive_interval(keepalive.interval)
                .keep_alive_timeout(keepalive.timeout)
                .keep_alive_while_idle(false);
        }
        let cause = Cause::default();
        let io = Recorded { io, cause: cause.clone() };
        let (sender, connection) = http.handshake(io).await.map_err(ConnectError::new)?;
        runtime.run(async move {
            // Why it broke is told to each call on it.
            let _ = connection.await;
        });
        Ok(Self { sender, cause })
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.sender.poll_ready(cx).map_err(|error| self.cause.explain(error))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let response = self.sender.try_send_request(request);
        let cause = self.cause.clone();
        Box::pin(async move {
            response.await.map_err(|mut failed| {
                let unsent = failed.take_message().is_some();
                let error = failed.into_error();
                let unprocessed = Unprocessed::find(&error);
                let error = cause.explain(error);
                match unprocessed {
                    Some(Unprocessed::StreamRefused) => StreamRefused(error).into(),
                    Some(Unprocessed::GoingAway) => NotSent::new(error).into(),
                    None if unsent => NotSent::new(error).into(),
                    None => error,
                }
            })
        })
    }
}

/// Why a connection broke, as its socket said it: hyper tells that only to calls that were under way.
#[derive(Clone, Debug, Default)]
struct Cause(Arc<Heard>);

#[derive(Debug, Default)]
struct Heard {
    error: OnceLock<io::Error>,
    /// Whether the other end has said anything at all.
    anything: AtomicBool,
}

/// What to look for where it hasn't. A refused certificate shows as this when the alert is lost on the way.
const NOT_A_WORD: &str = "the server hung up without a word: if it wants TLS, write https://; if it wants a client certificate, give one with identity_files";

impl Cause {
    fn explain(&self, error: hyper::Error) -> BoxError {
        let mut text = wire::chain(&error);
        let heard = self.0.error.get();
        let said = heard.map_or_else(|| text.clone(), ToString::to_string);
        let cause = heard.map_or_else(|| error.into(), |heard| copy(heard).into());
        // In TLS 1.3 a server refuses a client's certificate only after the handshake.
        if let Some(remedy) = alert_remedy(&said) {
            return TlsRefused { text: format!("{said}: {remedy}"), cause }.into();
        }
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        if !self.0.anything.load(Ordering::Relaxed) {
            text = format!("{text}: {NOT_A_WORD}");
        }
        Broken { text, cause }.into()
    }
}

/// The same error once more: one goes to HTTP/2, and one to each call that it has broken.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// A socket that remembers why it broke.
#[derive(Debug)]
struct Recorded<I> {
    io: I,
    cause: Cause,
}

impl<I: Unpin> Recorded<I> {
    fn io(&mut self) -> Pin<&mut I> {
        Pin::new(&mut self.io)
    }

    fn record(&self, error: &io::Error) {
        let _ = self.cause.0.error.set(copy(error));
    }
}

impl<I: rt::Read + Unpin> Recorded<I> {
    /// A write has failed. Before it closed the connection the other end may have said why, and that is still to
    /// be read: a TLS alert, above all.
    fn record_after_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            match self.last_words(cx) {
                Some(said) => self.record(&said),
                None => self.record(error),
            }
        }
        polled
    }

    /// The error that reading on ends with. What is read before it is of no use any more.
    fn last_words(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        let mut space = [0; 4096];
        for _ in 0..64 {
            let mut buffer = rt::ReadBuf::new(&mut space);
            match self.io().poll_read(cx, buffer.unfilled()) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(Err(said)) => return Some(said),
                Poll::Ready(Ok(())) | Poll::Pending => return None,
            }
        }
        None
    }
}

impl<I: rt::Read + Unpin> rt::Read for Recorded<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = if self.cause.0.anything.load(Ordering::Relaxed) {
            self.io().poll_read(cx, buffer)
        } else {
            // A cursor doesn't tell how much was read; so the first words go by way of a buffer that does.
            let mut space = [0; 1024];
            let room = buffer.remaining().min(space.len());
            let mut first = rt::ReadBuf::new(&mut space[..room]);
            let polled = self.io().poll_read(cx, first.unfilled());
            if !first.filled().is_empty() {
                self.cause.0.anything.store(true, Ordering::Relaxed);
                buffer.put_slice(first.filled());
            }
            polled
        };
        if let Poll::Ready(Err(error)) = &polled {
            self.record(error);
        }
        polled
    }
}

impl<I: rt::Read + rt::Write + Unpin> rt::Write for Recorded<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.io().poll_write(cx, bytes);
        self.record_after_write(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.io().poll_flush(cx);
        self.record_after_write(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.io().poll_write_vectored(cx, bytes);
        self.record_after_write(cx, polled)
    }
}

/// hyper's executor, on a runtime.
#[derive(Clone, Debug)]
struct Spawn(Arc<dyn Runtime>);

impl<F> rt::Executor<F> for Spawn
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.run(async move {
            let _ = task.await;
        });
    }
}

/// hyper's timers, on a runtime.
#[derive(Clone, Debug)]
struct Timers(Arc<dyn Runtime>);

impl rt::Timer for Timers {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Sleeping::new(self.0.sleep(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

/// `None` once it has rung: hyper asks a timer again that has, on a connection without streams, and every answer
/// has to be the same. The lock is never waited for; it makes the future `Sync`, as hyper wants it.
struct Sleeping(Mutex<Option<BoxFuture<'static, ()>>>);

impl Sleeping {
    fn new(sleep: BoxFuture<'static, ()>) -> Self {
        Self(Mutex::new(Some(sleep)))
    }
}

impl Future for Sleeping {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(sleeping) = sleep
            && sleeping.as_mut().poll(cx).is_pending()
        {
            return Poll::Pending;
        }
        *sleep = None;
        Poll::Ready(())
    }
}

impl rt::Sleep for Sleeping {}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_timer_that_has_rung_says_so_as_often_as_it_is_asked() {
        let mut timer = Box::pin(Sleeping::new(Box::pin(async {})));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(timer.as_mut().poll(&mut cx).is_ready());
        }
        let mut never = Box::pin(Sleeping::new(Box::pin(std::future::pending())));
        assert!(never.as_mut().poll(&mut cx).is_pending());
    }
}
