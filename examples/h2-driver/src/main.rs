//! The shortest complete driver of `etcd-watch-core`: one file over `h2`, on one thread of tokio. It prints a
//! line for each event, until Ctrl-C: `h2-driver HOST:PORT PREFIX [REVISION]`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::{cell::RefCell, collections::BTreeMap, error::Error, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use etcd_watch_core::wire::{self, Encode, Messages, Method, RevisionRequest, StatusRequest};
use etcd_watch_core::{Action, CloseReason, Delivery, Failure, Instant, KeyRange, Opened, RangeDone};
use etcd_watch_core::{Frame, StreamKey, StreamOptions, WatchConfig, WatchRequest, Watcher};
use h2::{Ping, RecvStream, SendStream, client::Builder, client::ResponseFuture, client::SendRequest};
use tokio::{net::TcpStream, sync::Notify, task, time::sleep, time::timeout};

/// How long a connection, an answer or a pong may take. Pings are twice as far apart: etcd allows one in 5 s.
const TIMEOUT: Duration = Duration::from_secs(5);

type Http = SendRequest<Bytes>;
type Call = (ResponseFuture, SendStream<Bytes>);
type Answer<T> = Result<T, Failure>;

struct Driver {
    address: String,
    started: std::time::Instant,
    machine: RefCell<Watcher>,
    streams: RefCell<BTreeMap<StreamKey, Stream>>,
    /// Wakes whoever waits for the machine to be in another state.
    news: Notify,
}

/// A stream's task, which its connection ends with, and where its requests go once it is open.
struct Stream(task::AbortHandle, Option<SendStream<Bytes>>);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(prefix)) = (arguments.next(), arguments.next()) else {
        return Err("arguments: HOST:PORT PREFIX [REVISION]".into());
    };
    let revision = arguments.next().map_or(Ok(0), |revision| revision.parse())?;
    let mut machine = Watcher::new(WatchConfig::default(), std::process::id().into())?;
    machine.watch(Instant::ZERO, WatchRequest::new(KeyRange::prefix(prefix)).start_revision(revision))?;
    let (started, machine) = (std::time::Instant::now(), machine.into());
    let driver = Driver { address, started, machine, streams: RefCell::default(), news: Notify::new() };
    task::LocalSet::new().run_until(Rc::new(driver).run()).await
}

