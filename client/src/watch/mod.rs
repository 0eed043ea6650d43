//! Watches: the handle that an application holds, the machine that all handles share, and the driver between the
//! machine and the network.

pub(crate) mod codec;
pub(crate) mod connection;
pub(crate) mod connections;
pub(crate) mod driver;
pub(crate) mod error;
pub(crate) mod handle;
pub(crate) mod hub;
pub(crate) mod links;
#[cfg(etcd_watch_lock_times)]
pub mod lock_times;
pub(crate) mod log;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
pub(crate) mod mirror_record;
pub(crate) mod monitored;
pub(crate) mod outbox;
pub(crate) mod reading;
pub(crate) mod version;
