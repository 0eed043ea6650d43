//! HTTP/2 as a member of a simulated cluster speaks it: lawfully, and with the faults that it is told to have.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http_body::{Body as _, Frame};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::service::Routes;

use super::guard::Member;
use super::orders::{Farewell, Orders};

/// A stream's window, in bytes: HTTP/2's default.
const WINDOW: u32 = 65_535;

/// Serves one connection and follows its orders, until it ends. Calls that are under way end with it.
pub(super) async fn serve<S>(socket: S, routes: Routes, orders: Arc<Orders>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut http = h2::server::Builder::new();
    // As many streams at once as a client likes, as in etcd.
    http.max_concurrent_streams(u32::MAX).initial_window_size(WINDOW);
    let Ok(mut connection) = http.handshake(socket).await else { return };
    let (mut window, mut calls) = (WINDOW, JoinSet::new());
    // How a connection ends says nothing that a test would want to know from here.
    while let Some(Ok((request, respond))) =
        poll_fn(|cx| poll_accept(&mut connection, &orders, &mut window, cx)).await
    {
        while calls.try_join_next().is_some() {}
        calls.spawn(serve_call(request, respond, routes.clone(), orders.clone()));
    }
}

type Accepted = Option<Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>>;

/// The next call. What concerns the whole connection is done meanwhile.
fn poll_accept<S>(
    connection: &mut Connection<S, Bytes>,
    orders: &Orders,
    window: &mut u32,
    cx: &mut Context<'_>,
) -> Poll<Accepted>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    orders.listen(cx.waker());
    match orders.take_farewell() {
        Some(Farewell::Graceful) => connection.graceful_shutdown(),
        Some(Farewell::Abrupt(code)) => connection.abrupt_shutdown(Reason::from(code)),
        None => {}
    }
    loop {
        if let Poll::Ready(accepted) = pin!(connection.accept()).poll(cx) {
            return Poll::Ready(accepted);
        }
        let wanted = if orders.is_stalled() { 0 } else { WINDOW };
        // The client has to acknowledge one change before the next one is made; that is when this is polled again.
        if wanted == *window || connection.set_initial_window_size(wanted).is_err() {
            return Poll::Pending;
        }
        *window = wanted;
    }
}

async fn serve_call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    mut routes: Routes,
    orders: Arc<Orders>,
) {
    let order = orders.enter(respond.stream_id().as_u32());
    if orders.takes_refusal() {
        return respond.send_reset(Reason::REFUSED_STREAM);
    }
    let mut request = request.map(|body| Body::new(Received(body)));
    request.extensions_mut().insert(Member(orders.member()));
    let response: Result<Response<Body>, Infallible> = tokio::select! {
        biased;
        code = order.reset() => return respond.send_reset(Reason::from(code)),
        _given_up = poll_fn(|cx| respond.poll_reset(cx)) => return,
        response = routes.call(request) => response,
    };
    if orders.takes_loss() {
        return respond.send_reset(Reason::INTERNAL_ERROR);
    }
    let Ok(response) = response;
    let (head, body) = response.into_parts();
    let is_over = body.is_end_stream();
    let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), is_over) else { return };
    if is_over {
        return;
    }
    tokio::select! {
        biased;
        code = order.reset() => respond.send_reset(Reason::from(code)),
        _gone = send(&mut stream, body) => {}
    }
}

/// Sends a body as the client has room for it. An error is that the client is gone.
async fn send(stream: &mut SendStream<Bytes>, body: Body) -> Result<(), Gone> {
    let mut body = pin!(body);
    loop {
        let frame = poll_fn(|cx| match stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(Err(Gone)),
            Poll::Pending => body.as_mut().poll_frame(cx).map(Ok),
        });
        match frame.await? {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => send_data(stream, data).await?,
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_else(|_| HeaderMap::new());
                    return stream.send_trailers(trailers).map_err(|_| Gone);
                }
            },
            Some(Err(_)) => {
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            None => return stream.send_data(Bytes::new(), true).map_err(|_| Gone),
        }
    }
}

async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), Gone> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = poll_fn(|cx| match stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => stream.poll_capacity(cx),
        });
        let Some(Ok(room)) = room.await else { return Err(Gone) };
        let part = data.split_to(room.min(data.len()));
        stream.send_data(part, false).map_err(|_| Gone)?;
    }
    Ok(())
}

/// The client has given the call up, or its connection has ended.
struct Gone;

/// What a client sends in a call.
struct Received(RecvStream);

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = ready!(self.0.poll_data(cx)) {
            let data = data.and_then(|data| {
                self.0.flow_control().release_capacity(data.len())?;
                Ok(Frame::data(data))
            });
            return Poll::Ready(Some(data));
        }
        let trailers = ready!(self.0.poll_trailers(cx));
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
