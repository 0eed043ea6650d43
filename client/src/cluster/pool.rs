//! The connection that calls share, apart from those of the watch streams.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use etcd_watch_core::remedy;

use crate::{
    AttemptError, Endpoint,
    cluster::{
        aside::{Aside, Tried},
        dialer::{Dialed, Dialer, Unreached},
    },
    runtime::yield_now,
    sync::lock,
    transport::connection::Connection,
};

/// A connection from the pool.
#[derive(Clone, Debug)]
pub(crate) struct Pooled {
    tried: Tried,
    serial: u64,
}

impl Pooled {
    pub(crate) fn connection(&self) -> &Connection {
        &self.tried.dialed.connection
    }

    /// One that is not in the pool, and that nobody else uses.
    pub(crate) fn apart(endpoint: Arc<Endpoint>, connection: Connection) -> Self {
        Self { tried: Tried::new(Dialed { endpoint, connection }), serial: APART }
    }

    /// Whether it is not in the pool.
    pub(crate) fn is_apart(&self) -> bool {
        self.serial == APART
    }

    /// Whether it is the very same connection.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.serial == other.serial
    }

    /// The endpoint it goes to.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.tried.dialed.endpoint
    }
}

/// The connections of the pool are counted from 1.
const APART: u64 = 0;

/// At most this many connections to members without a leader are kept.
const MOST_ASIDE: usize = 8;

/// One connection, made when it is needed, replaced when it has failed. Connections to members that have no leader are put
/// aside until a member with a leader answers.
pub(crate) struct Pool {
    pub(crate) dialer: Arc<Dialer>,
    slot: Mutex<Slot>,
    aside: Aside,
    /// Whether connections are put aside, so that answered calls needn't look.
    has_aside: AtomicBool,
    /// Held by the caller that connects: the others wait for it, so that they don't all connect.
    dialing: futures_util::lock::Mutex<()>,
}

struct Slot {
    current: Option<Pooled>,
    serial: u64,
    /// No connection is kept any more.
    is_closed: bool,
}

impl Pool {
    pub(crate) fn new(dialer: Arc<Dialer>) -> Self {
        let slot = Mutex::new(Slot { current: None, serial: 0, is_closed: false });
        let has_aside = AtomicBool::new(false);
        Self {
            dialer,
            slot,
            aside: Aside::new(MOST_ASIDE),
            has_aside,
            dialing: futures_util::lock::Mutex::new(()),
        }
    }

    /// The connection there is, or a new one to the first endpoint that is up, best first; to `avoid` only if no
    /// other is.
    ///
    /// # Errors
    /// When none is: all have been tried then.
    pub(crate) async fn get(&self, avoid: Option<&Endpoint>) -> Result<Pooled, Unreached> {
        if let Some(pooled) = self.current(avoid) {
            return Ok(pooled);
        }
        let _dialing = self.dialing.lock().await;
        if let Some(pooled) = self.current(avoid) {
            return Ok(pooled);
        }
        let candidates = self.dialer.endpoints.candidates(avoid);
        let dial = |candidates, kept| self.dial(candidates, kept);
        let tried = self.aside.connect(candidates, dial).await?;
        let serial = {
            let mut slot = lock(&self.slot);
            slot.serial += 1;
            slot.serial
        };
        // Before others can find the connection, and find it of no use.
        self.dialer.pulse.connected(serial, &tried.dialed.endpoint, self.dialer.runtime().now());
        let mut slot = lock(&self.slot);
        let pooled = Pooled { tried, serial };
        let kept = (!slot.is_closed).then(|| pooled.clone());
        let previous = std::mem::replace(&mut slot.current, kept);
        drop(slot);
        drop(previous);
        Ok(pooled)
    }

    async fn dial(&self, candidates: Vec<Arc<Endpoint>>, kept: Option<Dialed>) -> Result<Dialed, Unreached> {
        let connected_to = kept.as_ref().map(|kept| kept.endpoint.clone());
        // In a box: callers put calls in futures of their own.
        match Box::pin(self.dialer.dial_any(candidates, kept)).await {
            Ok(dialed) => {
                if connected_to.as_ref() != Some(&dialed.endpoint) {
                    tracing::debug!(name: "calls_connected", endpoint = %dialed.endpoint, "connected for calls");
                }
                Ok(dialed)
            }
            Err(unreached) => {
                // On a runtime that has shut down everything fails at once, pauses too: without this a caller that
                // tries again would never come to its own time limit.
                yield_now().await;
                Err(unreached)
            }
        }
    }

    /// The connection there is, if it goes to this endpoint, which is still one of the client's.
    pub(crate) fn current_to(&self, endpoint: &Endpoint) -> Option<Pooled> {
        let current = lock(&self.slot).current.clone()?;
        (**current.endpoint() == *endpoint && self.dialer.endpoints.contains(endpoint)).then_some(current)
    }

    fn current(&self, avoid: Option<&Endpoint>) -> Option<Pooled> {
        let endpoints = &self.dialer.endpoints;
        let current = lock(&self.slot).current.clone()?;
        let endpoint = current.endpoint();
        let is_avoided = Some(&**endpoint) == avoid;
        let wanted = endpoints.contains(endpoint) && (!is_avoided || !endpoints.has_other_than(endpoint));
        wanted.then_some(current)
    }

    /// The connection has failed, or its member can't serve: the next caller gets another.
    pub(crate) fn discard(&self, failed: &Pooled, error: &AttemptError) {
        let kept = failed.tried.clone().again(remedy(error.failure()), &self.dialer);
        match kept {
            Some(_) => self.dialer.failed(failed.endpoint(), error),
            None => self.dialer.blame(&failed.tried.dialed, error),
        }
        let current = lock(&self.slot).current.take_if(|current| current.serial == failed.serial);
        if current.is_some() {
            if let Some(kept) = kept {
                self.aside.put(kept);
                // Afterwards, so that whoever sees it finds the connection.
                self.has_aside.store(true, Ordering::Release);
            }
            self.dialer.pulse.disconnected(failed.serial, self.dialer.runtime().now());
        }
        drop(current);
    }

    /// A call was answered that only a member with a leader answers: others are connected to again when they are needed.
    pub(crate) fn found_leader(&self) {
        if self.has_aside.load(Ordering::Relaxed) && self.has_aside.swap(false, Ordering::Acquire) {
            let mut slot = lock(&self.slot);
            if let Some(current) = &mut slot.current {
                current.tried.leaderless = 0;
            }
            drop(slot);
            self.aside.clear();
        }
    }

    /// A call was answered on this connection: by the member, whatever it said.
    pub(crate) fn heard(&self, at: &Pooled) {
        self.dialer.pulse.answered(at.serial, self.dialer.runtime().now());
    }

    /// A call was answered on this connection, and the member is well.
    pub(crate) fn answered(&self, at: &Pooled) {
        self.dialer.endpoints.answered(at.endpoint());
        self.heard(at);
    }

    /// Lets go of the connection, and keeps none any more.
    pub(crate) fn close(&self) {
        let mut slot = lock(&self.slot);
        slot.is_closed = true;
        let current = slot.current.take();
        drop(slot);
        self.aside.close();
        if let Some(current) = &current {
            self.dialer.pulse.disconnected(current.serial, self.dialer.runtime().now());
        }
        drop(current);
    }
}
