//! The task that follows.

use std::sync::Arc;

use bytes::Bytes;
use etcd_watch_core::{CloseReason, EventKind, MirrorEvent};
use futures_util::future::AbortHandle;

use super::{DecodeError, Ended, State, Tree};
use crate::{BoxError, Mirror, Runtime, toolkit::Watchable};

/// Folds a mirror into a tree, and decodes that.
pub(super) struct Follower<T, D> {
    /// The key or the prefix.
    pub(super) name: Bytes,
    pub(super) keep_deleted: bool,
    pub(super) decode: D,
    pub(super) state: Arc<Watchable<State<T>>>,
    /// By which the last one to read the state ends the task.
    pub(super) task: AbortHandle,
    runtime: Arc<dyn Runtime>,
    tree: Tree,
    /// Whether the tree has changed since it was decoded.
    dirty: bool,
    /// What it is if the task ends now.
    end: Ended,
    #[cfg(feature = "metrics")]
    undecodable: metrics::Counter,
}

impl<T, D> Follower<T, D> {
    pub(super) fn new(
        name: Bytes,
        keep_deleted: bool,
        decode: D,
        state: Arc<Watchable<State<T>>>,
        task: AbortHandle,
        runtime: Arc<dyn Runtime>,
    ) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            undecodable: undecodable(&name),
            tree: Tree::new(name.len()),
            name,
            keep_deleted,
            decode,
            state,
            task,
            runtime,
            dirty: true,
            end: Ended::Stopped,
        }
    }
}

#[cfg(feature = "metrics")]
fn undecodable(name: &[u8]) -> metrics::Counter {
    const NAME: &str = "etcd_watch_config_decode_errors_total";
    let label = metrics::Label::new("config", String::from_utf8_lossy(name).into_owned());
    crate::toolkit::counter(NAME, "Changes of a configuration that did not decode.", label)
}

impl<T, E: Into<BoxError>, D: FnMut(&Tree) -> Result<T, E>> Follower<T, D> {
    pub(super) async fn run(mut self, mut mirror: Mirror) {
        let reason = loop {
            match mirror.try_next().await {
                Ok(Some(event)) => self.fold(&event),
                Ok(None) => break CloseReason::Cancelled,
                Err(end) => break end.into_reason(),
            }
        };
        self.end = Ended::Watch(reason);
    }

    fn fold(&mut self, event: &MirrorEvent) {
        match event {
            MirrorEvent::Snapshot(part) => {
                part.deletes().iter().for_each(|key| self.tree.remove(key));
                part.puts().iter().for_each(|kv| self.tree.insert(kv.key(), kv.value()));
                self.dirty = true;
            }
            MirrorEvent::Changes(response) => {
                for event in response.events() {
                    let kv = event.kv();
                    match event.kind() {
                        EventKind::Delete => self.tree.remove(kv.key()),
                        _ => self.tree.insert(kv.key(), kv.value()),
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
            let keep = self.keep_deleted;
            self.state.change(|state| {
                state.revision = Some(revision);
                state.error = None;
                if !keep {
                    state.value = None;
                }
            });
            return;
        }
        // Here and in what it returns is the only code that isn't our own.
        self.end = Ended::DecoderPanicked;
        match (self.decode)(&self.tree) {
            Ok(value) => {
                self.state.change(|state| {
                    state.revision = Some(revision);
                    state.value = Some(Arc::new(value));
                    state.error = None;
                });
            }
            Err(cause) => {
                let key = self.name.clone();
                let error = DecodeError { key, revision, cause: cause.into().into() };
                tracing::warn!(name: "config_undecodable", key = ?error.key, revision, reason = %error.cause, "a configuration does not decode; the last one stays");
                #[cfg(feature = "metrics")]
                self.undecodable.increment(1);
                let now = self.runtime.now();
                self.state.change(|state| {
                    state.revision = Some(revision);
                    state.failed = Some((now, error.clone()));
                    state.error = Some(error);
                    state.decode_errors += 1;
                });
            }
        }
        self.end = Ended::Stopped;
    }
}

impl<T, D> Drop for Follower<T, D> {
    /// However it came to that, nobody waits in vain.
    fn drop(&mut self) {
        // Nobody is left to tell.
        if self.task.is_aborted() {
            return;
        }
        let end = self.end.clone();
        tracing::warn!(name: "config_ended", key = ?self.name, reason = %end, "a configuration follows etcd no more");
        self.state.change(|state| state.end = Some(end));
    }
}
