//! A server that gives out tokens and accepts none.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use etcd_watch_proto::etcdserverpb::AuthenticateResponse;
use etcd_watch_tokio::{CallError, CloseReason, Code, Get, WatchConfig};
use hyper::{
    HeaderMap, Request, Response,
    body::{Body, Frame, Incoming},
    header::HeaderValue,
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::world::Observer;

/// What it was asked, all told and by the token of the request.
#[derive(Default)]
struct Asked {
    passwords: AtomicU32,
    others: AtomicU32,
    without_the_last_token: Mutex<Vec<String>>,
}

struct Hopeless {
    address: SocketAddr,
    asked: Arc<Asked>,
    serving: JoinHandle<()>,
}

impl Hopeless {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Asked::default());
        let serving = tokio::spawn(serve(listener, asked.clone()));
        Self { address, asked, serving }
    }
}

impl Drop for Hopeless {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, asked: Arc<Asked>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let asked = asked.clone();
        let service = service_fn(move |request| {
            let answer = answer(&asked, &request);
            async { Ok::<_, Infallible>(answer) }
        });
        let connection = http2::Builder::new(TokioExecutor::new());
        connections.spawn(async move {
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(asked: &Asked, request: &Request<Incoming>) -> Response<Grpc> {
    let ok = |body| {
        let response = Response::builder().header("content-type", "application/grpc").body(body);
        response.expect("a lawful response")
    };
    if request.uri().path() == "/etcdserverpb.Auth/Authenticate" {
        let number = asked.passwords.fetch_add(1, Ordering::SeqCst) + 1;
        return ok(Grpc::message(&AuthenticateResponse { token: format!("token.{number}"), header: None }));
    }
    asked.others.fetch_add(1, Ordering::SeqCst);
    let token = request.headers().get("token").map_or("", |token| token.to_str().expect("letters"));
    if token != format!("token.{}", asked.passwords.load(Ordering::SeqCst)) {
        let path = request.uri().path();
        asked.without_the_last_token.lock().expect("no panic").push(format!("{path} with {token:?}"));
    }
    ok(Grpc::status("16", "etcdserver: invalid auth token"))
}

/// The body of a gRPC response.
struct Grpc {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Grpc {
    fn message(message: &impl Message) -> Self {
        let mut data = BytesMut::new();
        data.put_u8(0);
        data.put_u32(u32::try_from(message.encoded_len()).expect("it is short"));
        message.encode(&mut data).expect("there is room");
        Self { data: Some(data.freeze()), ..Self::status("0", "") }
    }

    fn status(code: &'static str, message: &'static str) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(code));
        trailers.insert("grpc-message", HeaderValue::from_static(message));
        Self { data: None, trailers: Some(trailers) }
    }
}

impl Body for Grpc {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_accepts_no_token_is_given_up_and_never_hammered() {
    let server = Hopeless::start().await;
    let quick = Duration::from_millis(1);
    let client = etcd_watch_tokio::builder()
        .endpoints([server.address.to_string()])
        .user("alice", "password-of-alice")
        .watch_config(WatchConfig::default().backoff(quick, quick, Duration::from_millis(20)))
        .connect_lazy()
        .expect("valid settings");

    let started = Instant::now();
    for error in [
        client.get(Get::key("a/1")).await.expect_err("it is refused"),
        client.put("a/1", "x").await.expect_err("it is refused"),
    ] {
        assert!(matches!(error, CallError::Refused { code: Code::Unauthenticated, .. }), "{error}");
    }
    for from in [0, 1] {
        let reason = Observer::open(&client, "a/", from).end().await;
        assert!(matches!(reason, CloseReason::TokenRefused { .. }), "{reason}");
    }
    let passwords = server.asked.passwords.load(Ordering::SeqCst);
    let others = server.asked.others.load(Ordering::SeqCst);
    println!("{passwords} password checks and {others} other requests in {:?}", started.elapsed());
    assert!((8..=40).contains(&passwords) && others <= 80, "{passwords} and {others} requests");
    // However quickly tokens are refused, fetching them takes its time.
    assert!(started.elapsed() > Duration::from_millis(100) * (passwords - 3), "{:?}", started.elapsed());
    let old = server.asked.without_the_last_token.lock().expect("no panic").clone();
    assert_eq!(old, Vec::<String>::new(), "a refused token is used no more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_given_token_that_nobody_replaces_ends_watches_after_a_while() {
    let server = Hopeless::start().await;
    let quick = Duration::from_millis(1);
    let client = etcd_watch_tokio::builder()
        .endpoints([server.address.to_string()])
        .token("given-by-hand")
        .watch_config(WatchConfig::default().backoff(quick, quick, Duration::from_millis(20)))
        .connect_lazy()
        .expect("valid settings");
    let error = client.put("a/1", "x").await.expect_err("it is refused");
    assert!(matches!(error, CallError::TokenRefused { code: Code::Unauthenticated, .. }), "{error}");
    assert_eq!(server.asked.others.load(Ordering::SeqCst), 1, "the same token is not tried again");

    let started = Instant::now();
    // One that begins with a read of the revision, and one that has a stream at once.
    let (mut from_now, mut from_the_past) =
        (Observer::open(&client, "a/", 0), Observer::open(&client, "a/", 1));
    let timed = async |observer: &mut Observer| (observer.end().await, started.elapsed());
    let (one, other) = tokio::join!(timed(&mut from_now), timed(&mut from_the_past));
    for (reason, took) in [one, other] {
        assert!(matches!(reason, CloseReason::TokenRefused { .. }), "{reason}");
        assert!(took > Duration::from_secs(15), "the next token may be late: {took:?}");
    }
    let took = started.elapsed();
    let others = server.asked.others.load(Ordering::SeqCst);
    println!("{others} requests in {took:?}");
    assert!(others <= 60, "{others} requests");
    assert_eq!(server.asked.passwords.load(Ordering::SeqCst), 0, "there is no password");
}
