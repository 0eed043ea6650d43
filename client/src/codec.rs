//! The gRPC codec of watch streams: requests by prost, responses as the bytes they are.

use bytes::{Buf, Bytes};
use etcd_watch_proto::etcdserverpb::WatchRequest;
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Hands out each received message as a slice of the receive buffer: the core decodes it in place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = WatchRequest;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for FrameCodec {
    type Item = WatchRequest;
    type Error = Status;

    fn encode(&mut self, request: WatchRequest, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        request.encode(to).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for FrameCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::{Pin, pin},
    };

    use futures_core::Stream;
    use futures_util::{FutureExt, stream};
    use http_body::Frame;
    use tonic::{
        Code,
        codec::{EncodeBody, Streaming},
    };

    use super::*;
    use crate::wire;

    /// The chunks as the body of a response.
    fn streaming(chunks: Vec<&'static [u8]>, limit: usize) -> Streaming<Bytes> {
        struct Chunks(std::vec::IntoIter<&'static [u8]>);
        impl http_body::Body for Chunks {
            type Data = Bytes;
            type Error = Status;
            fn poll_frame(
                mut self: Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Result<Frame<Bytes>, Status>>> {
                let next = self.0.next();
                std::task::Poll::Ready(next.map(|chunk| Ok(Frame::data(Bytes::from_static(chunk)))))
            }
        }
        let body = Chunks(chunks.into_iter());
        Streaming::new_response(FrameCodec, body, http::StatusCode::OK, None, Some(limit))
    }

    fn next(streaming: &mut Streaming<Bytes>) -> Option<Result<Bytes, Status>> {
        poll_fn(|cx| Pin::new(&mut *streaming).poll_next(cx)).now_or_never().unwrap()
    }

    #[test]
    fn messages_come_out_as_they_were_however_they_were_cut() {
        let mut frames = streaming(vec![b"\0\0\0", b"\0\x03ab", b"c\0\0\0\0\0\0", b"\0\0\0\x01x"], 100);
        for expected in ["abc", "", "x"] {
            assert_eq!(next(&mut frames).unwrap().unwrap(), expected);
        }
    }

    #[test]
    fn a_message_over_the_limit_is_told_by_its_size() {
        let status = next(&mut streaming(vec![b"\0\0\0\x01\0"], 100)).unwrap().unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange);
        let failure = wire::failure_of(&status, 100);
        assert_eq!(failure, etcd_watch_core::Failure::ResponseTooLarge { bytes: 256, limit: 100 });
    }

    #[test]
    fn requests_are_framed_as_prost_encodes_them() {
        let request = wire::watch_request(etcd_watch_core::Request::Cancel { watch_id: 7 });
        let expected = request.encode_to_vec();
        let requests = stream::iter([Ok(request)]);
        let mut body = pin!(EncodeBody::new_client(FrameCodec, requests, None, None));
        let frame = poll_fn(|cx| http_body::Body::poll_frame(body.as_mut(), cx)).now_or_never();
        let data = frame.unwrap().unwrap().unwrap().into_data().unwrap();
        assert_eq!(&data[5..], &expected[..]);
    }
}
