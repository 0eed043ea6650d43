//! The same client on async-std.
//!
//! ```no_run
//! use etcd_watch_smol::{KeyRange, async_std};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! ::async_std::task::block_on(async {
//!     let client = async_std::connect(["http://127.0.0.1:2379"]).await?;
//!     let mut watch = client.watch(KeyRange::prefix("services/"))?;
//!     while let Some(response) = watch.try_next().await? {
//!         println!("{} events", response.events().count());
//!     }
//!     Ok(())
//! })
//! # }
//! ```

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant as StdInstant},
};

use async_std::{net, net::ToSocketAddrs, task};
use etcd_watch_client::{
    BoxFuture, BuildError, Client, ClientBuilder, Instant, Io, Peer, Runtime, StartError,
};
use smol_hyper::rt::FuturesIo;

/// A client of the cluster with these endpoints, every setting at its default, on async-std's global executor. Returns when a
/// member has answered; see [`ClientBuilder::connect`].
///
/// # Errors
/// An endpoint that can't be used, or why none has answered, for each of them. For a client that is made whether the
/// cluster is there or not, use [`connect_lazy`].
pub async fn connect<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Result<Client, StartError> {
    builder().endpoints(endpoints).connect().await
}

/// The same, without waiting for anything; see [`ClientBuilder::connect_lazy`].
///
/// # Errors
/// An empty list, or an endpoint that can't be used.
pub fn connect_lazy<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Result<Client, BuildError> {
    builder().endpoints(endpoints).connect_lazy()
}

/// A client with settings of its own, on async-std's global executor.
pub fn builder() -> ClientBuilder {
    ClientBuilder::on(AsyncStdRuntime::new())
}

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

impl Runtime for AsyncStdRuntime {
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok((host.as_str(), port).to_socket_addrs().await?.collect()) })
    }

    fn connect(&self, peer: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        Box::pin(open_socket(peer))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(task::sleep(duration))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        task::spawn(task);
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
        Peer::Unix(path) => {
            Ok(Box::new(FuturesIo::new(async_std::os::unix::net::UnixStream::connect(path).await?)))
        }
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no such sockets")),
    }
}
