//! Configuration that follows etcd: a typed value, or a tree of keys, always there to read.
//!
//! ```no_run
//! use etcd_watch_client::{Client, Runtime, config::Config};
//!
//! async fn limits<R: Runtime>(client: &Client<R>) -> Result<(), Box<dyn std::error::Error>> {
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
//! # Logs
//! By way of `tracing`: `config_undecodable` (warn; `key`, `revision`, `reason`), `config_ended` (warn; `key`,
//! `reason`).

#[cfg(feature = "json")]
mod json;
mod tree;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use etcd_watch_core::{ApiMisuse, CloseReason, EventKind, KeyRange, MirrorEvent, MirrorRequest};
use futures_util::future::{AbortHandle, abortable};

use crate::{BoxError, Client, Mirror, Runtime, watchable::Watchable};

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
    end: Option<CloseReason>,
}

/// What is in etcd does not decode.
#[derive(Clone, Debug, thiserror::Error)]
#[error("what is at {} at revision {revision} does not decode: {cause}", String::from_utf8_lossy(.key))]
#[non_exhaustive]
pub struct DecodeError {
    /// The key, or the tree's prefix.
    pub key: Bytes,
    /// The revision at which it was found to be so.
    pub revision: i64,
    /// The decoder's word.
    #[source]
    pub cause: Arc<dyn std::error::Error + Send + Sync>,
}

/// It follows etcd no more; the last value stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration follows etcd no more: {0}")]
pub struct Ended(pub CloseReason);

/// How to follow, and what.
#[derive(Clone, Debug)]
#[must_use = "nothing is followed before it is started"]
pub struct ConfigBuilder {
    keys: KeyRange,
    name: Bytes,
    keep_deleted: bool,
}

impl ConfigBuilder {
    /// Follow one key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        let name = key.into();
        Self { keys: KeyRange::key(name.clone()), name, keep_deleted: false }
    }

    /// Follow every key with the prefix.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let name = prefix.into();
        Self { keys: KeyRange::prefix(name.clone()), name, keep_deleted: false }
    }

    /// Keep the last value when the key (all keys of a tree) is deleted. Default: off.
    pub fn keep_deleted(mut self, on: bool) -> Self {
        self.keep_deleted = on;
        self
    }

    /// Starts following. `decode` makes a value of the keys there are; it isn't asked when there are none. It is
    /// called in the background task, once for each change.
    ///
    /// # Errors
    /// A client that has been closed.
    pub fn start<R, T, E>(
        self,
        client: &Client<R>,
        decode: impl FnMut(&Tree) -> Result<T, E> + Send + 'static,
    ) -> Result<Config<T>, ApiMisuse>
    where
        R: Runtime,
        T: Send + Sync + 'static,
        E: Into<BoxError> + 'static,
    {
        let mirror = client.mirror(MirrorRequest::new(self.keys.clone()))?;
        let state = State { revision: None, value: None, error: None, decode_errors: 0, end: None };
        let state = Arc::new(Watchable::new(state));
        let tree = Tree::new(self.name.len());
        let follower = Follower { tree, dirty: true, decode, settings: self, state: state.clone() };
        let (following, task) = abortable(follower.run(mirror));
        client.calls().runtime().spawn(async move {
            // Aborted means that nobody is left to tell.
            let _ = following.await;
        });
        Ok(Config { shared: Arc::new(Shared { state, task }), seen: 0 })
    }
}

/// The task that follows.
struct Follower<T, D> {
    tree: Tree,
    /// Whether the tree has changed since it was decoded.
    dirty: bool,
    decode: D,
    settings: ConfigBuilder,
    state: Arc<Watchable<State<T>>>,
}

