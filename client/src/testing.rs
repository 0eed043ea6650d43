//! What unit tests share: a runtime for what needs none, and wakers that are counted.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use etcd_watch_core::Instant;

use crate::{BoxFuture, Io, Peer, Runtime};

/// Nothing can be reached, and nothing is ever run.
#[derive(Clone, Debug)]
pub(crate) struct NoNetwork;

impl Runtime for NoNetwork {
    fn resolve(&self, _: String, _: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Err(io::Error::other("no network")) })
    }

    fn connect(&self, _: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        Box::pin(async { Err(io::Error::other("no network")) })
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn spawn(&self, _: BoxFuture<'static, ()>) {}

    fn now(&self) -> Instant {
        Instant::ZERO
    }
}

/// As [`NoNetwork`], but every timer rings at once.
#[derive(Clone, Debug)]
pub(crate) struct NoTime;

impl Runtime for NoTime {
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        NoNetwork.resolve(host, port)
    }

    fn connect(&self, peer: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        NoNetwork.connect(peer)
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn spawn(&self, _: BoxFuture<'static, ()>) {}

    fn now(&self) -> Instant {
        Instant::ZERO
    }
}

/// Makes wakers, and counts which of them were woken and which exist.
#[derive(Default)]
pub(crate) struct CountedWaker(Arc<Count>);

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl CountedWaker {
    pub(crate) fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    /// How often one of the wakers was woken.
    pub(crate) fn woken(&self) -> usize {
        self.0.0.load(Ordering::Relaxed)
    }

    /// How many wakers, clones included, have been neither woken nor dropped.
    pub(crate) fn alive(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}
