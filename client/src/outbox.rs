//! The request side of a watch stream.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use etcd_watch_proto::etcdserverpb::WatchRequest;
use futures_core::Stream;

use crate::sync::lock;

/// Where requests are left for the network to take when it likes: writing never waits for it. The
/// machine bounds what is in here. Dropping the outbox ends the request side.
#[derive(Debug)]
pub(crate) struct Outbox(Arc<Mutex<Queue>>);

/// The requests as a stream; it ends only with its [`Outbox`].
#[derive(Debug)]
pub(crate) struct Requests(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    requests: VecDeque<WatchRequest>,
    closed: bool,
    reader: Option<Waker>,
}

pub(crate) fn outbox() -> (Outbox, Requests) {
    let queue = Arc::new(Mutex::new(Queue::default()));
    (Outbox(queue.clone()), Requests(queue))
}

impl Outbox {
    pub(crate) fn send(&self, request: WatchRequest) {
        let reader = {
            let mut queue = lock(&self.0);
            queue.requests.push_back(request);
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
            queue.requests.clear();
            queue.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Stream for Requests {
    type Item = WatchRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchRequest>> {
        let mut queue = lock(&self.0);
        if let Some(request) = queue.requests.pop_front() {
            if queue.requests.is_empty() {
                // Thousands of creates go out once; their room need not stay.
                queue.requests.shrink_to(64);
            }
            return Poll::Ready(Some(request));
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
    use futures_util::{FutureExt, StreamExt};

    use super::*;
    use crate::wire;

    #[test]
    fn requests_come_out_in_order_and_the_end_comes_with_the_outbox() {
        let (outbox, mut requests) = outbox();
        assert!(requests.next().now_or_never().is_none(), "open and empty: pending");
        let sent: Vec<_> = (1..=3)
            .map(|watch_id| wire::watch_request(etcd_watch_core::Request::Cancel { watch_id }))
            .collect();
        sent.iter().for_each(|request| outbox.send(request.clone()));
        for request in sent {
            assert_eq!(requests.next().now_or_never(), Some(Some(request)));
        }
        drop(outbox);
        assert_eq!(requests.next().now_or_never(), Some(None));
    }
}
