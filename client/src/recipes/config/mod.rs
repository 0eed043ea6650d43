//! Configuration that follows etcd: a typed value, or a tree of keys, always there to read.
//!
//! ```no_run
//! use etcd_watch_client::{Client, config::Config};
//!
//! async fn limits(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
//!     let decode = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().parse::<u32>();
//!     let limit = Config::value(client, "limits/requests", decode)?;
//!     limit.ready().await?;
//!     println!("{:?} requests a second", limit.current());
//!     let mut changes = limit.clone();
//!     while changes.changed().await.is_ok() {
//!         match changes.error() {
//!             None => println!("now {:?}", changes.current()),
//!             Some(error) => eprintln!("{error}; still {:?}", changes.current()),
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! With the feature `json`, the functions `json` and `json_tree` decode into anything that implements serde's
//! `Deserialize`.
//!
//! # Logs and metrics
//!
//! | event | level | fields |
//! |---|---|---|
//! | `config_undecodable` | warn | `key`, `revision`, `reason` |
//! | `config_ended` | warn | `key`, `reason` |
//!
//! With the feature `metrics`, `etcd_watch_config_decode_errors_total` counts the former, with the label `config`: the
//! key or the prefix.

mod builder;
mod error;
mod follower;
mod health;
#[cfg(feature = "json")]
mod json;
mod tree;

use std::{fmt, sync::Arc};

use etcd_watch_core::{Instant, IntoBytes};
use futures_util::future::AbortHandle;

use crate::{BoxError, Client, Monitor, toolkit::Watchable};

pub use builder::ConfigBuilder;
pub use error::{DecodeError, Ended, FollowError};
#[cfg(feature = "json")]
pub use json::{JsonTreeError, json, json_tree};
pub use tree::Tree;

/// A value that follows etcd. Cheap to clone; all clones share one watch, which ends with the last of them.
///
/// - [`current`](Self::current) answers at once, from memory.
/// - What is in etcd and doesn't decode changes nothing: the last good value stays, and
///   [`error`](Self::error) says what is wrong until something decodes again.
/// - A key that is deleted, or a tree without keys, is no value: `current` is `None` then, unless
///   [`keep_deleted`](ConfigBuilder::keep_deleted) was asked for.
/// - It survives lost connections, compaction and restored backups: it then becomes what is in etcd, at once.
pub struct Config<T> {
    shared: Arc<Shared<T>>,
    /// The version of the state that `changed` has told last.
    seen: u64,
}

struct Shared<T> {
    state: Arc<Watchable<State<T>>>,
    /// The mirror that it stands on.
    mirror: Monitor,
    task: AbortHandle,
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct State<T> {
    /// `None` before the first state is known.
    revision: Option<i64>,
    value: Option<Arc<T>>,
    error: Option<DecodeError>,
    decode_errors: u64,
    /// What did not decode last, and when that came.
    failed: Option<(Instant, DecodeError)>,
    end: Option<Ended>,
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self {
            revision: self.revision,
            value: self.value.clone(),
            error: self.error.clone(),
            decode_errors: self.decode_errors,
            failed: self.failed.clone(),
            end: self.end.clone(),
        }
    }
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self { revision: None, value: None, error: None, decode_errors: 0, failed: None, end: None }
    }
}

impl<T: Send + Sync + 'static> Config<T> {
    /// Follows one key, with every setting at its default.
    ///
    /// # Errors
    /// An empty key, or a client that has been closed.
    pub fn value<E: Into<BoxError> + 'static>(
        client: &Client,
        key: impl IntoBytes,
        mut decode: impl FnMut(&[u8]) -> Result<T, E> + Send + 'static,
    ) -> Result<Self, FollowError> {
        ConfigBuilder::key(key).start(client, move |tree| decode(tree.first().unwrap_or_default()))
    }

    /// Follows every key with the prefix, with every setting at its default.
    ///
    /// # Errors
    /// An empty prefix (see [`ConfigBuilder::all_keys`]), or a client that has been closed.
    pub fn tree<E: Into<BoxError> + 'static>(
        client: &Client,
        prefix: impl IntoBytes,
        decode: impl FnMut(&Tree) -> Result<T, E> + Send + 'static,
    ) -> Result<Self, FollowError> {
        ConfigBuilder::prefix(prefix).start(client, decode)
    }
}

impl<T> Config<T> {
    /// The last good value, without waiting; `None` before the first is known, and where there is none.
    #[must_use]
    pub fn current(&self) -> Option<Arc<T>> {
        self.shared.state.read(|state| state.value.clone()).0
    }

    /// Why what is in etcd now is not [`current`](Self::current); `None` if it is.
    #[must_use]
    pub fn error(&self) -> Option<DecodeError> {
        self.shared.state.read(|state| state.error.clone()).0
    }

    /// How often something in etcd did not decode.
    #[must_use]
    pub fn decode_errors(&self) -> u64 {
        self.shared.state.read(|state| state.decode_errors).0
    }

    /// The revision of the change that the value, or the error, comes from (or a later one without a change);
    /// `None` before the first state is known.
    #[must_use]
    pub fn revision(&self) -> Option<i64> {
        self.shared.state.read(|state| state.revision).0
    }

    /// Waits until the first state is known: a value, an error, or that there is none. Cancel-safe.
    ///
    /// # Errors
    /// Why it can't be known.
    pub async fn ready(&self) -> Result<(), Ended> {
        let ready = |state: &State<T>, _| match (&state.revision, &state.end) {
            (Some(_), _) => Some(Ok(())),
            (None, Some(end)) => Some(Err(end.clone())),
            (None, None) => None,
        };
        self.shared.state.until(ready).await
    }

    /// Waits for a change since the last call on this handle: to another value, to an error, or to no value. The first
    /// call returns once the first state is known. Changes between two calls are told as one. Cancel-safe.
    ///
    /// # Errors
    /// Why it follows etcd no more, once every change has been told.
    pub async fn changed(&mut self) -> Result<(), Ended> {
        let seen = self.seen;
        let changed = |state: &State<T>, version| match &state.end {
            // The end is a version of its own.
            Some(end) if version <= seen + 1 => Some(Err(end.clone())),
            _ => (version > seen).then(|| Ok(if state.end.is_some() { version - 1 } else { version })),
        };
        self.seen = self.shared.state.until(changed).await?;
        Ok(())
    }
}

impl<T> Clone for Config<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), seen: self.seen }
    }
}

impl<T: fmt::Debug> fmt::Debug for Config<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.state.read(|state| state.fmt(f)).0
    }
}
