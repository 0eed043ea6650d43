//! An etcd member as a synchronous machine: keys with history, leases, transactions and watches, in memory.
//!
//! [`ModelEtcd`] behaves as etcd does, down to what its clients have to cope with: watch ids, the order of
//! replies, batches that catch up, fragments, progress, slow readers. [`ModelConfig`] turns on what older
//! versions and proxies do differently.
//!
//! | file | owns |
//! |---|---|
//! | `store` | revisions, versions of keys, compaction |
//! | `range` | reads with all their options |
//! | `range_stream` | a read that comes in chunks |
//! | `txn` | puts, deletes, transactions and their conditions |
//! | `lease` | leases and the keys on them |
//! | `log` | what a member has done, for those that follow it |
//! | `watcher` | one watch: what it wants and how far it is |
//! | `watch_stream` | one stream: its queues, catching up, progress |
//! | `watch_service` | all streams, and which watch sees which key |
//! | `fragment` | cutting large responses |

mod config;
mod error;
mod etcd;
mod fragment;
mod history;
mod key_range;
mod lease;
mod log;
mod range;
mod range_stream;
mod store;
mod txn;
mod watch_service;
mod watch_stream;
mod watcher;

#[cfg(test)]
mod tests;

pub use config::{ModelConfig, ProgressMode, Quirks, TxnChecks};
pub use error::ModelError;
pub use etcd::ModelEtcd;
pub use history::{EventKind, HistoryEvent};
pub use log::Entry;
pub use range_stream::RangeStream;
pub use watch_service::ModelStream;
