//! A TCP proxy that does to connections what networks do, on command.
//!
//! A [`FaultProxy`] listens on a loopback port and forwards to an upstream. Commands take effect at once, on the
//! connections there are and on those to come:
//!
//! | command | what the two ends see |
//! |---|---|
//! | [`cut_all`](FaultProxy::cut_all) | every connection is reset, or closed |
//! | [`cut_next_after_bytes`](FaultProxy::cut_next_after_bytes), [`cut_each_after_bytes`](FaultProxy::cut_each_after_bytes) | a reset within a frame |
//! | [`set_delay`](FaultProxy::set_delay) | a longer way: everything arrives later, in order |
//! | [`throttle`](FaultProxy::throttle) | a narrower way |
//! | [`hold`](FaultProxy::hold) | nothing arrives until [`release`](FaultProxy::release), then everything |
//! | [`black_hole`](FaultProxy::black_hole) | nothing arrives ever again: half-open connections |
//! | [`refuse`](FaultProxy::refuse) | new connections are reset at once |
//!
//! "Downstream" is from the upstream server to the client, "upstream" the other way.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use std::time::Duration;
//! use etcd_watch_testkit::proxy::{Cut, FaultProxy};
//!
//! let proxy = FaultProxy::start("http://127.0.0.1:2379").await?;
//! println!("tell the client {}", proxy.endpoint());
//! proxy.set_delay(Duration::from_millis(20));
//! let cut = proxy.cut_all(Cut::Reset);
//! assert_eq!(proxy.cuts(), cut as u64);
//! # Ok(())
//! # }
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `faults` | which faults are on |
//! | `connection` | one connection's life, and how it ends |
//! | `pump` | the bytes of one direction |
//! | `shared` | the connections there are, and what is counted |

mod connection;
mod faults;
mod pump;
mod shared;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use connection::Connection;
use faults::{Faults, Way};
use shared::Shared;

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// TCP resets to both ends; bytes on their way may be lost.
    Reset,
    /// An orderly end of stream to both ends, after what was forwarded; a frame is left incomplete all the same.
    Close,
}

/// Where a proxy forwards to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream(String);

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        Self(address.to_string())
    }
}

impl From<&str> for Upstream {
    /// `host:port`, or an endpoint such as `http://host:port`.
    fn from(endpoint: &str) -> Self {
        let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
        Self(authority.trim_end_matches('/').to_owned())
    }
}

impl From<String> for Upstream {
    fn from(endpoint: String) -> Self {
        Self::from(endpoint.as_str())
    }
}

impl From<&String> for Upstream {
    fn from(endpoint: &String) -> Self {
        Self::from(endpoint.as_str())
    }
}

/// A TCP proxy with faults on command; see the [module](self). Dropping it ends the proxy and its connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a free loopback port and forwards to `upstream`, which need not be there yet.
    ///
    /// # Errors
    /// If no port can be listened on.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(upstream: impl Into<Upstream>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(upstream.into()));
        let listening = tokio::spawn(listen(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, listening })
    }

    /// What to tell the client, as `http://127.0.0.1:port`. It stays the same, whatever the upstream.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards connections made from now on to another upstream; those that exist stay with theirs.
    pub fn set_upstream(&self, upstream: impl Into<Upstream>) {
        self.shared.set_upstream(upstream.into());
    }

    /// Cuts every connection there is, and returns how many that were. They count as gone when this returns.
    pub fn cut_all(&self, cut: Cut) -> usize {
        self.shared.cut_all(cut)
    }

    /// Cuts one connection: the first to forward `bytes` more bytes downstream, exactly so many. 0 cuts it when
    /// the next byte comes. Replaces what was asked before of this and of
    /// [`cut_each_after_bytes`](FaultProxy::cut_each_after_bytes).
    pub fn cut_next_after_bytes(&self, bytes: u64, cut: Cut) {
        self.shared.change(|faults| faults.cut_after(bytes, cut, false));
    }

    /// Cuts every connection, those to come too, once it has forwarded `bytes` more bytes downstream, exactly so
    /// many, until [`restore`](FaultProxy::restore). 0 cuts each when its next byte comes.
    pub fn cut_each_after_bytes(&self, bytes: u64, cut: Cut) {
        self.shared.change(|faults| faults.cut_after(bytes, cut, true));
    }

    /// Everything arrives this much later than it was sent, in either direction and in order; also what is on its
    /// way now. Zero takes the delay away. At most 8 MiB are on their way in each direction of a connection: then
    /// the sender has to wait.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.change(|faults| faults.delay = delay);
    }

    /// Forwards at most so many bytes in a second, in each direction of each connection; 0 counts as 1.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.change(|faults| faults.rate = Some(bytes_per_second.max(1)));
    }

    /// Forwards nothing, neither bytes nor the end of a connection, but keeps connections open and accepts new
    /// ones, until [`release`](FaultProxy::release). Nothing is lost.
    pub fn hold(&self) {
        self.shared.change(|faults| faults.way = Way::Held);
    }

    /// Ends [`hold`](FaultProxy::hold): what was held back is forwarded.
    pub fn release(&self) {
        self.shared.change(|faults| {
            if faults.way == Way::Held {
                faults.way = Way::Open;
            }
        });
    }

    /// Swallows everything, the end of a connection too: both ends of the connections there are believe in them
    /// and never hear anything again. New connections are accepted and hear nothing either.
    ///
    /// These connections stay dead after [`restore`](FaultProxy::restore), until one of their ends gives up or
    /// [`cut_all`](FaultProxy::cut_all) is called; only connections made afterwards work.
    pub fn black_hole(&self) {
        self.shared.change(|faults| {
            faults.way = Way::BlackHole;
            faults.black_holes += 1;
            faults.refuse = false;
        });
    }

    /// Resets new connections at once, until [`restore`](FaultProxy::restore); those that exist go on.
    pub fn refuse(&self) {
        self.shared.change(|faults| faults.refuse = true);
    }

    /// Takes all faults away. What was held is forwarded; what a black hole swallowed stays lost.
    pub fn restore(&self) {
        self.shared.change(Faults::restore);
    }

    /// How many connections there are now: accepted, and not yet ended or cut.
    pub fn connections(&self) -> usize {
        self.shared.connections()
    }

    /// How many connections were accepted so far; those refused on command are not among them.
    pub fn accepted(&self) -> u64 {
        self.shared.counters.accepted()
    }

    /// How many connections were refused so far: on command, or because the upstream could not be reached.
    pub fn refused(&self) -> u64 {
        self.shared.counters.refused()
    }

    /// How many connections were cut so far.
    pub fn cuts(&self) -> u64 {
        self.shared.counters.cuts()
    }

    /// How many bytes were forwarded from the upstream to clients.
    pub fn bytes_downstream(&self) -> u64 {
        self.shared.counters.downstream()
    }

    /// How many bytes were forwarded from clients to the upstream.
    pub fn bytes_upstream(&self) -> u64 {
        self.shared.counters.upstream()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // The connections' tasks are in a set that the listening task owns.
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    if let Some(connection) = accept(&client, &shared) {
                        connections.spawn(connection.run(client));
                    }
                }
                // No descriptors are left, say: let connections end before the next attempt.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

fn accept(client: &TcpStream, shared: &Arc<Shared>) -> Option<Connection> {
    // The proxy adds no delay of its own.
    let _ = client.set_nodelay(true);
    let connection = Connection::enter(Arc::clone(shared));
    if connection.is_none() {
        let _ = client.set_zero_linger();
    }
    connection
}
