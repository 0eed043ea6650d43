//! What the client needs of an async runtime: names, sockets, timers, tasks and a clock.

use std::{fmt, future::Future, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use etcd_watch_core::Instant;
pub use futures_core::future::BoxFuture;
/// The traits of sockets: [`Io`] is made of them.
pub use hyper::rt as io_traits;

mod backoff;
mod clock;
mod timeout;

pub(crate) use backoff::{Backoff, Pace, Seeds};
pub(crate) use clock::Moment;
pub(crate) use timeout::{RuntimeGone, pause, rang_too_early, timeout};

/// An async runtime. The crates `etcd-watch-tokio` and `etcd-watch-smol` have one each; an application with an
/// executor of its own implements it for that. Everything above it, TLS and HTTP/2 too, is the same on all runtimes.
///
/// The futures it returns may be polled on any thread, and by any executor.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Looks the addresses of a host up, best first.
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

    /// Opens a socket to the peer, with `TCP_NODELAY` where it is one of TCP. The client puts a time limit on it, and
    /// drops the future when that is over.
    fn connect(&self, peer: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>>;

    /// Completes after `duration`. On a runtime that has shut down it completes at once.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Runs a task to its end in the background. A runtime that has shut down drops it.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// The monotonic clock that [`sleep`](Self::sleep) goes by, from an epoch of the runtime's choice.
    fn now(&self) -> Instant;

    /// A monotonic clock that goes on while the machine sleeps, from an epoch of its own. Leases go by it: a server
    /// ends them while a laptop or a virtual machine is suspended.
    ///
    /// Default: the system's. That is `CLOCK_BOOTTIME` on Linux and Android, and the clock of the standard library on
    /// Windows, which counts sleep, and on systems where no such clock is known.
    fn boot_time(&self) -> Instant {
        clock::boot_time()
    }
}

impl dyn Runtime {
    /// [`spawn`](Runtime::spawn) for a future that isn't in a box yet.
    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(Box::pin(task));
    }
}

/// A runtime that several share is one, too.
impl<R: Runtime + ?Sized> Runtime for Arc<R> {
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        (**self).resolve(host, port)
    }

    fn connect(&self, peer: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        (**self).connect(peer)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        (**self).sleep(duration)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        (**self).spawn(task);
    }

    fn now(&self) -> Instant {
        (**self).now()
    }

    fn boot_time(&self) -> Instant {
        (**self).boot_time()
    }
}

/// Where a socket goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket. A runtime without them answers [`Unsupported`](io::ErrorKind::Unsupported).
    Unix(PathBuf),
}

/// A connected socket. Implemented for everything that reads and writes as hyper does; `hyper-util` and
/// `smol-hyper` have adapters for the sockets of tokio and of `futures`.
pub trait Io: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static {}

impl<T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static> Io for T {}

/// The code doesn't run on the runtime it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not called on a {name} runtime: call it from a task, or pass the runtime to ClientBuilder::on")]
pub struct NoRuntime {
    /// The runtime's name.
    pub name: &'static str,
}
