//! The request side of a watch stream.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use etcd_watch_core::{Request, wire::Encode};
use http_body::{Body, Frame};

use crate::sync::lock;

/// Where requests are left for the network to take when it likes: writing never waits for it. The
/// machine bounds what is in here. Dropping the outbox ends the request side.
#[derive(Debug)]
pub(crate) struct Outbox(Arc<Mutex<Queue>>);

/// The requests as the body of an HTTP request; it ends only with its [`Outbox`].
#[derive(Debug)]
pub(crate) struct Requests(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    /// Requests as gRPC's messages, one after the other.
    messages: BytesMut,
    closed: bool,
    reader: Option<Waker>,
}

pub(crate) fn outbox() -> (Outbox, Requests) {
    let queue = Arc::new(Mutex::new(Queue::default()));
    (Outbox(queue.clone()), Requests(queue))
}

impl Outbox {
    pub(crate) fn send(&self, request: &Request) {
        let reader = {
            let mut queue = lock(&self.0);
            request.encode_frame(&mut queue.messages);
            queue.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let reader = {
            let mut queue = lock(&self.0);
            queue.closed = true;
            // The stream is being reset: nobody is to wait for what was not sent.
            queue.messages.clear();
            queue.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Body for Requests {
    type Data = Bytes;
    type Error = Infallible;

    /// All requests there are, in one frame.
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut queue = lock(&self.0);
        if !queue.messages.is_empty() {
            // The buffer goes along: thousands of creates go out once, and their room need not stay.
            let messages = std::mem::take(&mut queue.messages);
            return Poll::Ready(Some(Ok(Frame::data(messages.freeze()))));
        }
        if queue.closed {
            return Poll::Ready(None);
        }
        queue.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;

    use super::*;

    /// The next frame; `None` at the end. Nothing to do is no answer at all.
    fn next(requests: &mut Requests) -> Option<Option<Bytes>> {
        let frame = poll_fn(|cx| Pin::new(&mut *requests).poll_frame(cx)).now_or_never()?;
        Some(frame.map(|frame| frame.unwrap().into_data().unwrap()))
    }

    #[test]
    fn requests_come_out_in_order_and_the_end_comes_with_the_outbox() {
        let (outbox, mut requests) = outbox();
        assert_eq!(next(&mut requests), None, "open and empty: pending");
        let sent: Vec<_> = (1..=3).map(|watch_id| Request::Cancel { watch_id }).collect();
        sent.iter().for_each(|request| outbox.send(request));
        let expected: Vec<u8> = sent.iter().flat_map(Encode::to_frame).collect();
        assert_eq!(next(&mut requests), Some(Some(expected.into())));
        assert_eq!(next(&mut requests), None);
        outbox.send(&Request::Progress);
        assert_eq!(next(&mut requests), Some(Some(Request::Progress.to_frame())));
        drop(outbox);
        assert_eq!(next(&mut requests), Some(None));
    }

    #[test]
    fn nothing_is_sent_after_the_outbox_is_gone() {
        let (outbox, mut requests) = outbox();
        outbox.send(&Request::Progress);
        drop(outbox);
        assert_eq!(next(&mut requests), Some(None));
    }
}
