//! An etcd client for tokio whose watches survive every cut.
//!
//! A watch delivers every change of its keys once, in order, and the changes of one revision together,
//! whatever happens to connections, members and its own consumer; where that can't be kept (the history
//! it needs is compacted) it ends and says so.
//!
//! ```no_run
//! use etcd_watch_tokio::KeyRange;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = etcd_watch_tokio::connect(["http://127.0.0.1:2379"]).await?;
//!     let mut watch = client.watch(KeyRange::prefix("services/"))?;
//!     while let Some(response) = watch.try_next().await? {
//!         for event in response.events() {
//!             println!("{:?} {} {}", event.kind(), event.key_str()?, event.value_str()?);
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! With the feature `discovery` services register their endpoints, and clients follow them; with `tonic-channel`
//! a balanced tonic `Channel` does.
//!
//! [`connect`] and [`builder`] make clients on the tokio runtime that they are called on; the rest comes from
//! `etcd-watch-client`, whose [`Client`] is the same on all runtimes. Its handles and futures may be polled anywhere;
//! the sockets and timers under them are that runtime's, which needs its I/O and time drivers enabled (as
//! `#[tokio::main]` has them).

#[cfg(feature = "tonic-channel")]
pub mod balance;
mod runtime;

pub use runtime::TokioRuntime;

pub use etcd_watch_client::*;

/// A client of the cluster with these endpoints, every setting at its default, on the tokio runtime that this is called
/// on. Returns when a member has answered; see [`ClientBuilder::connect`].
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
/// An empty list, an endpoint that can't be used, or no tokio runtime.
pub fn connect_lazy<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Result<Client, BuildError> {
    builder().endpoints(endpoints).connect_lazy()
}

/// A client with settings of its own, on the tokio runtime that it is built on.
pub fn builder() -> ClientBuilder {
    ClientBuilder::on_ambient(TokioRuntime::ambient)
}
