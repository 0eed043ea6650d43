//! An etcd client for smol, and with the feature `async-std` for async-std, whose watches survive every cut.
//!
//! A watch delivers every change of its keys once, in order, and the changes of one revision together,
//! whatever happens to connections, members and its own consumer; where that can't be kept (the history
//! it needs is compacted) it ends and says so.
//!
//! ```no_run
//! use etcd_watch_smol::Client;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! smol::block_on(async {
//!     let client = Client::connect(["http://127.0.0.1:2379"]).await?;
//!     let mut watch = client.watch_prefix("services/")?;
//!     while let Some(response) = watch.try_next().await? {
//!         for event in response.events() {
//!             println!("{:?} {:?}", event.kind(), String::from_utf8_lossy(event.key()));
//!         }
//!     }
//!     Ok(())
//! })
//! # }
//! ```
//!
//! Everything but the runtimes comes from `etcd-watch-client` and is documented there; the [`Client`] is
//! that crate's, on smol. No tokio runtime is in the process, nor compiled in.
//!
//! A client runs on smol's global executor, unless it is built
//! [`on`](etcd_watch_client::ClientBuilder::on) a [`SmolRuntime`] with an executor of the application's own.

#[cfg(feature = "async-std")]
pub mod async_std;
mod connection;
mod smol_runtime;

pub use smol_runtime::SmolRuntime;

pub use etcd_watch_client::*;

/// A client on smol.
pub type Client = etcd_watch_client::Client<SmolRuntime>;

/// Builds a client on smol.
pub type ClientBuilder = etcd_watch_client::ClientBuilder<SmolRuntime>;
