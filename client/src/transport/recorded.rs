//! A socket that remembers what its server said.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt;

use super::{
    frames::{Frames, Sight},
    heard::Heard,
};
use crate::runtime::Io;

/// What is read at once: as much as the largest frame that servers may send.
const SPACE: usize = 16 << 10;

/// Between hyper and the socket.
pub(super) struct Recorded<I> {
    io: I,
    heard: Heard,
    frames: Frames,
    /// hyper's cursors don't tell what was read to them; so it is read to here first.
    space: Box<[u8]>,
    on_too_many_pings: Option<Box<dyn FnOnce() + Send>>,
}

impl<I: Io> Recorded<I> {
    /// `on_too_many_pings` is told if the server ends the connection for that.
    pub(super) fn new(io: I, heard: Heard, on_too_many_pings: impl FnOnce() + Send + 'static) -> Self {
        let space = vec![0; SPACE].into_boxed_slice();
        Self {
            io,
            heard,
            frames: Frames::default(),
            space,
            on_too_many_pings: Some(Box::new(on_too_many_pings)),
        }
    }

    fn io(&mut self) -> Pin<&mut I> {
        Pin::new(&mut self.io)
    }

    /// Reads at most `room` bytes, looks at them, and hands them on.
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
        hand_on: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let room = room.min(self.space.len());
        let mut buffer = rt::ReadBuf::new(&mut self.space[..room]);
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer.unfilled());
        let bytes = buffer.filled();
        if !bytes.is_empty() {
            let (heard, on_too_many_pings) = (&self.heard, &mut self.on_too_many_pings);
            heard.something();
            self.frames.take_in(bytes, |sight| {
                let too_many = matches!(&sight, Sight::Farewell(farewell) if farewell.is_too_many_pings());
                heard.saw(sight);
                if let Some(tell) = on_too_many_pings.take_if(|_| too_many) {
                    tell();
                }
            });
            hand_on(bytes);
        }
        let read = bytes.len();
        polled.map_ok(|()| read)
    }

    /// A write has failed. Before it closed the connection the other end may have said why, and that is still to
    /// be read: a TLS alert, or a GOAWAY.
    fn record_after_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            match self.last_words(cx) {
                Some(said) => self.heard.broke(&said),
                None => self.heard.broke(error),
            }
        }
        polled
    }

    /// The error that reading on ends with.
    fn last_words(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        for _ in 0..64 {
            match self.read(cx, SPACE, |_| {}) {
                Poll::Ready(Ok(0)) | Poll::Pending => return None,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(said)) => return Some(said),
            }
        }
        None
    }
}

impl<I: Io> rt::Read for Recorded<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = self.read(cx, buffer.remaining(), |bytes| buffer.put_slice(bytes));
        if let Poll::Ready(Err(error)) = &polled {
            self.heard.broke(error);
        }
        polled.map_ok(|_| ())
    }
}

impl<I: Io> rt::Write for Recorded<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.io().poll_write(cx, bytes);
        self.record_after_write(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.io().poll_flush(cx);
        self.record_after_write(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.io().poll_write_vectored(cx, bytes);
        self.record_after_write(cx, polled)
    }
}
