//! An etcd client for tokio whose watches survive every cut.
//!
//! A watch delivers every change of its keys once, in order, and the changes of one revision together,
//! whatever happens to connections, members and its own consumer; where that can't be kept (the history
//! it needs is compacted) it ends and says so.
//!
//! ```no_run
//! use etcd_watch_tokio::Client;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::connect(["http://127.0.0.1:2379"]).await?;
//!     let mut watch = client.watch_prefix("services/")?;
//!     while let Some(response) = watch.try_next().await? {
//!         for event in response.events() {
//!             println!("{:?} {:?}", event.kind(), String::from_utf8_lossy(event.key()));
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! With the feature `discovery` services register their endpoints, and clients follow them; with `tonic-channel`
//! a balanced tonic `Channel` does.
//!
//! Everything but [`TokioRuntime`] comes from `etcd-watch-client` and is documented there; the
//! [`Client`] is that crate's, on this runtime. Its handles and futures may be polled anywhere; the
//! sockets and timers under them run on the tokio runtime the client was built on, which needs its I/O
//! and time drivers enabled (as `#[tokio::main]` has them).

#[cfg(feature = "tonic-channel")]
pub mod balance;
mod connection;
mod runtime;

pub use runtime::TokioRuntime;

pub use etcd_watch_client::*;

/// A client on tokio.
pub type Client = etcd_watch_client::Client<TokioRuntime>;

/// Builds a client on tokio.
pub type ClientBuilder = etcd_watch_client::ClientBuilder<TokioRuntime>;
