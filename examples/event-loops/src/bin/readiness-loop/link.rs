//! One connection with one call the machine wants, as a state machine that is polled.
//!
//! ```text
//! Connecting --> Shaking --> Version --member's version--> Watch      for a stream
//!                   \------> Read                                     for a read
//! ```

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use etcd_watch_core::{
    Failure, Instant, Opened, RangeDone, RangeKey, Request, StreamKey, StreamOptions,
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

use crate::socket::Socket;

/// What the machine wants the connection for.
#[derive(Debug)]
pub(crate) enum Purpose {
    Stream(StreamKey),
    Read(RangeKey, RevisionRequest),
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(stream) => write!(f, "{stream:?}"),
            Self::Read(range, _) => write!(f, "{range:?}"),
        }
    }
}

/// What there is to tell the machine.
#[derive(Debug)]
pub(crate) enum News {
    Opened(StreamKey, Opened),
    Frame(StreamKey, Bytes),
    Read(RangeKey, RangeDone),
}

/// A connection and its call. Dropping it closes both.
pub(crate) struct Link {
    pub(crate) purpose: Purpose,
    pub(crate) endpoint: Endpoint,
    options: Arc<StreamOptions>,
    state: State,
    /// When the state has lasted too long.
    deadline: Option<Instant>,
}

type Http = (SendRequest<Bytes>, Connection<Socket, Bytes>);

enum State {
    Connecting(Socket),
    Shaking(Pin<Box<dyn Future<Output = Result<Http, h2::Error>>>>),
    Up(Box<Up>),
    Over,
}

/// An HTTP/2 connection, and what is done on it.
struct Up {
    requests: SendRequest<Bytes>,
    /// `None` once it is over; the calls on it still have what had arrived.
    connection: Option<Connection<Socket, Bytes>>,
    pings: Option<PingPong>,
    step: Step,
    call: Call,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Version,
    Watch { pong_due: bool },
    Read,
}

impl Up {
    fn pong(&mut self, cx: &mut Context<'_>) -> bool {
        self.pings.as_mut().is_some_and(|pings| pings.poll_pong(cx).is_ready())
    }

    /// Nothing has arrived. If nothing can arrive any more, that is a failure.
    fn pending<T>(&self) -> Poll<Result<T, Failure>> {
        match self.connection {
            Some(_) => Poll::Pending,
            None => Poll::Ready(Err(Failure::connection("the connection was closed"))),
        }
    }
}

impl Link {
    pub(crate) fn new(
        purpose: Purpose,
        endpoint: Endpoint,
        options: Arc<StreamOptions>,
        socket: Socket,
        now: Instant,
    ) -> Self {
        let deadline = Some(now + timeouts::CONNECT);
        Self { purpose, endpoint, options, state: State::Connecting(socket), deadline }
    }

    pub(crate) fn is_for(&self, stream: StreamKey) -> bool {
        matches!(self.purpose, Purpose::Stream(other) if other == stream)
    }

    /// When to poll again even if nothing arrives.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The stream, once news are frames: then they are asked for only while the machine wants some.
    pub(crate) fn open_stream(&self) -> Option<StreamKey> {
        match (&self.state, &self.purpose) {
            (State::Up(up), &Purpose::Stream(stream)) if up.step != Step::Version => Some(stream),
            _ => None,
        }
    }

    /// Sends a request on the watch stream.
    pub(crate) fn send(&mut self, request: &Request) {
        if let State::Up(up) = &mut self.state {
            up.call.send(request);
        }
    }

