//! smol, as the client sees it.

use std::{
    fmt,
    future::Future,
    io,
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use etcd_watch_client::{
    Address, AmbientRuntime, ConnectError, ConnectOptions, Connection, Endpoint, Instant, NoRuntime, Runtime,
    first_to_connect,
};
use smol::{Executor, Timer, net};

use crate::connection;

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

impl AmbientRuntime for SmolRuntime {
    /// Anywhere is on smol's global executor.
    fn ambient() -> Result<Self, NoRuntime> {
        Ok(Self::new())
    }
}

impl Runtime for SmolRuntime {
    type Transport = Connection;

    async fn connect(
        &self,
        endpoint: &Endpoint,
        options: &ConnectOptions,
    ) -> Result<Connection, ConnectError> {
        match endpoint.address() {
            Address::Tcp { host, port } => {
                let socket = dial(self, host, port).await;
                connection::over(self, endpoint, options, socket).await
            }
            #[cfg(unix)]
            Address::Unix { path } => {
                let socket = net::unix::UnixStream::connect(path).await;
                connection::over(self, endpoint, options, socket).await
            }
            #[cfg(not(unix))]
            Address::Unix { .. } => Err(ConnectError::new("this system has no unix sockets")),
        }
    }

    async fn sleep(&self, duration: Duration) {
        Timer::after(duration).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.executor {
            Some(executor) => executor.spawn(task).detach(),
            None => smol::spawn(task).detach(),
        }
    }

    fn now(&self) -> Instant {
        let nanos = self.epoch.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

async fn dial(runtime: &SmolRuntime, host: &str, port: u16) -> io::Result<net::TcpStream> {
    let addresses = net::resolve((host, port)).await?;
    let socket = first_to_connect(runtime, addresses, net::TcpStream::connect).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
