//! The body of a response.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::heard::Heard;
use crate::BoxError;

/// A response's body, whose errors say why the connection ended.
#[derive(Debug)]
pub(crate) struct Answer {
    incoming: Incoming,
    heard: Heard,
}

impl Answer {
    pub(super) fn new(incoming: Incoming, heard: Heard) -> Self {
        Self { incoming, heard }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        polled.map_err(|error| self.heard.explain(error))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
