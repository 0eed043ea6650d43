//! What to follow, and how.

use std::sync::Arc;

use bytes::Bytes;
use etcd_watch_core::{IntoBytes, KeyRange, MirrorRequest};
use futures_util::future::{AbortHandle, Abortable};

use super::{Config, FollowError, Shared, State, Tree, follower::Follower};
use crate::{BoxError, Client, toolkit::Watchable};

/// How to follow, and what.
#[derive(Clone, Debug)]
#[must_use = "nothing is followed before it is started"]
pub struct ConfigBuilder {
    keys: KeyRange,
    name: Bytes,
    keep_deleted: bool,
    /// Why that can't be followed.
    refused: Option<FollowError>,
}

impl ConfigBuilder {
    /// Follow one key, which has to have a name.
    pub fn key(key: impl IntoBytes) -> Self {
        let name = key.into_bytes();
        let refused = name.is_empty().then_some(FollowError::EmptyKey);
        Self { keys: KeyRange::key(name.clone()), name, keep_deleted: false, refused }
    }

    /// Follow every key with the prefix. An empty one is refused: most likely a setting is missing. Whoever means it
    /// says [`all_keys`](Self::all_keys).
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        let name = prefix.into_bytes();
        let refused = name.is_empty().then_some(FollowError::EmptyPrefix);
        Self { keys: KeyRange::prefix(name.clone()), name, keep_deleted: false, refused }
    }

    /// Follow every key that the client sees: all there are, or all of its namespace.
    pub fn all_keys() -> Self {
        Self { keys: KeyRange::all(), name: Bytes::new(), keep_deleted: false, refused: None }
    }

    /// Keep the last value when the key (all keys of a tree) is deleted. Default: off.
    pub fn keep_deleted(mut self, on: bool) -> Self {
        self.keep_deleted = on;
        self
    }

    /// Starts following. `decode` makes a value of the keys there are; it isn't asked when there are none. It is
    /// called in the background task, once for each change. If it panics, the configuration
    /// [ends](super::Ended::DecoderPanicked).
    ///
    /// # Errors
    /// An empty key or prefix, or a client that has been closed.
    pub fn start<T, E>(
        self,
        client: &Client,
        decode: impl FnMut(&Tree) -> Result<T, E> + Send + 'static,
    ) -> Result<Config<T>, FollowError>
    where
        T: Send + Sync + 'static,
        E: Into<BoxError> + 'static,
    {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        let mirror = client.mirror(MirrorRequest::new(self.keys))?;
        let state = Arc::new(Watchable::new(State::default()));
        let (task, registration) = AbortHandle::new_pair();
        let (runtime, monitor) = (client.runtime().clone(), mirror.monitor());
        let follower =
            Follower::new(self.name, self.keep_deleted, decode, state.clone(), task.clone(), runtime);
        let following = Abortable::new(follower.run(mirror), registration);
        client.runtime().spawn(Box::pin(async move {
            // Aborted means that nobody is left to tell.
            let _ = following.await;
        }));
        Ok(Config { shared: Arc::new(Shared { state, mirror: monitor, task }), seen: 0 })
    }
}
