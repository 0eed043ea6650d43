//! gRPC's framing, and what the end of a stream means.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use etcd_watch_core::{Code, Failure};
use http::{HeaderMap, StatusCode};
use prost::Message;

/// A flag and a length of four bytes go before each message.
const PREFIX: usize = 5;

/// The largest message taken: a revision comes in one, unless the server splits it.
const MAX_MESSAGE: usize = 512 << 20;

/// A message with its prefix, not compressed.
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    // A request is a key or two: no server takes one near 4 GiB.
    frame.put_u32(length as u32);
    frame.put_slice(&message.encode_to_vec());
    frame.freeze()
}

/// Messages out of a stream of DATA chunks. Chunks and messages know nothing of each other: a chunk may
/// hold several messages, or a part of a prefix.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: BytesMut,
}

impl Deframer {
    /// Takes the next chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// When it is compressed, which was not asked for, or over the limit.
    pub fn pop(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(&[compressed, length @ ..]) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes(length) as usize;
        if compressed != 0 {
            return Err(Failure::status(Code::Internal, "the server compresses unasked"));
        }
        if length > MAX_MESSAGE {
            return Err(Failure::ResponseTooLarge { bytes: length, limit: MAX_MESSAGE });
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether the next message has begun.
    #[must_use]
    pub fn is_within_message(&self) -> bool {
        !self.buffer.is_empty()
    }
}

/// What trailers mean, or the headers of a response that has nothing else.
#[must_use]
pub fn end_of(headers: &HeaderMap) -> Failure {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(code) = text("grpc-status") else {
        return Failure::connection("the stream ended without a status");
    };
    match code.parse::<i32>().map_or(Code::Unknown, Code::from) {
        Code::Ok => Failure::EndOfStream,
        code => Failure::status(code, percent_decoded(text("grpc-message").unwrap_or_default())),
    }
}

/// What an HTTP status other than 200 means: an answer from something between us and the server
/// (gRPC's `http-grpc-status-mapping`).
#[must_use]
pub fn refused(status: StatusCode) -> Failure {
    let code = match status.as_u16() {
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        _ => Code::Unavailable,
    };
    Failure::status(code, format!("HTTP status {status}"))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.first_chunk::<2>().and_then(|digits| str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use etcd_watch_proto::etcdserverpb::RangeRequest;

    use super::*;

    fn framed(key: &str) -> Bytes {
        frame(&RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() })
    }

    #[test]
    fn messages_come_out_whole_however_the_chunks_are_cut() {
        let stream = [framed("a"), framed(""), framed("b")].concat();
        for size in 1..=stream.len() {
            let (mut deframer, mut keys) = (Deframer::default(), Vec::new());
            for chunk in stream.chunks(size) {
                deframer.push(chunk);
                while let Some(message) = deframer.pop().unwrap() {
                    keys.push(RangeRequest::decode(message).unwrap().key);
                }
            }
            assert_eq!(keys, ["a", "", "b"], "in chunks of {size}");
            assert!(!deframer.is_within_message());
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_prefix() {
        let mut deframer = Deframer::default();
        deframer.push(&[0, 255, 255, 255, 255]);
        assert!(matches!(deframer.pop(), Err(Failure::ResponseTooLarge { .. })));
        let mut deframer = Deframer::default();
        deframer.push(&[1, 0, 0, 0, 0]);
        assert!(deframer.pop().is_err());
    }

    #[test]
    fn trailers_say_how_it_ended() {
        let trailers = |pairs: &[(&'static str, &str)]| {
            let pairs = pairs.iter().map(|&(name, value)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap())
            });
            end_of(&pairs.collect())
        };
        assert_eq!(trailers(&[("grpc-status", "0")]), Failure::EndOfStream);
        let no_leader = trailers(&[("grpc-status", "14"), ("grpc-message", "etcdserver: no%20leader 5%")]);
        assert_eq!(no_leader, Failure::status(14, "etcdserver: no leader 5%"));
        assert!(matches!(trailers(&[]), Failure::Connection { .. }));
    }
}
