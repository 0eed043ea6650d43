//! A non-blocking socket behind the traits `h2` reads and writes by. They come from tokio, but need
//! nothing of it.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll},
};

use mio::{Interest, Registry, Token, net::TcpStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use etcd_watch_event_loops::endpoints::Endpoint;

/// A socket that the loop watches.
#[derive(Debug)]
pub(crate) struct Socket(TcpStream);

impl Socket {
    /// Begins to connect.
    pub(crate) fn connect(endpoint: &Endpoint, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut socket = TcpStream::connect(endpoint.address)?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self(socket))
    }

    /// Whether the connection is up.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.0.take_error()? {
            return Err(error);
        }
        match self.0.peer_addr() {
            Ok(_) => self.0.set_nodelay(true).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// "Not now" becomes `Pending`. No waker is kept: the loop polls again when the socket is ready.
fn ready<T>(mut attempt: impl FnMut() -> io::Result<T>) -> Poll<io::Result<T>> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return Poll::Ready(done),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready(|| self.0.read(buffer.initialize_unfilled()));
        read.map_ok(|count| buffer.advance(count))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready(|| self.0.write(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready(|| self.0.flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready(|| self.0.shutdown(Shutdown::Write))
    }
}
