//! One connection and the call on it. It all runs in the task of whoever awaits it: when that is dropped,
//! the stream and its connection are closed.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use compio::{
    io::compat::AsyncStream,
    net::TcpStream,
    time::{sleep, timeout},
};
use etcd_watch_core::{Failure, KeyRange, Opened, RangeDone, StreamKey, StreamOptions};
use etcd_watch_examples::{
    call::{self, Call, broken},
    endpoints::Endpoint,
    wire,
};
use etcd_watch_proto::etcdserverpb::StatusRequest;
use h2::{
    Ping, PingPong,
    client::{Connection, SendRequest},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

use crate::driver::{Driver, Mailbox};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the member may take to tell its version; without it, less of what it says is believed.
const VERSION_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a stream's connection is pinged: etcd closes those that ping more often than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(10);
/// How long the answer may take.
const PONG_TIMEOUT: Duration = Duration::from_secs(5);

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
    let head = wire::head(&endpoint.authority, wire::STATUS, options)?;
    let status = Call::unary(&mut requests, head, &StatusRequest {})?;
    let opened = match timeout(VERSION_TIMEOUT, status.reply()).await {
        Ok(Ok(reply)) => wire::opened(reply),
        // A member that won't say, or not in time.
        Ok(Err(Failure::Status { .. })) | Err(_) => Opened::default(),
        Ok(Err(failure)) => return Err(failure),
    };
    let head = wire::head(&endpoint.authority, wire::WATCH, options)?;
    let mut call = Call::streaming(&mut requests, head)?;
    // Opened as of now: etcd's response headers come with the first message, not before.
    driver.tell(|machine, now| machine.handle_opened(now, stream, opened));
    loop {
        let next = poll_fn(|cx| {
            let mut mailbox = mailbox.borrow_mut();
            mailbox.waker = Some(cx.waker().clone());
            for request in mailbox.requests.drain(..) {
                call.send(&wire::watch_request(request));
            }
            // Not asking for frames is backpressure: the flow-control window stays closed.
            if mailbox.wanted { call.poll_message(cx) } else { Poll::Pending }
        });
        let frame = next.await?;
        driver.tell(|machine, now| machine.handle_frame(now, stream, frame));
    }
}

/// Reads the store's current revision, on a connection of its own.
pub(crate) async fn read(
    endpoint: &Endpoint,
    keys: &KeyRange,
    options: &StreamOptions,
) -> Result<RangeDone, Failure> {
    let (mut requests, connection) = connect(endpoint).await?;
    let head = wire::head(&endpoint.authority, wire::RANGE, options)?;
    let call = Call::unary(&mut requests, head, &wire::range_request(keys))?;
    let reply = timeout(READ_TIMEOUT, alongside(connection, call.reply())).await;
    let silent = |_| Failure::connection(format!("no answer within {READ_TIMEOUT:?}"));
    wire::range_done(reply.map_err(silent)???)
}

async fn connect(endpoint: &Endpoint) -> Result<Http, Failure> {
    let connecting = async {
        let socket = TcpStream::connect(endpoint.address).await?;
        socket.set_nodelay(true)?;
        let socket = Box::pin(AsyncStream::new(socket)).compat();
        call::http2().handshake(socket).await.map_err(io::Error::other)
    };
    let connected = timeout(CONNECT_TIMEOUT, connecting).await;
    let silent = |_| Failure::connection(format!("no connection within {CONNECT_TIMEOUT:?}"));
    connected.map_err(silent)?.map_err(|error| broken(&error))
}

/// Pings until no answer comes.
async fn keepalive(mut pings: PingPong) -> Failure {
    loop {
        sleep(PING_EVERY).await;
        match timeout(PONG_TIMEOUT, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return broken(&error),
            Err(_) => return Failure::connection(format!("no answer to a ping within {PONG_TIMEOUT:?}")),
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
