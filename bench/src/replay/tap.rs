//! The socket that `h2` is given: what it writes goes to the pump, and of what it reads, window updates are left out.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::tcp::OwnedReadHalf,
};

use crate::{
    frame::{Frame, PREFACE},
    link::Link,
};

pub(crate) struct Tap {
    link: Arc<Link>,
    socket: OwnedReadHalf,
    /// How much of the preface is to come.
    preface: usize,
    /// What has arrived, from the first frame that is not known in whole.
    arrived: Vec<u8>,
    /// What `h2` is to read.
    passed: Vec<u8>,
    read: usize,
}

impl Tap {
    pub(crate) fn new(link: Arc<Link>, socket: OwnedReadHalf) -> Self {
        Self { link, socket, preface: PREFACE, arrived: Vec::new(), passed: Vec::new(), read: 0 }
    }

    fn sort(&mut self) {
        let mut at = self.preface.min(self.arrived.len());
        self.preface -= at;
        self.passed.extend_from_slice(&self.arrived[..at]);
        if self.preface == 0 {
            while let Some(frame) = Frame::first(&self.arrived[at..]) {
                at += frame.bytes.len();
                if self.link.read(&frame) {
                    self.passed.extend_from_slice(frame.bytes);
                }
            }
        }
        self.arrived.drain(..at);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.link.close();
    }
}

impl AsyncRead for Tap {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let tap = self.get_mut();
        while tap.read == tap.passed.len() {
            tap.passed.clear();
            tap.read = 0;
            let mut space = [0; 16 << 10];
            let mut space = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut tap.socket).poll_read(cx, &mut space))?;
            if space.filled().is_empty() {
                tap.link.close();
                return Poll::Ready(Ok(()));
            }
            tap.arrived.extend_from_slice(space.filled());
            tap.sort();
        }
        let end = tap.passed.len().min(tap.read + into.remaining());
        into.put_slice(&tap.passed[tap.read..end]);
        tap.read = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.link.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.close();
        Poll::Ready(Ok(()))
    }
}
