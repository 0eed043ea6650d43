//! HTTP/2 by hand, so that it can be unlawful.

use std::io;
use std::time::Duration;

use etcd_watch_testkit::sim::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::case::Case;

/// What clients say first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// A frame, as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is short");
    headed(length, kind, flags, stream, payload)
}

/// A frame that says it has another length than it has.
pub(crate) fn headed(length: u32, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A SETTINGS frame.
pub(crate) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in settings {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

/// A header as HPACK has it: a literal that is not indexed.
pub(crate) fn header(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0];
    for text in [name, value] {
        // Lengths of 127 and more go on in further bytes.
        let mut rest = text.len();
        if rest < 127 {
            block.push(u8::try_from(rest).expect("it is below 127"));
        } else {
            block.push(127);
            rest -= 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128 + 128).expect("it is a byte"));
                rest /= 128;
            }
            block.push(u8::try_from(rest).expect("it is below 128"));
        }
        block.extend(text.as_bytes());
    }
    block
}

/// Headers as HPACK has them.
pub(crate) fn headers(headers: &[(&str, &str)]) -> Vec<u8> {
    headers.iter().flat_map(|(name, value)| header(name, value)).collect()
}

/// A gRPC answer that is nothing but a status.
pub(crate) fn status(stream: u32, code: &str, message: &str) -> Vec<u8> {
    let block = headers(&[
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", code),
        ("grpc-message", message),
    ]);
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

/// The beginning of a gRPC answer.
pub(crate) fn begin(stream: u32) -> Vec<u8> {
    let block = headers(&[(":status", "200"), ("content-type", "application/grpc")]);
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// The server's side of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
}

impl Connection {
    /// Reads the client's preface, and sends these bytes, a SETTINGS frame if all is to be well.
    pub(crate) async fn open(mut socket: Socket, first: &[u8]) -> io::Result<Self> {
        let mut preface = [0; PREFACE.len()];
        socket.read_exact(&mut preface).await?;
        assert_eq!(preface, PREFACE);
        socket.write_all(first).await?;
        Ok(Self { socket })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// Kind and stream of the next frame that isn't answered here: SETTINGS and PING are.
    async fn next(&mut self) -> io::Result<(u8, u32)> {
        loop {
            let mut head = [0; 9];
            self.socket.read_exact(&mut head).await?;
            let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
            let length = u32::from_be_bytes([0, l0, l1, l2]);
            let mut payload = vec![0; usize::try_from(length).expect("it fits")];
            self.socket.read_exact(&mut payload).await?;
            match (kind, flags & ACK) {
                (SETTINGS, 0) => self.send(&frame(SETTINGS, ACK, 0, &[])).await?,
                (PING, 0) => self.send(&frame(PING, ACK, 0, &payload)).await?,
                (SETTINGS | PING, _) => {}
                _ => return Ok((kind, u32::from_be_bytes([s0, s1, s2, s3]))),
            }
        }
    }

    /// The next stream that the client opens.
    pub(crate) async fn next_stream(&mut self) -> io::Result<u32> {
        loop {
            let (kind, stream) = self.next().await?;
            if kind == HEADERS {
                return Ok(stream);
            }
        }
    }

    /// Answers SETTINGS and PING for as long as the connection lasts.
    pub(crate) async fn stay(&mut self) -> io::Result<()> {
        loop {
            self.next().await?;
        }
    }

    /// Sends the same again and again, ten times a second, while it reads nothing.
    pub(crate) async fn flood(&mut self, bytes: &[u8]) -> io::Result<()> {
        flood(&mut self.socket, bytes).await
    }
}

/// Sends the same again and again, ten times a second, and reads nothing.
pub(crate) async fn flood(socket: &mut Socket, bytes: &[u8]) -> io::Result<()> {
    loop {
        socket.write_all(bytes).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A peer that answers each stream with these bytes.
pub(crate) fn answers(
    name: impl Into<String>,
    answer: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> Case {
    Case::new(name, move |socket| answer_all(socket, answer.clone()))
}

async fn answer_all(socket: Socket, answer: impl Fn(u32) -> Vec<u8>) -> io::Result<()> {
    let mut connection = Connection::open(socket, &settings(&[])).await?;
    loop {
        let stream = connection.next_stream().await?;
        connection.send(&answer(stream)).await?;
    }
}
