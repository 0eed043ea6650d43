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

/// How many bytes it takes at most on one that brings much: hyper asks for 8 KiB, and then for the rest of a frame. One read
/// of the socket for several of hyper's costs a copy, and saves calls of the system, which cost more. The space is kept for
/// as long as the connection.
///
/// After this many bytes without a pause hyper is told once that nothing is there, so that other tasks run. What was read
/// stays in memory until they run. glibc returns memory to the system when more than 128 KiB are free at the end of the
/// heap, and asking for it again costs more than everything else.
const MAX_SPACE: usize = 96 << 10;

/// Between hyper and the socket.
pub(super) struct Recorded<I> {
    io: I,
    heard: Heard,
    frames: Frames,
    /// hyper's cursors don't tell what was read to them; so it is read to here first.
    space: Box<[u8]>,
    /// The part of the space that hyper has not been given yet.
    unread: Range<usize>,
    /// How many bytes were read since hyper was last told that nothing is there.
    since_pause: usize,
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
            since_pause: 0,
            on_too_many_pings: Some(Box::new(on_too_many_pings)),
        }
    }

    fn io(&mut self) -> Pin<&mut I> {
        Pin::new(&mut self.io)
    }

    /// Reads what the socket has into the empty space, and looks at it. How many bytes that were; none at the end.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        debug_assert!(self.unread.is_empty(), "what was read is not lost");
        if self.unread.end == self.space.len() && self.space.len() < MAX_SPACE {
            // The last read filled it: the server has more to send than that.
            self.space = vec![0; MAX_SPACE].into_boxed_slice();
        }
        let mut buffer = rt::ReadBuf::new(&mut self.space);
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer.unfilled());
        if polled.is_pending() {
            self.since_pause = 0;
        }
        ready!(polled)?;
        let bytes = buffer.filled();
        let read = bytes.len();
        self.since_pause += read;
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
            if self.since_pause >= MAX_SPACE {
                self.since_pause = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Err(error) = ready!(self.fill(cx)) {
                self.heard.broke(&error);
                return Poll::Ready(Err(error));
            }
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

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        task::{Wake, Waker},
    };

    use super::*;

    /// A socket whose system has all of these bytes, and which counts how often it is read.
    struct Source {
        bytes: Vec<u8>,
        at: usize,
        reads: usize,
    }

    impl rt::Read for Source {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            mut buffer: rt::ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            let end = self.bytes.len().min(self.at + buffer.remaining());
            buffer.put_slice(&self.bytes[self.at..end]);
            self.at = end;
            self.reads += 1;
            Poll::Ready(Ok(()))
        }
    }

    impl rt::Write for Source {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn recorded(bytes: Vec<u8>, heard: &Heard) -> Recorded<Source> {
        Recorded::new(Source { bytes, at: 0, reads: 0 }, heard.clone(), || {})
    }

    /// What one read of hyper's brings, with this much room. If the task lets others run first, it is woken.
    fn read(recorded: &mut Recorded<Source>, room: usize) -> Vec<u8> {
        poll(recorded, room).or_else(|| poll(recorded, room)).expect("the socket has bytes")
    }

    /// Reads, if the task doesn't let others run first; then it must have been woken.
    fn poll(recorded: &mut Recorded<Source>, room: usize) -> Option<Vec<u8>> {
        let mut space = vec![0; room];
        let mut buffer = rt::ReadBuf::new(&mut space);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        match rt::Read::poll_read(Pin::new(recorded), &mut Context::from_waker(&waker), buffer.unfilled()) {
            Poll::Ready(read) => read.map(|()| Some(buffer.filled().to_vec())).expect("the socket works"),
            Poll::Pending => {
                assert!(woken.0.load(Ordering::Relaxed), "the task is polled again");
                None
            }
        }
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_connection_that_brings_much_lets_others_run_after_its_share() {
        let mut recorded = recorded(vec![7; 10 * MAX_SPACE], &Heard::default());
        let (mut got, mut turns) = (0, 0);
        while got < 10 * MAX_SPACE {
            match poll(&mut recorded, 16 << 10) {
                Some(bytes) => got += bytes.len(),
                None => turns += 1,
            }
            assert!(got <= (turns + 2) * MAX_SPACE, "{got} bytes in {turns} turns");
        }
        assert!((9..=10).contains(&turns), "{turns}");
    }

    #[test]
    fn all_bytes_come_in_order_with_fewer_reads_of_the_socket_than_hyper_makes() {
        let sent: Vec<u8> = (0..1_000_000_u32).map(|at| at.to_le_bytes()[at as usize % 3]).collect();
        let mut recorded = recorded(sent.clone(), &Heard::default());
        let (mut got, mut reads) = (Vec::new(), 0);
        loop {
            let bytes = read(&mut recorded, [8 << 10, 100, 16 << 10][reads % 3]);
            if bytes.is_empty() {
                break;
            }
            got.extend(bytes);
            reads += 1;
        }
        assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
        assert!(recorded.io.reads * 4 < reads, "{} reads of the socket for {reads}", recorded.io.reads);
    }

    #[test]
    fn a_connection_that_brings_little_at_once_keeps_its_small_space() {
        let mut recorded = recorded(vec![7; SPACE - 1], &Heard::default());
        assert_eq!(read(&mut recorded, SPACE).len(), SPACE - 1);
        assert_eq!(recorded.space.len(), SPACE);
    }

    #[test]
    fn what_the_server_said_last_is_heard_though_hyper_has_not_read_what_came_before() {
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[0; 8]].concat();
        let goaway = [&[0, 0, 8, 7, 0, 0, 0, 0, 0][..], &[0, 0, 0, 1, 0, 0, 0, 2]].concat();
        let heard = Heard::default();
        let mut recorded = recorded([&settings[..], &ping.repeat(1_000), &goaway].concat(), &heard);
        assert_eq!(read(&mut recorded, 10).len(), 10);
        let mut cx = Context::from_waker(Waker::noop());
        let polled = rt::Write::poll_write(Pin::new(&mut recorded), &mut cx, b"x");
        assert!(matches!(polled, Poll::Ready(Err(_))), "{polled:?}");
        let told = heard.explain_end(None).to_string();
        assert!(told.contains("GOAWAY"), "{told}");
    }
}
