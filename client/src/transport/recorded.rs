//! A socket that remembers what its server said.

use std::{
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::rt;

use super::{
    frames::{Frames, Sight},
    heard::Heard,
};
use crate::runtime::Io;

/// How many bytes a read of the socket takes at most, on a connection that has brought little at once until now.
const SPACE: usize = 8 << 10;

/// How many bytes it takes at most on one that brings much. hyper asks for 8 KiB, and then for the rest of a frame: with
/// one read of the socket for several of hyper's the system is called far less often, which costs more than the copy.
const MAX_SPACE: usize = 64 << 10;

/// Between hyper and the socket.
pub(super) struct Recorded<I> {
    io: I,
    heard: Heard,
    frames: Frames,
    /// hyper's cursors don't tell what was read to them; so it is read to here first.
    space: Box<[u8]>,
    /// The part of the space that hyper has not been given yet.
    unread: Range<usize>,
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
            unread: 0..0,
            on_too_many_pings: Some(Box::new(on_too_many_pings)),
        }
    }

    fn io(&mut self) -> Pin<&mut I> {
        Pin::new(&mut self.io)
    }

    /// Reads what the socket has into the empty space, and looks at it. How many bytes that were; none at the end.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        debug_assert!(self.unread.is_empty(), "what was read is not lost");
        let mut buffer = rt::ReadBuf::new(&mut self.space);
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer.unfilled()))?;
        let bytes = buffer.filled();
        let read = bytes.len();
        if read > 0 {
            let (heard, on_too_many_pings) = (&self.heard, &mut self.on_too_many_pings);
            heard.something();
            self.frames.take_in(bytes, |sight| {
                let too_many = matches!(&sight, Sight::Farewell(farewell) if farewell.is_too_many_pings());
                heard.saw(sight);
                if let Some(tell) = on_too_many_pings.take_if(|_| too_many) {
                    tell();
                }
            });
        }
        self.unread = 0..read;
        Poll::Ready(Ok(read))
    }

    /// Takes up to `room` of the bytes that were read.
    fn take(&mut self, room: usize) -> &[u8] {
        let Range { start, end } = self.unread;
        let taken = start..end.min(start + room);
        self.unread.start = taken.end;
        &self.space[taken]
    }

    /// Gives the next read more space, if the last one filled what there is: the server has more to send than that.
    fn grow(&mut self) {
        if self.unread == (0..self.space.len()) && self.space.len() < MAX_SPACE {
            let mut space = vec![0; MAX_SPACE];
            space[..self.unread.end].copy_from_slice(&self.space);
            self.space = space.into_boxed_slice();
        }
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
            // The connection is at its end: nobody reads what came before it.
            self.unread = 0..0;
            match self.fill(cx) {
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
        if self.unread.is_empty() {
            if let Err(error) = ready!(self.fill(cx)) {
                self.heard.broke(&error);
                return Poll::Ready(Err(error));
            }
            self.grow();
        }
        buffer.put_slice(self.take(buffer.remaining()));
        Poll::Ready(Ok(()))
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
