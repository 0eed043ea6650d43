//! gRPC on lawful HTTP/2, with scripted answers.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use etcd_watch_client::proto::etcdserverpb::{ResponseHeader, StatusResponse};
use etcd_watch_testkit::model::ModelConfig;
use etcd_watch_testkit::sim::Socket;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use prost::Message;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// Begins to count the calls from zero on this thread.
pub(crate) fn begin() {
    CALLS.set(0);
}

/// The calls that peers were asked for since then.
pub(crate) fn calls() -> u64 {
    CALLS.get()
}

/// The revision of the store that watches are of.
pub(crate) const REVISION: i64 = 6;

/// A header as lawful members have it.
pub(crate) fn header(revision: i64) -> ResponseHeader {
    let model = ModelConfig::default();
    ResponseHeader {
        cluster_id: model.cluster_id,
        member_id: model.member_id,
        revision,
        raft_term: model.raft_term,
    }
}

/// A message in its gRPC frame.
pub(crate) fn message(message: &impl Message) -> Bytes {
    framed(0, &message.encode_to_vec())
}

/// Bytes in a gRPC frame.
pub(crate) fn framed(flag: u8, bytes: &[u8]) -> Bytes {
    let length = u32::try_from(bytes.len()).expect("a message is short");
    headed(flag, length, bytes)
}

/// A gRPC frame that says it has another length than it has.
pub(crate) fn headed(flag: u8, length: u32, bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(flag);
    frame.put_u32(length);
    frame.put_slice(bytes);
    frame.freeze()
}

/// A call that a client has made.
pub(crate) struct Call {
    /// Such as `Watch`.
    pub(crate) method: String,
    /// The auth token that it carries.
    pub(crate) token: Option<String>,
    body: RecvStream,
    read: BytesMut,
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
}

impl Call {
    fn new(request: Request<RecvStream>, respond: SendResponse<Bytes>) -> Self {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let token = request.headers().get("token");
        let token = token.map(|token| String::from_utf8_lossy(token.as_bytes()).into_owned());
        Self { method, token, body: request.into_body(), read: BytesMut::new(), respond, stream: None }
    }

    /// The next message that the client sends; `None` once it sends no more.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Option<M> {
        loop {
            if let Some(mut head) = self.read.get(1..5) {
                let length = usize::try_from(head.get_u32()).expect("it fits");
                if self.read.len() >= 5 + length {
                    let frame = self.read.split_to(5 + length);
                    return Some(M::decode(&frame[5..]).expect("clients are lawful"));
                }
            }
            let bytes = self.body.data().await?.ok()?;
            self.body.flow_control().release_capacity(bytes.len()).ok()?;
            self.read.extend(bytes);
        }
    }

    /// Sends bytes as the client has room for them.
    pub(crate) async fn send(&mut self, mut bytes: Bytes) -> io::Result<()> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let begin = Response::builder().header("content-type", "application/grpc");
                let begin = begin.body(()).expect("it is lawful");
                let stream = self.respond.send_response(begin, false).map_err(io::Error::other)?;
                self.stream.insert(stream)
            }
        };
        while !bytes.is_empty() {
            stream.reserve_capacity(bytes.len());
            let room = poll_fn(|cx| stream.poll_capacity(cx)).await;
            let room = room.ok_or(io::ErrorKind::BrokenPipe)?.map_err(io::Error::other)?;
            let part = bytes.split_to(room.min(bytes.len()));
            stream.send_data(part, false).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Ends the call.
    pub(crate) async fn end(&mut self, code: u32, text: &str) -> io::Result<()> {
        self.send(Bytes::new()).await?;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.into());
        trailers.insert("grpc-message", text.parse().map_err(io::Error::other)?);
        let stream = self.stream.as_mut().expect("it has begun");
        stream.send_trailers(trailers).map_err(io::Error::other)
    }

    /// Refuses the call: there is nothing but a status.
    pub(crate) fn refuse(&mut self, code: u32, text: &str) -> io::Result<()> {
        let answer = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", code)
            .header("grpc-message", text);
        let answer = answer.body(()).map_err(io::Error::other)?;
        self.respond.send_response(answer, true).map(drop).map_err(io::Error::other)
    }

    /// Answers with one message.
    pub(crate) async fn answer(&mut self, answer: &impl Message) -> io::Result<()> {
        self.send(message(answer)).await?;
        self.end(0, "").await
    }

    /// Waits until the client gives the call up.
    pub(crate) async fn stay(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Some(stream) => poll_fn(|cx| stream.poll_reset(cx)).await,
            None => poll_fn(|cx| self.respond.poll_reset(cx)).await,
        }
        .map_err(io::Error::other)?;
        Err(io::ErrorKind::BrokenPipe.into())
    }

    /// Answers as a lawful member that has nothing but a status.
    pub(crate) async fn lawful(&mut self) -> io::Result<()> {
        match &*self.method {
            "Status" => self.answer(&status()).await,
            _ => self.end(14, "not now").await,
        }
    }
}

/// The status of a lawful member.
pub(crate) fn status() -> StatusResponse {
    let version = ModelConfig::default().version;
    StatusResponse { header: Some(header(REVISION)), version, leader: 1, ..StatusResponse::default() }
}

/// Serves a connection: every call has a task of its own.
pub(crate) async fn serve<H, F>(socket: Socket, handle: H)
where
    H: Fn(Call) -> F,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        CALLS.set(CALLS.get() + 1);
        let answer = handle(Call::new(request, respond));
        tokio::spawn(async move {
            let _gone = answer.await;
        });
    }
}
