//! An etcd client for smol, and with the feature `async-std` for async-std, whose watches survive every cut.
//!
//! A watch delivers every change of its keys once, in order, and the changes of one revision together,
//! whatever happens to connections, members and its own consumer; where that can't be kept (the history
//! it needs is compacted) it ends and says so.
//!
//! ```no_run
//! use etcd_watch_smol::KeyRange;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! smol::block_on(async {
//!     let client = etcd_watch_smol::connect(["http://127.0.0.1:2379"]).await?;
//!     let mut watch = client.watch(KeyRange::prefix("services/"))?;
//!     while let Some(response) = watch.try_next().await? {
//!         for event in response.events() {
//!             println!("{:?} {} {}", event.kind(), event.key_str()?, event.value_str()?);
//!         }
//!     }
//!     Ok(())
//! })
//! # }
//! ```
//!
//! [`connect`] and [`builder`] make clients on smol's global executor; for one on an executor of the application's own
//! give [`ClientBuilder::on`] a [`SmolRuntime`]. The rest comes from `etcd-watch-client`, whose [`Client`] is the same
//! on all runtimes. No tokio runtime runs in the process.

#[cfg(feature = "async-std")]
pub mod async_std;
mod smol_runtime;

pub use smol_runtime::SmolRuntime;

pub use etcd_watch_client::*;

/// A client of the cluster with these endpoints, every setting at its default, on smol's global executor. Returns when a
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

/// A client with settings of its own, on smol's global executor.
pub fn builder() -> ClientBuilder {
    ClientBuilder::on(SmolRuntime::new())
}
