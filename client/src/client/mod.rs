//! The client: what every handle of it shares, and its methods by subject.

mod admin;
mod credentials;
mod endpoints;
mod kv;
mod lease;
mod monitored;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use etcd_watch_core::{Stats, WatchKey, WatchRequest, WatchStats};

use crate::{
    CallError, CallOptions, CallOptionsError, EmptyNamespace, OpenError, Runtime, Watch,
    calls::attempts::Calls,
    namespace::{Namespace, Namespaced},
    runtime::{Backoff, Pace},
    transport::rpc::Unary,
    watch::hub::{Hub, Lifeline},
};

/// A client of one etcd cluster. Cheap to clone; all clones share their connections.
///
/// Watches outlive it: what it stands on ends when the last clone and the last [`Watch`] are gone, or
/// with [`close`](Self::close).
pub struct Client {
    lifeline: Arc<Lifeline>,
    calls: Arc<Calls>,
    namespace: Namespace,
}

impl Clone for Client {
    fn clone(&self) -> Self {
        let Self { lifeline, calls, namespace } = self;
        Self { lifeline: lifeline.clone(), calls: calls.clone(), namespace: namespace.clone() }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Client {
    pub(crate) fn new(hub: Arc<Hub>, calls: Arc<Calls>) -> Self {
        Self { lifeline: Arc::new(Lifeline(hub)), calls, namespace: Namespace::default() }
    }

    /// A backoff for what is built on this client's calls. All of a client's jitter follows from its seed.
    #[must_use]
    pub fn backoff(&self, pace: Pace) -> Backoff {
        self.calls.backoff(pace)
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.lifeline.0
    }

    pub(crate) fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// What the label `client` of this client's metrics says (`ClientBuilder::name`), for metrics of what is built on it.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn name(&self) -> &str {
        self.calls.telemetry().client()
    }

    /// The runtime that this client runs on: for tasks and timers beside it.
    #[must_use]
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        self.calls.runtime()
    }

    /// Opens a watch on a key, `client.watch("name")`, on a range, `client.watch(KeyRange::prefix("names/"))`, or with
    /// options, `client.watch(WatchRequest::new("name").start_revision(17))`. Returns at once; what happens to the
    /// keys, or why the watch can't go on, comes from the handle.
    ///
    /// # Errors
    /// A request that can't be served (the empty key, say), a client that has been closed, or one whose runtime is gone.
    pub fn watch(&self, request: impl Into<WatchRequest>) -> Result<Watch, OpenError> {
        self.calls.check_open()?;
        let request = request.into().more_metadata(self.calls.carried().metadata());
        let prefix = self.namespace.prefix();
        let request = if prefix.is_empty() {
            request
        } else {
            // The empty key would be the prefix itself.
            request.validate().map_err(|error| self.calls.not_opened(error.into()))?;
            request.within(prefix)
        };
        let opened = self.lifeline.0.watch(request);
        let (key, start) = opened.map_err(|misuse| self.calls.not_opened(misuse))?;
        Ok(Watch::new(key, start, self.lifeline.clone(), prefix.len()))
    }

    /// A client that sees only the keys under a prefix, by their names without it: requests get the prefix,
    /// responses and watches lose it. Everything made with it (locks, caches, discovery, ...) is in there, too.
    /// Namespaces nest. Connections and [`stats`](Self::stats) are shared with this client, and
    /// [`close`](Self::close) closes both.
    ///
    /// It is no protection against other clients: that is what users and roles are for.
    ///
    /// # Errors
    /// An empty prefix.
    pub fn namespaced(&self, prefix: impl AsRef<[u8]>) -> Result<Self, EmptyNamespace> {
        Ok(Self { namespace: self.namespace.nested(prefix.as_ref())?, ..self.clone() })
    }

    /// The prefix that this client's keys have on the server; empty for the whole store.
    #[must_use]
    pub fn namespace(&self) -> &Bytes {
        self.namespace.prefix()
    }

    /// A client whose calls carry these options: `client.with_options(CallOptions::new().timeout(SECOND))`. Everything made
    /// with it (watches, mirrors, leases that are kept alive, locks, ...) carries them, too; see [`CallOptions`] for what
    /// each of them does. Options of a client made from that one are added: those given later win. Connections and
    /// [`stats`](Self::stats) are shared with this client, and [`close`](Self::close) closes both.
    ///
    /// ```
    /// use std::time::Duration;
    /// use etcd_watch_client::{CallError, CallOptions, Client};
    ///
    /// async fn ready(client: &Client, trace: &str) -> Result<bool, Box<dyn std::error::Error>> {
    ///     let options = CallOptions::new().timeout(Duration::from_secs(1)).metadata("traceparent", trace);
    ///     Ok(client.with_options(options)?.get("ready").await?.count() > 0)
    /// }
    /// ```
    ///
    /// # Errors
    /// A timeout that is out of range, or metadata or a token that can't be sent.
    pub fn with_options(&self, options: CallOptions) -> Result<Self, CallOptionsError> {
        Ok(Self { calls: self.calls.with(options)?, ..self.clone() })
    }

    /// Makes a call whose keys are in the namespace.
    pub(crate) async fn call<Q>(&self, request: Q) -> Result<<Q as Unary>::Response, CallError>
    where
        Q: Unary + Namespaced<Response = <Q as Unary>::Response>,
    {
        let response = self.calls.call(request.enter(&self.namespace)).await?;
        Ok(Q::leave(response, &self.namespace))
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
