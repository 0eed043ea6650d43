//! One connection and the call on it. It all runs in the task of whoever awaits it: when that is dropped,
//! the stream and its connection are closed.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use bytes::Bytes;
use compio::{
    io::compat::AsyncStream,
    net::TcpStream,
    time::{sleep, timeout},
};
use etcd_watch_core::{
    Failure, Opened, RangeDone, StreamKey, StreamOptions,
    wire::{Method, RevisionRequest, StatusRequest},
};
use etcd_watch_event_loops::{
    call::{self, Call, broken},
    endpoints::Endpoint,
    timeouts,
};
use h2::{
    Ping, PingPong,
    client::{Connection, SendRequest},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

use crate::driver::{Driver, Mailbox};

/// A socket that reads into and writes from buffers it owns, as io_uring needs them, behind the traits that
/// `h2` reads and writes by.
type Socket = Compat<Pin<Box<AsyncStream<TcpStream>>>>;

type Http = (SendRequest<Bytes>, Connection<Socket, Bytes>);

/// Runs a watch stream to its end, which is a failure.
pub(crate) async fn watch(
    driver: &Rc<Driver>,
    stream: StreamKey,
    endpoint: &Endpoint,
    options: &StreamOptions,
    mailbox: &RefCell<Mailbox>,
) -> Failure {
    let (requests, mut connection) = match connect(endpoint).await {
        Ok(http) => http,
        Err(failure) => return failure,
    };
    let Some(pings) = connection.ping_pong() else { return Failure::connection("no pings") };
    let watching = async {
        let Err(failure) = frames(driver, stream, endpoint, options, mailbox, requests).await;
        failure
    };
    alongside(connection, first(keepalive(pings), watching)).await.unwrap_or_else(|failure| failure)
}

/// Asks for the version, opens the stream, and hands over what arrives for as long as anything does.
async fn frames(
    driver: &Rc<Driver>,
    stream: StreamKey,
    endpoint: &Endpoint,
    options: &StreamOptions,
    mailbox: &RefCell<Mailbox>,
    mut requests: SendRequest<Bytes>,
) -> Result<std::convert::Infallible, Failure> {
    let status = Call::unary(&mut requests, endpoint, options, &StatusRequest)?;
    let opened = match timeout(timeouts::VERSION, status.reply()).await {
        Ok(Ok(reply)) => call::opened(&reply),
        // A member that won't say, or not in time.
        Ok(Err(Failure::Status { .. })) | Err(_) => Opened::default(),
        Ok(Err(failure)) => return Err(failure),
    };
    let mut call = Call::streaming(&mut requests, endpoint, options, Method::Watch)?;
    // Opened as of now: etcd's response headers come with the first message, not before.
    driver.tell(|machine, now| machine.handle_opened(now, stream, opened));
    loop {
        let next = poll_fn(|cx| {
            let mut mailbox = mailbox.borrow_mut();
            mailbox.waker = Some(cx.waker().clone());
            for request in mailbox.requests.drain(..) {
                call.send(&request);
            }
            // Not asking for frames is backpressure: the flow-control window stays closed.
            if mailbox.wanted { call.poll_message(cx) } else { Poll::Pending }
        });
        let frame = next.await?;
        driver.tell(|machine, now| machine.handle_frame(now, stream, etcd_watch_core::Frame::decode(frame)));
    }
}

/// Makes a read that the machine asks for, on a connection of its own.
pub(crate) async fn read(
    endpoint: &Endpoint,
    request: &RevisionRequest,
    options: &StreamOptions,
) -> Result<RangeDone, Failure> {
    let (mut requests, connection) = connect(endpoint).await?;
    let call = Call::unary(&mut requests, endpoint, options, request)?;
    let reply = timeout(timeouts::READ, alongside(connection, call.reply())).await;
    let silent = |_| Failure::connection(format!("no answer within {:?}", timeouts::READ));
    Ok(RangeDone::decode(&reply.map_err(silent)???)?)
}

async fn connect(endpoint: &Endpoint) -> Result<Http, Failure> {
    let connecting = async {
        let socket = TcpStream::connect(endpoint.address).await?;
        socket.set_nodelay(true)?;
        let socket = Box::pin(AsyncStream::new(socket)).compat();
        call::http2().handshake(socket).await.map_err(io::Error::other)
    };
    let connected = timeout(timeouts::CONNECT, connecting).await;
    let silent = |_| Failure::connection(format!("no connection within {:?}", timeouts::CONNECT));
    connected.map_err(silent)?.map_err(|error| broken(&error))
}

/// Pings until no answer comes.
async fn keepalive(mut pings: PingPong) -> Failure {
    loop {
        sleep(timeouts::PING_EVERY).await;
        match timeout(timeouts::PONG, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return broken(&error),
            Err(_) => return Failure::connection(format!("no answer to a ping within {:?}", timeouts::PONG)),
        }
    }
}

/// Does the work while the connection moves its bytes.
async fn alongside<T>(
    mut connection: Connection<Socket, Bytes>,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let mut work = pin!(work);
    let mut is_over = false;
    poll_fn(|cx| {
        is_over = is_over || Pin::new(&mut connection).poll(cx).is_ready();
        match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            // What had arrived has been taken, and no more will.
            Poll::Pending if is_over => Poll::Ready(Err(Failure::connection("the connection was closed"))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// What the first of the two to end comes to.
async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Pending => other.as_mut().poll(cx),
        done => done,
    })
    .await
}
