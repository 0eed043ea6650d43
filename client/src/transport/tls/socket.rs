//! Sockets between hyper's traits and tokio's, which tokio-rustls is written for. Only traits: no tokio runtime.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::rt;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::runtime::Io;

/// A connected socket, for tokio-rustls.
pub(super) struct Plain(pub(super) Box<dyn Io>);

impl Plain {
    fn io(&mut self) -> Pin<&mut dyn Io> {
        Pin::new(&mut *self.0)
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut space = rt::ReadBuf::new(buffer.initialize_unfilled());
        ready!(self.io().poll_read(cx, space.unfilled()))?;
        let read = space.filled().len();
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write_vectored(cx, bytes)
    }
}

/// A socket with TLS on it, for hyper.
pub(super) struct Secured(pub(super) TlsStream<Plain>);

impl Secured {
    fn io(&mut self) -> Pin<&mut TlsStream<Plain>> {
        Pin::new(&mut self.0)
    }
}

impl rt::Read for Secured {
    /// Decrypted bytes lie in rustls' buffer: they are copied from there, once.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut space: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = space.remaining();
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        let plain = ready!(self.io().poll_fill_buf(cx))?;
        let read = plain.len().min(room);
        space.put_slice(&plain[..read]);
        self.io().consume(read);
        Poll::Ready(Ok(()))
    }
}

impl rt::Write for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write_vectored(cx, bytes)
    }
}
