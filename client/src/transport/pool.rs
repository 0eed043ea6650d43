//! The connection that calls share, apart from those of the watch streams.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_watch_core::Failure;

use super::{connection::Connection, dialer::Dialer};
use crate::{AttemptError, cluster::endpoints::EndpointId, sync::lock};

/// A connection from the pool.
#[derive(Clone, Debug)]
pub(crate) struct Pooled {
    pub(crate) connection: Connection,
    pub(crate) endpoint: EndpointId,
    serial: u64,
}

/// One connection, made when it is needed, replaced when it has failed.
pub(crate) struct Pool {
    pub(crate) dialer: Arc<Dialer>,
    slot: Mutex<Slot>,
    /// Held by the caller that connects: the others wait for it, so that they don't all connect.
    dialing: futures_util::lock::Mutex<()>,
}

struct Slot {
    current: Option<Pooled>,
    serial: u64,
}

impl Pool {
    pub(crate) fn new(dialer: Arc<Dialer>) -> Self {
        let slot = Mutex::new(Slot { current: None, serial: 0 });
        Self { dialer, slot, dialing: futures_util::lock::Mutex::new(()) }
    }

    /// The connection there is, or a new one to the best endpoint; to another than `avoid`, if there is
    /// another. The endpoint has so much time to connect.
    pub(crate) async fn get(&self, avoid: Option<EndpointId>, limit: Duration) -> Result<Pooled, AttemptError> {
        if let Some(pooled) = self.current(avoid) {
            return Ok(pooled);
        }
        let _dialing = self.dialing.lock().await;
        if let Some(pooled) = self.current(avoid) {
            return Ok(pooled);
        }
        let endpoint = self.dialer.endpoints.pick(avoid);
        match self.dialer.dial_within(endpoint, limit).await {
            Ok(connection) => {
                tracing::debug!(name: "calls_connected", endpoint = %self.dialer.endpoints.get(endpoint), "connected for calls");
                let mut slot = lock(&self.slot);
                slot.serial += 1;
                let pooled = Pooled { connection, endpoint, serial: slot.serial };
                let previous = slot.current.replace(pooled.clone());
                drop(slot);
                drop(previous);
                Ok(pooled)
            }
            Err(error) => {
                self.dialer.endpoints.failed(endpoint, self.dialer.runtime.now(), &error);
                Err(error)
            }
        }
    }

    fn current(&self, avoid: Option<EndpointId>) -> Option<Pooled> {
        let endpoints = &self.dialer.endpoints;
        let only_one = endpoints.len() == 1;
        let current = lock(&self.slot).current.clone()?;
        let wanted = endpoints.contains(current.endpoint) && (only_one || Some(current.endpoint) != avoid);
        wanted.then_some(current)
    }

    /// The connection has failed, or its member can't serve: the next caller gets another.
    pub(crate) fn discard(&self, failed: &Pooled, failure: &Failure) {
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
