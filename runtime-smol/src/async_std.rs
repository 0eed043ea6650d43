//! The same client on async-std.
//!
//! ```no_run
//! use etcd_watch_smol::async_std::Client;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! async_std::task::block_on(async {
//!     let client = Client::connect(["http://127.0.0.1:2379"]).await?;
//!     let mut watch = client.watch_prefix("services/")?;
//!     while let Some(response) = watch.try_next().await? {
//!         println!("{} events", response.events().count());
//!     }
//!     Ok(())
//! })
//! # }
//! ```

use std::{
    future::Future,
    io,
    time::{Duration, Instant as StdInstant},
};

use async_std::{net, net::ToSocketAddrs, task};
use etcd_watch_client::{
    Address, AmbientRuntime, ConnectError, ConnectOptions, Connection, Endpoint, Instant, NoRuntime, Runtime,
    first_to_connect,
};

use crate::connection;

/// A client on async-std.
pub type Client = etcd_watch_client::Client<AsyncStdRuntime>;

/// Builds a client on async-std.
pub type ClientBuilder = etcd_watch_client::ClientBuilder<AsyncStdRuntime>;

/// async-std: its sockets, its timers and its executor.
#[derive(Clone, Debug)]
pub struct AsyncStdRuntime {
    epoch: StdInstant,
}

impl AsyncStdRuntime {
    /// On async-std's global executor, whose threads start by themselves.
    #[must_use]
    pub fn new() -> Self {
        Self { epoch: StdInstant::now() }
    }
}

impl Default for AsyncStdRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl AmbientRuntime for AsyncStdRuntime {
    /// Anywhere is on async-std's executor.
    fn ambient() -> Result<Self, NoRuntime> {
        Ok(Self::new())
    }
}

impl Runtime for AsyncStdRuntime {
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
                let socket = async_std::os::unix::net::UnixStream::connect(path).await;
                connection::over(self, endpoint, options, socket).await
            }
            #[cfg(not(unix))]
            Address::Unix { .. } => Err(ConnectError::new("this system has no unix sockets")),
        }
    }

    async fn sleep(&self, duration: Duration) {
        task::sleep(duration).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        task::spawn(task);
    }

    fn now(&self) -> Instant {
        let nanos = self.epoch.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

async fn dial(runtime: &AsyncStdRuntime, host: &str, port: u16) -> io::Result<net::TcpStream> {
    let addresses = (host, port).to_socket_addrs().await?;
    let socket = first_to_connect(runtime, addresses, net::TcpStream::connect).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
