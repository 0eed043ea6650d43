//! What unit tests share: a runtime for what needs none, and wakers that are counted.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use etcd_watch_core::Instant;

use crate::{BoxFuture, Io, Peer, Runtime, sync::lock};

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

/// As [`NoNetwork`], but tasks are kept, and polled when a test says so.
#[derive(Default)]
pub(crate) struct Tasks(Mutex<Vec<BoxFuture<'static, ()>>>);

impl Tasks {
    /// Polls every task once.
    pub(crate) fn poll_all(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        lock(&self.0).retain_mut(|task| task.as_mut().poll(&mut cx).is_pending());
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tasks")
    }
}

impl Runtime for Tasks {
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        NoNetwork.resolve(host, port)
    }

    fn connect(&self, peer: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        NoNetwork.connect(peer)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        NoNetwork.sleep(duration)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        lock(&self.0).push(task);
    }

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
