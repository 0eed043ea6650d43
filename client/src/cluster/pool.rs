//! The connection that calls share, apart from those of the watch streams.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

use etcd_watch_core::{Remedy, remedy};

use crate::{
    AttemptError, Endpoint,
    cluster::dialer::{Dialed, Dialer, Unreached},
    runtime::yield_now,
    sync::lock,
    transport::connection::Connection,
};

/// A connection from the pool.
#[derive(Clone, Debug)]
pub(crate) struct Pooled {
    dialed: Dialed,
    serial: u64,
    /// How often its member had no leader before.
    leaderless: u32,
}

impl Pooled {
    pub(crate) fn connection(&self) -> &Connection {
        &self.dialed.connection
    }

    /// One that is not in the pool, and that nobody else uses.
    pub(crate) fn apart(endpoint: Arc<Endpoint>, connection: Connection) -> Self {
        Self { dialed: Dialed { endpoint, connection }, serial: APART, leaderless: 0 }
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
        &self.dialed.endpoint
    }
}

/// The connections of the pool are counted from 1.
const APART: u64 = 0;

/// The pool keeps at most this many connections to members without a leader.
const MOST_ASIDE: usize = 8;

/// After this many attempts in a row that found no leader a connection is replaced: an endpoint may lead to several members.
const MOST_LEADERLESS: u32 = 4;

/// One connection, made when it is needed, replaced when it has failed.
///
/// While a cluster has no leader, calls go from member to member. Connections to members that have no leader are put aside
/// until a member with a leader answers. Otherwise every attempt of every client would open a new connection.
pub(crate) struct Pool {
    pub(crate) dialer: Arc<Dialer>,
    slot: Mutex<Slot>,
    /// Whether connections are put aside, so that answered calls needn't look.
    has_aside: AtomicBool,
    /// Held by the caller that connects: the others wait for it, so that they don't all connect.
    dialing: futures_util::lock::Mutex<()>,
}

struct Slot {
    current: Option<Pooled>,
    /// Connections to members without a leader, the longest put aside first.
    aside: Vec<Pooled>,
    serial: u64,
    /// No connection is kept any more.
    is_closed: bool,
}

impl Slot {
    /// Returns what there is no place for.
    fn put_aside(&mut self, pooled: Pooled) -> Option<Pooled> {
        if self.is_closed {
            return Some(pooled);
        }
        let same = self.aside.iter().position(|other| other.endpoint() == pooled.endpoint());
        let outdated = if self.aside.len() == MOST_ASIDE { same.or(Some(0)) } else { same };
        let surplus = outdated.map(|at| self.aside.remove(at));
        self.aside.push(pooled);
        surplus
    }
}

impl Pool {
    pub(crate) fn new(dialer: Arc<Dialer>) -> Self {
        let slot = Mutex::new(Slot { current: None, aside: Vec::new(), serial: 0, is_closed: false });
        let has_aside = AtomicBool::new(false);
        Self { dialer, slot, has_aside, dialing: futures_util::lock::Mutex::new(()) }
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
        let mut candidates = self.dialer.endpoints.candidates(avoid);
        let (dialed, leaderless) = match self.take_aside(&mut candidates) {
            None => (self.dial(candidates).await?, 0),
            Some(aside) if candidates.is_empty() => (aside.dialed, aside.leaderless),
            // Those that come before it may be up again.
            Some(aside) => match self.dial(candidates).await {
                Ok(dialed) => {
                    let surplus = lock(&self.slot).put_aside(aside);
                    drop(surplus);
                    (dialed, 0)
                }
                Err(_) => (aside.dialed, aside.leaderless),
            },
        };
        let serial = {
            let mut slot = lock(&self.slot);
            slot.serial += 1;
            slot.serial
        };
        // Before others can find the connection, and find it of no use.
        self.dialer.pulse.connected(serial, &dialed.endpoint, self.dialer.runtime().now());
        let mut slot = lock(&self.slot);
        let pooled = Pooled { dialed, serial, leaderless };
        let kept = (!slot.is_closed).then(|| pooled.clone());
        let previous = std::mem::replace(&mut slot.current, kept);
        drop(slot);
        drop(previous);
        Ok(pooled)
    }

    async fn dial(&self, candidates: Vec<Arc<Endpoint>>) -> Result<Dialed, Unreached> {
        // In a box: callers put calls in futures of their own.
        match Box::pin(self.dialer.dial_any(candidates)).await {
            Ok(dialed) => {
                tracing::debug!(name: "calls_connected", endpoint = %dialed.endpoint, "connected for calls");
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

    /// The connection that was put aside to the best of the candidates with one, if there is any; only the candidates that
    /// are better are left then.
    fn take_aside(&self, candidates: &mut Vec<Arc<Endpoint>>) -> Option<Pooled> {
        let aside = &mut lock(&self.slot).aside;
        let place = |endpoint| aside.iter().position(|pooled| pooled.endpoint() == endpoint);
        let (rank, at) = candidates.iter().enumerate().find_map(|(rank, each)| Some((rank, place(each)?)))?;
        candidates.truncate(rank);
        Some(aside.remove(at))
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
        let is_aside = remedy(error.failure()) == Remedy::NoLeader
            && failed.leaderless + 1 < MOST_LEADERLESS
            && self.dialer.endpoints.has_other_than(failed.endpoint());
        if is_aside {
            self.dialer.failed(failed.endpoint(), error);
        } else {
            self.dialer.blame(&failed.dialed, error);
        }
        let mut slot = lock(&self.slot);
        let mut current = slot.current.take_if(|current| current.serial == failed.serial);
        let was_current = current.is_some();
        let mut surplus = None;
        if is_aside && let Some(current) = current.take() {
            surplus = slot.put_aside(Pooled { leaderless: current.leaderless + 1, ..current });
            self.has_aside.store(true, Ordering::Relaxed);
        }
        drop(slot);
        if was_current {
            self.dialer.pulse.disconnected(failed.serial, self.dialer.runtime().now());
        }
        drop((current, surplus));
    }

    /// A call was answered that only a member with a leader answers: others are connected to again when they are needed.
    pub(crate) fn found_leader(&self) {
        if self.has_aside.load(Ordering::Relaxed) {
            let mut slot = lock(&self.slot);
            if let Some(current) = &mut slot.current {
                current.leaderless = 0;
            }
            let aside = self.clear_aside(slot);
            drop(aside);
        }
    }

    /// What was put aside, to be dropped without the lock.
    fn clear_aside(&self, mut slot: MutexGuard<'_, Slot>) -> Vec<Pooled> {
        self.has_aside.store(false, Ordering::Relaxed);
        std::mem::take(&mut slot.aside)
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
        let aside = self.clear_aside(slot);
        drop(aside);
        if let Some(current) = &current {
            self.dialer.pulse.disconnected(current.serial, self.dialer.runtime().now());
        }
        drop(current);
    }
}
