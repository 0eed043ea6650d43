//! The client.

use std::{fmt, sync::Arc};

use etcd_watch_core::{ApiMisuse, KeyRange, Stats, WatchKey, WatchRequest, WatchStats};

use crate::{
    AmbientRuntime, ClientBuilder, Runtime, StartError, Watch,
    calls::Calls,
    hub::{Hub, Lifeline},
};

/// A client of one etcd cluster. Cheap to clone; all clones share their connections.
///
/// Watches outlive it: what it stands on ends when the last clone and the last [`Watch`] are gone, or
/// with [`close`](Self::close).
pub struct Client<R: Runtime> {
    lifeline: Arc<Lifeline>,
    calls: Arc<Calls<R>>,
}

impl<R: Runtime> Clone for Client<R> {
    fn clone(&self) -> Self {
        Self { lifeline: self.lifeline.clone(), calls: self.calls.clone() }
    }
}

impl<R: Runtime> fmt::Debug for Client<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl<R: AmbientRuntime> Client<R> {
    /// A client of the cluster with these endpoints, every setting at its default. Returns at once:
    /// connections are made when there is something to use them for, and for as long as no endpoint can
    /// be reached the client warns and goes on trying.
    ///
    /// # Errors
    /// An empty list, or an endpoint that is none.
    pub async fn connect<E: Into<String>>(
        endpoints: impl IntoIterator<Item = E>,
    ) -> Result<Self, StartError> {
        Self::builder().endpoints(endpoints).connect().await
    }

    /// A client with settings of its own.
    pub fn builder() -> ClientBuilder<R> {
        ClientBuilder::on_ambient()
    }
}

impl<R: Runtime> Client<R> {
    pub(crate) fn new(hub: Arc<Hub>, calls: Arc<Calls<R>>) -> Self {
        Self { lifeline: Arc::new(Lifeline(hub)), calls }
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.lifeline.0
    }

    pub(crate) fn calls(&self) -> &Arc<Calls<R>> {
        &self.calls
    }

    /// Opens a watch. Returns at once; what happens to the keys, or why the watch can't go on, comes
    /// from the handle.
    ///
    /// # Errors
    /// A request that can't be served, or a client that has been closed.
    pub fn watch(&self, request: WatchRequest) -> Result<Watch, ApiMisuse> {
        let (key, start) = self.lifeline.0.watch(request)?;
        Ok(Watch::new(key, start, self.lifeline.clone()))
    }

    /// Opens a watch on every key with the prefix, from now on.
    ///
    /// # Errors
    /// A client that has been closed.
    pub fn watch_prefix(&self, prefix: impl Into<bytes::Bytes>) -> Result<Watch, ApiMisuse> {
        self.watch(WatchRequest::new(KeyRange::prefix(prefix)))
    }

    /// What the watches of this client have done so far, and what waits for their consumers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.lifeline.0.stats()
    }

    /// How each watch is doing, in the order in which they were opened: where it is, what waits for its
    /// consumer, how far that lags.
    #[must_use]
    pub fn watch_stats(&self) -> Vec<(WatchKey, WatchStats)> {
        self.lifeline.0.all_watch_stats()
    }

    /// Ends every watch ([`ShutDown`](etcd_watch_core::CloseReason::ShutDown)), refuses further calls,
    /// and returns once the streams have been reset. Also for all clones.
    pub async fn close(&self) {
        self.calls.close();
        self.lifeline.0.stop();
        self.lifeline.0.ended().await;
    }
}
