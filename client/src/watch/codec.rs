//! The response side of a watch stream: whole messages out of an HTTP body, and how it ends.
//!
//! A message that arrived in one DATA frame is a slice of the receive buffer, which the core decodes in place.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use etcd_watch_core::{
    Failure,
    wire::{Messages, check_head},
};
use http::{HeaderMap, HeaderValue, Response};
use http_body::Body;

use crate::{BoxError, transport::wire::broken};

/// The messages of one response. Dropping it resets the stream.
#[derive(Debug)]
pub(crate) struct Frames<B> {
    body: Pin<Box<B>>,
    messages: Messages,
}

impl<B> Frames<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    /// Takes messages of at most `limit` bytes out of the response's body.
    ///
    /// # Errors
    /// A response that isn't gRPC's, or is nothing but its end.
    pub(crate) fn of(response: Response<B>, limit: usize) -> Result<Self, Failure> {
        check_head(response.status().as_u16(), value_in(response.headers()))?;
        Ok(Self { body: Box::pin(response.into_body()), messages: Messages::new(limit) })
    }

    /// The next message. There is no end but a failure; don't poll again after that.
    ///
    /// The body is read only when no whole message is left, so not polling holds the server up by HTTP/2's
    /// flow control.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Failure>> {
        loop {
            if let Some(message) = self.messages.pop()? {
                return Poll::Ready(Ok(message));
            }
            let frame = match ready!(self.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Err(broken(&*error.into()))),
                None => return Poll::Ready(Err(self.messages.end(|_| None))),
            };
            match frame.into_data() {
                Ok(chunk) => self.messages.push(chunk),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return Poll::Ready(Err(self.messages.end(value_in(&trailers))));
                    }
                }
            }
        }
    }
}

fn value_in<'h>(headers: &'h HeaderMap) -> impl Fn(&str) -> Option<&'h [u8]> {
    |name| headers.get(name).map(HeaderValue::as_bytes)
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::poll_fn, io};

    use etcd_watch_core::{Code, wire::frame};
    use futures_util::FutureExt;
    use http_body::Frame;

    use super::*;

    /// What a body yields, one after the other; then it is pending if it says so, or else ends.
    #[derive(Debug, Default)]
    struct Scripted {
        frames: VecDeque<io::Result<Frame<Bytes>>>,
        stays_open: bool,
        polls: usize,
    }

    impl Body for Scripted {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            self.polls += 1;
            match self.frames.pop_front() {
                None if self.stays_open => Poll::Pending,
                frame => Poll::Ready(frame),
            }
        }
    }

    fn data(chunk: &'static [u8]) -> io::Result<Frame<Bytes>> {
        Ok(Frame::data(Bytes::from_static(chunk)))
    }

    fn trailers(pairs: &[(&'static str, &'static str)]) -> io::Result<Frame<Bytes>> {
        let headers = pairs.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Ok(Frame::trailers(headers.collect()))
    }

    fn response(body: Scripted) -> Response<Scripted> {
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    }

    fn frames(script: impl IntoIterator<Item = io::Result<Frame<Bytes>>>, limit: usize) -> Frames<Scripted> {
        let body = Scripted { frames: script.into_iter().collect(), ..Scripted::default() };
        Frames::of(response(body), limit).expect("the head is gRPC's")
    }

    /// The next message or the end; nothing yet is no answer at all.
    fn next(frames: &mut Frames<Scripted>) -> Option<Result<Bytes, Failure>> {
        poll_fn(|cx| frames.poll_next(cx)).now_or_never()
    }

    /// The end, where no message comes before it.
    fn end(script: impl IntoIterator<Item = io::Result<Frame<Bytes>>>) -> Failure {
        next(&mut frames(script, 100)).unwrap().unwrap_err()
    }

    #[test]
    fn messages_come_out_as_they_were_however_they_were_cut() {
        let chunks = [&b"\0\0\0"[..], b"\0\x03ab", b"c\0\0\0\0\0\0", b"\0\0\0\x01x"];
        let mut frames = frames(chunks.map(data).into_iter().chain([trailers(&[("grpc-status", "0")])]), 100);
        for expected in ["abc", "", "x"] {
            assert_eq!(next(&mut frames), Some(Ok(expected.into())));
        }
        assert_eq!(next(&mut frames), Some(Err(Failure::EndOfStream)));
    }

    #[test]
    fn a_message_in_one_data_frame_is_not_copied() {
        let chunk = frame(b"message");
        let mut frames = frames([Ok(Frame::data(chunk.clone()))], 100);
        let message = next(&mut frames).unwrap().unwrap();
        assert_eq!(message.as_ptr(), chunk[5..].as_ptr());
    }

    #[test]
    fn the_body_is_not_read_while_a_message_waits() {
        let two = b"\0\0\0\0\x01a\0\0\0\0\x01b";
        let body = Scripted { frames: [data(two)].into(), stays_open: true, ..Scripted::default() };
        let mut frames = Frames::of(response(body), 100).unwrap();
        for (expected, polls) in [(Some(Ok("a".into())), 1), (Some(Ok("b".into())), 1), (None, 2)] {
            assert_eq!(next(&mut frames), expected);
            assert_eq!(frames.body.polls, polls);
        }
    }

    #[test]
    fn a_message_over_the_limit_is_told_by_its_size() {
        assert_eq!(end([data(b"\0\0\0\x01\0")]), Failure::ResponseTooLarge { bytes: 256, limit: 100 });
    }

    #[test]
    fn a_compressed_message_is_refused() {
        let refused = end([data(b"\x01\0\0\0\x01x")]);
        assert!(matches!(refused, Failure::Status { code: Code::Internal, .. }), "{refused:?}");
    }

    #[test]
    fn trailers_say_how_it_ended() {
        let no_leader = [("grpc-status", "14"), ("grpc-message", "etcdserver: no%20leader")];
        assert_eq!(end([trailers(&no_leader)]), Failure::status(14, "etcdserver: no leader"));
        // What the server says goes before a message that it has cut for that.
        assert_eq!(end([data(b"\0\0"), trailers(&no_leader)]), Failure::status(14, "etcdserver: no leader"));
        assert_eq!(end([trailers(&[("grpc-status", "0")])]), Failure::EndOfStream);
    }

    #[test]
    fn an_end_without_a_status_is_a_cut() {
        for script in [
            vec![],
            vec![data(b"\0\0")],
            vec![trailers(&[("other", "1")])],
            vec![data(b"\0\0\0\0\x02a"), trailers(&[("grpc-status", "0")])],
        ] {
            let end = end(script);
            assert!(matches!(end, Failure::Connection { .. }), "{end:?}");
        }
    }

    #[test]
    fn a_body_that_breaks_is_a_broken_connection() {
        let end = end([Err(io::Error::other("reset by peer"))]);
        assert_eq!(end, Failure::connection("reset by peer"));
    }

    #[test]
    fn a_response_that_is_not_grpcs_has_no_messages() {
        let refusal = |response: http::response::Builder| {
            Frames::of(response.body(Scripted::default()).unwrap(), 100).err()
        };
        let html = refusal(Response::builder().header("content-type", "text/html"));
        assert!(matches!(html, Some(Failure::Status { code: Code::Unknown, .. })), "{html:?}");
        let proxy = refusal(Response::builder().status(502).header("content-type", "text/html"));
        assert!(matches!(proxy, Some(Failure::Status { code: Code::Unavailable, .. })), "{proxy:?}");
        let only_its_end =
            Response::builder().header("grpc-status", "14").header("grpc-message", "no%20leader");
        assert_eq!(refusal(only_its_end), Some(Failure::status(14, "no leader")));
    }
}
