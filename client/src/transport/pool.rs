//! The connection that calls share, apart from those of the watch streams.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_watch_core::{Config, Failure};

use crate::{
    ConnectOptions, Runtime,
    auth::Authenticator,
    cluster::endpoint::Accepted,
    cluster::endpoints::{EndpointId, Endpoints},
    runtime::timeout,
    sync::lock,
    transport::wire,
};

/// How connections are made: shared by the calls and the watch streams.
pub(crate) struct Dialer<R> {
    pub(crate) runtime: R,
    pub(crate) endpoints: Arc<Endpoints>,
    /// What endpoints to come may be.
    pub(crate) accepted: Accepted,
    pub(crate) options: ConnectOptions,
    /// The settings of the watches: their backoff and deadlines are those of a mirror's lists, too.
    pub(crate) watch_config: Config,
    pub(crate) dial_timeout: Duration,
    pub(crate) max_message_bytes: usize,
    /// For a client with a user.
    pub(crate) auth: Option<Authenticator>,
}

impl<R: Runtime> Dialer<R> {
    /// Connects to the endpoint, within the time limit.
    pub(crate) async fn dial(&self, id: EndpointId) -> Result<R::Transport, Failure> {
        let endpoint = self.endpoints.get(id);
        // On some runtimes it holds a whole handshake: too much for the future of every call.
        let connect = Box::pin(self.runtime.connect(&endpoint, &self.options));
        match timeout(&self.runtime, self.dial_timeout, connect).await {
            Some(Ok(transport)) => Ok(transport),
            Some(Err(error)) if error.is_tls_refusal() => Err(Failure::tls(wire::chain(&error))),
            Some(Err(error)) => Err(Failure::connection(wire::chain(&error))),
            None => Err(Failure::connection(format!("no connection within {:?}", self.dial_timeout))),
        }
    }
}

/// A connection from the pool.
#[derive(Clone, Debug)]
pub(crate) struct Pooled<T> {
    pub(crate) transport: T,
    pub(crate) endpoint: EndpointId,
    serial: u64,
}

/// One connection, made when it is needed, replaced when it has failed.
pub(crate) struct Pool<R: Runtime> {
    pub(crate) dialer: Arc<Dialer<R>>,
    slot: Mutex<Slot<R::Transport>>,
    /// Held by the caller that connects: the others wait for it, so that they don't all connect.
    dialing: futures_util::lock::Mutex<()>,
}

struct Slot<T> {
    current: Option<Pooled<T>>,
    serial: u64,
}

impl<R: Runtime> Pool<R> {
    pub(crate) fn new(dialer: Arc<Dialer<R>>) -> Self {
        let slot = Mutex::new(Slot { current: None, serial: 0 });
        Self { dialer, slot, dialing: futures_util::lock::Mutex::new(()) }
    }

    /// The connection there is, or a new one to the best endpoint; to another than `avoid`, if there is
    /// another.
    pub(crate) async fn get(&self, avoid: Option<EndpointId>) -> Result<Pooled<R::Transport>, Failure> {
        if let Some(pooled) = self.current(avoid) {
            return Ok(pooled);
        }
        let _dialing = self.dialing.lock().await;
        if let Some(pooled) = self.current(avoid) {
            return Ok(pooled);
        }
        let endpoint = self.dialer.endpoints.pick(avoid);
        match self.dialer.dial(endpoint).await {
            Ok(transport) => {
                tracing::debug!(name: "calls_connected", endpoint = %self.dialer.endpoints.get(endpoint), "connected for calls");
                let mut slot = lock(&self.slot);
                slot.serial += 1;
                let pooled = Pooled { transport, endpoint, serial: slot.serial };
                let previous = slot.current.replace(pooled.clone());
                drop(slot);
                drop(previous);
                Ok(pooled)
            }
            Err(failure) => {
                self.dialer.endpoints.failed(endpoint, self.dialer.runtime.now(), &failure);
                Err(failure)
            }
        }
    }

    fn current(&self, avoid: Option<EndpointId>) -> Option<Pooled<R::Transport>> {
        let endpoints = &self.dialer.endpoints;
        let only_one = endpoints.len() == 1;
        let current = lock(&self.slot).current.clone()?;
        let wanted = endpoints.contains(current.endpoint) && (only_one || Some(current.endpoint) != avoid);
        wanted.then_some(current)
    }

    /// The connection has failed, or its member can't serve: the next caller gets another.
    pub(crate) fn discard(&self, failed: &Pooled<R::Transport>, failure: &Failure) {
        self.dialer.endpoints.failed(failed.endpoint, self.dialer.runtime.now(), failure);
        let mut slot = lock(&self.slot);
        let current = slot.current.take_if(|current| current.serial == failed.serial);
        drop(slot);
        drop(current);
    }

    /// Lets go of the connection.
    pub(crate) fn clear(&self) {
        let current = lock(&self.slot).current.take();
        drop(current);
    }
}
