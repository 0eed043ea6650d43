//! What the client needs of an async runtime: names, sockets, timers, tasks and a clock.

use std::{fmt, future::Future, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use etcd_watch_core::Instant;
pub use futures_core::future::BoxFuture;

/// What a socket has to implement to be an [`Io`]: hyper's traits of reading and writing.
pub mod socket {
    pub use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
}

mod backoff;
mod clock;
mod in_task;
mod timeout;
mod yield_now;

pub(crate) use backoff::Seeds;
pub use backoff::{Backoff, Pace};
pub use clock::Moment;
pub(crate) use in_task::in_task;
pub(crate) use timeout::rang_too_early;
pub use timeout::{RuntimeGone, pause, timeout};
pub(crate) use yield_now::yield_now;

/// An async runtime. The crates `etcd-watch-tokio` and `etcd-watch-smol` have one each; an application with an
/// executor of its own implements it for that. Everything above it, TLS and HTTP/2 too, is the same on all runtimes.
///
/// The futures it returns may be polled on any thread, and by any executor.
///
/// # Example
///
/// A runtime with a thread for every task, and with the sockets and timers of async-io (by way of `smol`), which run on
/// any thread:
///
/// ```
/// use std::{io, net::SocketAddr, time::{self, Duration}};
///
/// use etcd_watch_client::{BoxFuture, ClientBuilder, Instant, Io, Peer, Runtime};
/// use smol_hyper::rt::FuturesIo;
///
/// #[derive(Clone, Debug)]
/// struct Threads {
///     epoch: time::Instant,
/// }
///
/// impl Runtime for Threads {
///     fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
///         Box::pin(smol::net::resolve((host, port)))
///     }
///
///     fn connect(&self, peer: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
///         Box::pin(async move {
///             let Peer::Tcp(address) = peer else { return Err(io::ErrorKind::Unsupported.into()) };
///             let socket = smol::net::TcpStream::connect(address).await?;
///             socket.set_nodelay(true)?;
///             Ok(Box::new(FuturesIo::new(socket)) as Box<dyn Io>)
///         })
///     }
///
///     fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
///         Box::pin(async move {
///             smol::Timer::after(duration).await;
///         })
///     }
///
///     fn spawn(&self, task: BoxFuture<'static, ()>) {
///         std::thread::spawn(|| smol::block_on(task));
///     }
///
///     fn now(&self) -> Instant {
///         Instant::ZERO + self.epoch.elapsed()
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = Threads { epoch: time::Instant::now() };
/// let client = ClientBuilder::on(runtime).endpoints(["http://127.0.0.1:2379"]).connect_lazy()?;
/// # smol::block_on(client.close());
/// # Ok(())
/// # }
/// ```
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
    /// Default: the system's. That is `CLOCK_BOOTTIME` on Linux and Android, `CLOCK_MONOTONIC` on Apple's systems, and
    /// elsewhere the clock of the standard library, which counts sleep on Windows.
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