impl Driver {
    async fn run(self: Rc<Self>) -> Result<(), Box<dyn Error>> {
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            while let Some(action) = self.tell(|machine, _| machine.poll_action()) {
                let driver = self.clone();
                match action {
                    Action::Open { stream, options, .. } => {
                        let task = task::spawn_local(driver.watch(stream, options)).abort_handle();
                        self.streams.borrow_mut().insert(stream, Stream(task, None));
                    }
                    Action::Send { stream, request, .. } => {
                        if let Some(Stream(_, Some(requests))) = self.streams.borrow_mut().get_mut(&stream) {
                            // That it can't be sent any more, the stream's task tells.
                            let _ = requests.send_data(request.to_frame(), false);
                        }
                    }
                    Action::Close { stream, .. } => {
                        self.streams.borrow_mut().remove(&stream).iter().for_each(|stream| stream.0.abort());
                    }
                    Action::Range { range, request, options, .. } => drop(task::spawn_local(async move {
                        let result = driver.read(&request, &options).await;
                        driver.tell(|machine, now| machine.handle_range_done(now, range, result));
                    })),
                    Action::Deliver { watch } => {
                        while let Some(delivery) = self.tell(|machine, now| machine.next(now, watch)) {
                            match delivery {
                                Delivery::Response(response) => response.events().for_each(|event| {
                                    let [key, value] = [event.key(), event.value()].map(<[u8]>::escape_ascii);
                                    println!("{} {:?} {key} {value}", event.mod_revision(), event.kind());
                                }),
                                Delivery::Closed(CloseReason::ShutDown) => return Ok(()),
                                Delivery::Closed(reason) => return Err(reason.into()),
                                _ => {}
                            }
                        }
                    }
                    Action::Overflowed { watch, .. } => eprintln!("{watch:?} lags"),
                }
            }
            let left = self.tell(|machine, now| machine.poll_timeout().map(|at| at.since(now)));
            tokio::select! {
                () = self.news.notified() => {}
                () = sleep(left.unwrap_or(Duration::MAX)) => self.tell(Watcher::handle_timeout),
                _ = &mut interrupt => self.tell(Watcher::shutdown),
            }
        }
    }

    /// Lets the machine hear something, or be asked.
    fn tell<T>(&self, what: impl FnOnce(&mut Watcher, Instant) -> T) -> T {
        self.news.notify_waiters();
        what(&mut self.machine.borrow_mut(), Instant::ZERO + self.started.elapsed())
    }

    /// Runs a watch stream to its end, which is a failure.
    async fn watch(self: Rc<Self>, key: StreamKey, options: Arc<StreamOptions>) {
        let end = self.connected(async |mut http| {
            // A member that won't tell its version is believed less, that is all.
            let told = timeout(TIMEOUT, self.unary(&mut http, &options, &StatusRequest)).await;
            let version = told.ok().and_then(Result::ok).and_then(|reply| wire::decode_version(&reply).ok());
            let (response, requests) = self.call(&mut http, &options, Method::Watch)?;
            self.streams.borrow_mut().entry(key).and_modify(|stream| stream.1 = Some(requests));
            // Opened as of now: etcd answers, headers included, only after the first request.
            let opened = Opened { version: version.flatten(), ..Opened::default() };
            self.tell(|machine, now| machine.handle_opened(now, key, opened));
            let (mut body, mut messages) = head(response).await?;
            loop {
                // Not reading is backpressure.
                while !self.machine.borrow().wants_frame(key) {
                    self.news.notified().await;
                }
                let frame = Frame::decode(message(&mut body, &mut messages).await?);
                self.tell(|machine, now| machine.handle_frame(now, key, frame));
            }
        });
        let Err::<std::convert::Infallible, _>(failure) = end.await;
        eprintln!("{key:?}: {failure}");
        self.streams.borrow_mut().remove(&key);
        self.tell(|machine, now| machine.handle_failed(now, key, failure));
    }

    /// Makes a read that the machine asks for.
    async fn read(&self, request: &RevisionRequest, options: &StreamOptions) -> Answer<RangeDone> {
        let reply = self.connected(async |mut http| self.unary(&mut http, options, request).await);
        Ok(RangeDone::decode(&timeout(2 * TIMEOUT, reply).await.map_err(broken)??)?)
    }

    /// Connects, then does the work while the connection moves its bytes and is pinged.
    async fn connected<T>(&self, work: impl AsyncFnOnce(Http) -> Answer<T>) -> Answer<T> {
        let connecting = timeout(TIMEOUT, TcpStream::connect(&self.address));
        let socket = connecting.await.map_err(broken)?.map_err(broken)?;
        socket.set_nodelay(true).map_err(broken)?;
        let http = Builder::new().data_frame_budget(1 << 20).handshake(socket).await; // for small frames
        let (http, mut connection) = http.map_err(broken)?;
        let mut pings = connection.ping_pong().ok_or_else(|| broken("no pings"))?;
        let pinging = async {
            while let Ok(Ok(_)) = timeout(TIMEOUT, pings.ping(Ping::opaque())).await {
                sleep(2 * TIMEOUT).await;
            }
        };
        tokio::select! {
            biased;
            done = work(http) => done,
            end = connection => Err(end.map_or_else(broken, |()| broken("closed by the server"))),
            () = pinging => Err(broken("no answer to a ping")),
        }
    }

    /// Begins a call. Its request side stays open: some servers take a half-close for the end of the watches.
    fn call(&self, http: &mut Http, options: &StreamOptions, method: Method) -> Answer<Call> {
        let mut head = http::Request::post(format!("http://{}{}", self.address, method.path()));
        for (name, value) in method.headers(options) {
            head = head.header(name, value);
        }
        http.send_request(head.body(()).map_err(broken)?, false).map_err(broken)
    }

    /// Makes a call of one request and one answer. The status after the answer says whether it counts.
    async fn unary<M: Encode>(&self, http: &mut Http, options: &StreamOptions, request: &M) -> Answer<Bytes> {
        let (response, mut requests) = self.call(http, options, M::METHOD)?;
        requests.send_data(request.to_frame(), true).map_err(broken)?;
        let (mut body, mut messages) = head(response).await?;
        let reply = message(&mut body, &mut messages).await?;
        let end = message(&mut body, &mut messages).await;
        if end == Err(Failure::EndOfStream) { Ok(reply) } else { end }
    }
}

/// Waits for a response's head.
async fn head(response: ResponseFuture) -> Answer<(RecvStream, Messages)> {
    let (head, body) = response.await.map_err(broken)?.into_parts();
    wire::check_head(head.status.as_u16(), |name| Some(head.headers.get(name)?.as_bytes()))?;
    Ok((body, Messages::new(512 << 20)))
}

/// The next message of a response, whose end is a failure.
async fn message(body: &mut RecvStream, messages: &mut Messages) -> Answer<Bytes> {
    loop {
        if let Some(message) = messages.pop()? {
            return Ok(message);
        }
        let Some(chunk) = body.data().await.transpose().map_err(broken)? else { break };
        // Without this the server stops after a window's worth.
        let _ = body.flow_control().release_capacity(chunk.len());
        messages.push(chunk);
    }
    let trailers = body.trailers().await.map_err(broken)?.unwrap_or_default();
    Err(messages.end(|name| Some(trailers.get(name)?.as_bytes())))
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::connection(error.to_string())
}