impl<T, E: Into<BoxError>, D: FnMut(&Tree) -> Result<T, E>> Follower<T, D> {
    async fn run<R: Runtime>(mut self, mut mirror: Mirror<R>) {
        let end = loop {
            match mirror.try_next().await {
                Ok(Some(event)) => self.fold(&event),
                Ok(None) => break CloseReason::Cancelled,
                Err(end) => break end.into_reason(),
            }
        };
        tracing::warn!(name: "config_ended", key = ?self.settings.name, reason = %end, "a configuration follows etcd no more");
        self.state.change(|state| state.end = Some(end));
    }

    fn fold(&mut self, event: &MirrorEvent) {
        match event {
            MirrorEvent::Snapshot(part) => {
                part.deletes().iter().for_each(|key| self.tree.remove(key));
                part.puts().iter().for_each(|kv| self.tree.insert(kv.key.clone(), kv.value.clone()));
                self.dirty = true;
            }
            MirrorEvent::Changes(response) => {
                for event in response.events() {
                    let kv = event.kv();
                    match event.kind() {
                        EventKind::Delete => self.tree.remove(kv.key()),
                        // What is kept must not keep a whole response.
                        _ => self
                            .tree
                            .insert(Bytes::copy_from_slice(kv.key()), Bytes::copy_from_slice(kv.value())),
                    }
                }
                self.dirty = true;
            }
            _ => {}
        }
        if let Some(revision) = event.synced_revision() {
            self.publish(revision);
        }
    }

    fn publish(&mut self, revision: i64) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        if self.tree.is_empty() {
            let keep = self.settings.keep_deleted;
            self.state.change(|state| {
                state.revision = Some(revision);
                state.error = None;
                if !keep {
                    state.value = None;
                }
            });
            return;
        }
        match (self.decode)(&self.tree) {
            Ok(value) => {
                self.state.change(|state| {
                    state.revision = Some(revision);
                    state.value = Some(Arc::new(value));
                    state.error = None;
                });
            }
            Err(cause) => {
                let key = self.settings.name.clone();
                let error = DecodeError { key, revision, cause: cause.into().into() };
                tracing::warn!(name: "config_undecodable", key = ?error.key, revision, reason = %error.cause, "a configuration does not decode; the last one stays");
                self.state.change(|state| {
                    state.revision = Some(revision);
                    state.error = Some(error);
                    state.decode_errors += 1;
                });
            }
        }
    }
}

impl<T: Send + Sync + 'static> Config<T> {
    /// Follows one key, with every setting at its default.
    ///
    /// # Errors
    /// A client that has been closed.
    pub fn value<R: Runtime, E: Into<BoxError> + 'static>(
        client: &Client<R>,
        key: impl Into<Bytes>,
        mut decode: impl FnMut(&[u8]) -> Result<T, E> + Send + 'static,
    ) -> Result<Self, ApiMisuse> {
        ConfigBuilder::key(key).start(client, move |tree| decode(tree.first().unwrap_or_default()))
    }

    /// Follows every key with the prefix, with every setting at its default.
    ///
    /// # Errors
    /// A client that has been closed.
    pub fn tree<R: Runtime, E: Into<BoxError> + 'static>(
        client: &Client<R>,
        prefix: impl Into<Bytes>,
        decode: impl FnMut(&Tree) -> Result<T, E> + Send + 'static,
    ) -> Result<Self, ApiMisuse> {
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
            (None, Some(end)) => Some(Err(Ended(end.clone()))),
            (None, None) => None,
        };
        self.shared.state.until(ready).await
    }

    /// Waits for a change since this handle's last call (since the beginning, for the first): of the value, to an
    /// error, or to none. Changes in between are not told one by one. Cancel-safe.
    ///
    /// # Errors
    /// Why it follows etcd no more, once every change has been told.
    pub async fn changed(&mut self) -> Result<(), Ended> {
        let seen = self.seen;
        let changed = |state: &State<T>, version| match &state.end {
            // The end is a version of its own.
            Some(end) if version <= seen + 1 => Some(Err(Ended(end.clone()))),
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
