//! Servers whose every answer is scripted, and healthy ones.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use etcd_watch_client::{CallError, Client, ClientBuilder};
use etcd_watch_testkit::{model::ModelConfig, server::EmbeddedEtcd};
use h2::{
    Reason, RecvStream,
    server::{Builder, SendResponse},
};
use http::{HeaderMap, Request, Response};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// For any one thing that a test waits for: much longer than it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Makes a call that is always refused, and returns its error. If the time limit ends during an attempt, the client can't
/// know whether a write was executed; the call is made again then.
pub(crate) async fn refused_in_the_end<T>(call: impl AsyncFn() -> Result<T, CallError>) -> CallError {
    for _ in 0..20 {
        match call().await.err().expect("nobody carries it out") {
            CallError::MaybeExecuted { .. } => {}
            error => return error,
        }
    }
    panic!("twenty times the time limit ended during an attempt")
}

/// What a scripted server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A page in HTML, with this HTTP status.
    Html(u16),
    /// This HTTP status, and nothing else.
    Bare(u16),
    /// This gRPC status, with its message.
    Status(u8, &'static str),
    /// gRPC's good end, after a message without fields.
    Empty,
    /// gRPC's good end, after this message.
    Message(&'static [u8]),
    /// Nothing, ever.
    Silence,
    /// The request is not processed: the server has too many streams.
    Refusal,
}

/// A server that answers its n-th request, counted over all connections, as the script says.
pub(crate) struct Scripted {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    heads: Heads,
    task: JoinHandle<()>,
}

/// The path and the headers of each request.
type Heads = Arc<Mutex<Vec<(String, HeaderMap)>>>;

impl Scripted {
    pub(crate) async fn start(script: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::with_limit(u32::MAX, script).await
    }

    /// One that allows only so many streams at a time on a connection.
    pub(crate) async fn with_limit(
        max_streams: u32,
        script: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (connections, requests) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let script = Arc::new(script);
        let heads = Heads::default();
        let counts = (connections.clone(), requests.clone(), heads.clone());
        let task = tokio::spawn(async move {
            let (connections, requests, heads) = counts;
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                serving.spawn(serve(socket, max_streams, requests.clone(), heads.clone(), script.clone()));
            }
        });
        Self { address, connections, requests, heads, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// The values of a header in the requests of a method since the last call of this, in their order; "" for none.
    pub(crate) fn take_headers(&self, method: &str, name: &str) -> Vec<String> {
        let mut heads = self.heads.lock().expect("no panic");
        let (wanted, rest) = heads.drain(..).partition(|(path, _)| path.ends_with(method));
        *heads = rest;
        let wanted: Vec<(String, HeaderMap)> = wanted;
        let text = |headers: &HeaderMap| {
            let values = headers.get_all(name).iter().map(|value| value.to_str().expect("ASCII"));
            values.collect::<Vec<_>>().join(",")
        };
        wanted.iter().map(|(_, headers)| text(headers)).collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Stops it; whoever is to be at its address next may be there when this returns.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.address
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    socket: TcpStream,
    max_streams: u32,
    requests: Arc<AtomicUsize>,
    heads: Heads,
    script: Arc<impl Fn(usize) -> Answer>,
) {
    let mut builder = Builder::new();
    if max_streams < u32::MAX {
        builder.max_concurrent_streams(max_streams);
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await else { return };
    // Dropping one would reset its stream.
    let mut silent = Vec::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let head = (request.uri().path().to_owned(), request.headers().clone());
        heads.lock().expect("no panic").push(head);
        let answer = script(requests.fetch_add(1, Ordering::Relaxed));
        silent.extend(give(answer, request, respond));
    }
}

type Unanswered = (Request<RecvStream>, SendResponse<Bytes>);

fn give(
    answer: Answer,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Option<Unanswered> {
    // What is sent in vain, since the client has gone, is no concern of these.
    match answer {
        Answer::Silence => return Some((request, respond)),
        Answer::Refusal => respond.send_reset(Reason::REFUSED_STREAM),
        Answer::Bare(status) => {
            let response = Response::builder().status(status).body(()).expect("it is a response");
            let _ = respond.send_response(response, true);
        }
        Answer::Html(status) => {
            let response = Response::builder().status(status).header("content-type", "text/html");
            let response = response.body(()).expect("it is a response");
            if let Ok(mut body) = respond.send_response(response, false) {
                let _ = body.send_data("<html><body>not now</body></html>".into(), true);
            }
        }
        Answer::Status(code, message) => {
            let response = Response::builder().header("content-type", "application/grpc");
            let response = response.header("grpc-status", u16::from(code)).header("grpc-message", message);
            let _ = respond.send_response(response.body(()).expect("it is a response"), true);
        }
        Answer::Empty => complete(respond, &[]),
        Answer::Message(message) => complete(respond, message),
    }
    None
}

/// Answers with a message, and the good end.
fn complete(mut respond: SendResponse<Bytes>, message: &[u8]) {
    let response = Response::builder().header("content-type", "application/grpc");
    let response = response.body(()).expect("it is a response");
    if let Ok(mut body) = respond.send_response(response, false) {
        let length = u32::try_from(message.len()).expect("it is short").to_be_bytes();
        let _ = body.send_data([&[0], &length[..], message].concat().into(), false);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("it is a header"));
        let _ = body.send_trailers(trailers);
    }
}

pub(crate) async fn healthy() -> EmbeddedEtcd {
    EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port")
}

pub(crate) fn builder<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> ClientBuilder {
    etcd_watch_tokio::builder().endpoints(endpoints)
}

pub(crate) fn client<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Client {
    builder(endpoints).connect_lazy().expect("the settings are valid")
}
