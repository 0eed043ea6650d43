//! The request side of a watch stream.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use etcd_watch_core::{Request, wire::Encode};
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame};

use crate::sync::{lock, wake_all};

/// Where requests are left for the network to take when it likes: writing never waits for it. The
/// machine bounds what is in here. Dropping the outbox ends the request side.
#[derive(Debug)]
pub(crate) struct Outbox(Arc<Shared>);

/// The requests as the body of an HTTP request; it ends only with its [`Outbox`].
#[derive(Debug)]
pub(crate) struct Requests(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// The task that writes to the connection.
    writer: AtomicWaker,
}

#[derive(Debug, Default)]
struct Queue {
    /// Requests as gRPC's messages, one after the other.
    messages: BytesMut,
    closed: bool,
}

pub(crate) fn outbox() -> (Outbox, Requests) {
    let shared = Arc::<Shared>::default();
    (Outbox(shared.clone()), Requests(shared))
}

impl Outbox {
    pub(crate) fn send(&self, request: &Request) {
        request.encode_frame(&mut lock(&self.0.queue).messages);
        wake_all(self.0.writer.take());
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        {
            let mut queue = lock(&self.0.queue);
            queue.closed = true;
            // The stream is being reset: nobody is to wait for what was not sent.
            queue.messages.clear();
        }
        wake_all(self.0.writer.take());
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
        // Before looking: a request that comes in between wakes.
        self.0.writer.register(cx.waker());
        let mut queue = lock(&self.0.queue);
        if !queue.messages.is_empty() {
            // The buffer goes along: thousands of creates go out once, and their room need not stay.
            let messages = std::mem::take(&mut queue.messages);
            return Poll::Ready(Some(Ok(Frame::data(messages.freeze()))));
        }
        if queue.closed {
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

impl Drop for Requests {
    /// The outbox may live on; it is not to hold the task that wrote.
    fn drop(&mut self) {
        drop(self.0.writer.take());
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
