//! smol, as the client sees it.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use etcd_watch_client::{BoxFuture, Instant, Io, Peer, Runtime};
use smol::{Executor, Timer, net};
use smol_hyper::rt::FuturesIo;

/// smol: its sockets and timers, and its global executor or one of the application's own.
#[derive(Clone)]
pub struct SmolRuntime {
    executor: Option<Arc<Executor<'static>>>,
    epoch: StdInstant,
}

impl SmolRuntime {
    /// On smol's global executor, whose threads start by themselves (one, or as many as the environment
    /// variable `SMOL_THREADS` says).
    #[must_use]
    pub fn new() -> Self {
        Self { executor: None, epoch: StdInstant::now() }
    }

    /// On an executor that the application runs, for as long as there are clients on it: one that is not run any
    /// more leaves them, and whoever waits on them, where they are. Close or drop clients first.
    #[must_use]
    pub fn on(executor: Arc<Executor<'static>>) -> Self {
        Self { executor: Some(executor), ..Self::new() }
    }
}

impl Default for SmolRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SmolRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let executor = if self.executor.is_some() { "own" } else { "global" };
        f.debug_struct("SmolRuntime").field("executor", &executor).finish_non_exhaustive()
    }
}

impl Runtime for SmolRuntime {
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(net::resolve((host, port)))
    }

    fn connect(&self, peer: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        Box::pin(open_socket(peer))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            Timer::after(duration).await;
        })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        match &self.executor {
            Some(executor) => executor.spawn(task).detach(),
            None => smol::spawn(task).detach(),
        }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.epoch.elapsed()
    }
}

async fn open_socket(peer: Peer) -> io::Result<Box<dyn Io>> {
    match peer {
        Peer::Tcp(address) => {
            let socket = net::TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Ok(Box::new(FuturesIo::new(socket)))
        }
        #[cfg(unix)]
        Peer::Unix(path) => Ok(Box::new(FuturesIo::new(net::unix::UnixStream::connect(path).await?))),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no such sockets")),
    }
}