    /// Moves bytes, connects, pings: everything that goes on whether or not the machine wants frames.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Failure> {
        loop {
            match mem::replace(&mut self.state, State::Over) {
                State::Connecting(socket) => {
                    if !socket.is_connected().map_err(|error| broken(&error))? {
                        self.state = State::Connecting(socket);
                        break;
                    }
                    self.state = State::Shaking(Box::pin(call::http2().handshake(socket)));
                }
                State::Shaking(mut shaking) => match shaking.as_mut().poll(cx) {
                    Poll::Ready(http) => self.begin(http.map_err(|error| broken(&error))?, now)?,
                    Poll::Pending => {
                        self.state = State::Shaking(shaking);
                        break;
                    }
                },
                State::Up(mut up) => {
                    // What ended it, the calls on it are told.
                    if up.connection.as_mut().is_some_and(|http| Pin::new(http).poll(cx).is_ready()) {
                        up.connection = None;
                    }
                    if up.step == (Step::Watch { pong_due: true }) && up.pong(cx) {
                        up.step = Step::Watch { pong_due: false };
                        self.deadline = Some(now + timeouts::PING_EVERY);
                    }
                    self.state = State::Up(up);
                    break;
                }
                State::Over => break,
            }
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) { self.overdue(now) } else { Ok(()) }
    }

    /// The connection is up: the first call.
    fn begin(&mut self, (mut requests, mut connection): Http, now: Instant) -> Result<(), Failure> {
        let pings = connection.ping_pong();
        let (endpoint, options) = (&self.endpoint, &self.options);
        let (step, call, timeout) = match &self.purpose {
            Purpose::Stream(_) => {
                let call = Call::unary(&mut requests, endpoint, options, &StatusRequest)?;
                (Step::Version, call, timeouts::VERSION)
            }
            Purpose::Read(_, request) => {
                let call = Call::unary(&mut requests, endpoint, options, request)?;
                (Step::Read, call, timeouts::READ)
            }
        };
        self.deadline = Some(now + timeout);
        self.state = State::Up(Box::new(Up { requests, connection: Some(connection), pings, step, call }));
        Ok(())
    }

    fn overdue(&mut self, now: Instant) -> Result<(), Failure> {
        let State::Up(up) = &mut self.state else {
            return Err(Failure::connection(format!("no connection within {:?}", timeouts::CONNECT)));
        };
        match &mut up.step {
            // `poll` goes on without the version.
            Step::Version => {}
            Step::Read => return Err(Failure::connection(format!("no answer within {:?}", timeouts::READ))),
            Step::Watch { pong_due: true } => {
                return Err(Failure::connection(format!("no answer to a ping within {:?}", timeouts::PONG)));
            }
            Step::Watch { pong_due } => {
                if let Some(pings) = &mut up.pings {
                    pings.send_ping(Ping::opaque()).map_err(|error| broken(&error))?;
                    *pong_due = true;
                }
                self.deadline = Some(now + timeouts::PONG);
            }
        }
        Ok(())
    }

    /// The next news, when the machine wants to hear them.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<News, Failure>> {
        let State::Up(up) = &mut self.state else { return Poll::Pending };
        let news = match (up.step, &self.purpose) {
            (Step::Version, &Purpose::Stream(stream)) => {
                let opened = match up.call.poll_reply(cx) {
                    Poll::Ready(Ok(reply)) => call::opened(&reply),
                    // A member that won't say, or not in time.
                    Poll::Ready(Err(Failure::Status { .. })) => Opened::default(),
                    Poll::Pending if self.deadline.is_some_and(|deadline| deadline <= now) => {
                        Opened::default()
                    }
                    Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                    Poll::Pending => return up.pending(),
                };
                // Opened as of now: etcd's response headers come with the first message, not before.
                up.call = Call::streaming(&mut up.requests, &self.endpoint, &self.options, Method::Watch)?;
                up.step = Step::Watch { pong_due: false };
                self.deadline = Some(now + timeouts::PING_EVERY);
                News::Opened(stream, opened)
            }
            (Step::Watch { .. }, &Purpose::Stream(stream)) => match up.call.poll_message(cx) {
                Poll::Ready(frame) => News::Frame(stream, frame?),
                Poll::Pending => return up.pending(),
            },
            (Step::Read, Purpose::Read(range, _)) => match up.call.poll_reply(cx) {
                Poll::Ready(reply) => News::Read(*range, RangeDone::decode(&reply?)?),
                Poll::Pending => return up.pending(),
            },
            _ => return Poll::Pending,
        };
        Poll::Ready(Ok(news))
    }
}
