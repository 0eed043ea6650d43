//! What the proxy and its connections share: the faults, the connections there are, and what is counted.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{oneshot, watch};

use super::{
    Cut, Upstream,
    faults::{CutAfter, Faults},
    pump::Direction,
};

#[derive(Debug)]
pub(super) struct Shared {
    faults: watch::Sender<Faults>,
    upstream: Mutex<Upstream>,
    live: Mutex<Live>,
    pub(super) counters: Counters,
}

/// The connections there are, each with the way to cut it.
#[derive(Debug, Default)]
struct Live {
    next: u64,
    connections: BTreeMap<u64, oneshot::Sender<Cut>>,
}

impl Shared {
    pub(super) fn new(upstream: Upstream) -> Self {
        Self {
            faults: watch::Sender::new(Faults::none()),
            upstream: Mutex::new(upstream),
            live: Mutex::default(),
            counters: Counters::default(),
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Faults)) {
        self.faults.send_modify(change);
    }

    pub(super) fn watch_faults(&self) -> watch::Receiver<Faults> {
        self.faults.subscribe()
    }

    pub(super) fn upstream(&self) -> Upstream {
        lock(&self.upstream).clone()
    }

    pub(super) fn set_upstream(&self, upstream: Upstream) {
        *lock(&self.upstream) = upstream;
    }

    /// Enters a connection, and gives it a number and the way to hear that it is cut; or counts it as refused.
    ///
    /// Both under one lock, so that no connection slips in between a command to refuse and one to cut all.
    pub(super) fn enter(&self) -> Option<(u64, oneshot::Receiver<Cut>)> {
        let mut live = lock(&self.live);
        if self.faults.borrow().refuse {
            self.counters.count_refused();
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let id = live.next;
        live.next += 1;
        live.connections.insert(id, sender);
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        Some((id, receiver))
    }

    /// Whether a connection is neither cut nor over.
    pub(super) fn is_live(&self, id: u64) -> bool {
        lock(&self.live).connections.contains_key(&id)
    }

    /// Strikes off a connection that has ended, if it was not cut before.
    pub(super) fn leave(&self, id: u64) {
        lock(&self.live).connections.remove(&id);
    }

    pub(super) fn connections(&self) -> usize {
        lock(&self.live).connections.len()
    }

    pub(super) fn cut_all(&self, cut: Cut) -> usize {
        let mut live = lock(&self.live);
        let connections = std::mem::take(&mut live.connections);
        let count = connections.len();
        self.counters.cuts.fetch_add(count as u64, Ordering::Relaxed);
        for sender in connections.into_values() {
            // A connection that is just ending doesn't listen any more.
            let _ = sender.send(cut);
        }
        count
    }

    /// Lets a connection that has forwarded its bytes cut itself, unless another was to be cut and was faster.
    pub(super) fn cut_one(&self, id: u64, command: CutAfter) -> bool {
        let is_current = |faults: &Faults| faults.cut_after.is_some_and(|now| now.number == command.number);
        let claimed = if command.each {
            is_current(&self.faults.borrow())
        } else {
            self.faults.send_if_modified(|faults| {
                let claimed = is_current(faults);
                if claimed {
                    faults.cut_after = None;
                }
                claimed
            })
        };
        if claimed && lock(&self.live).connections.remove(&id).is_some() {
            self.counters.cuts.fetch_add(1, Ordering::Relaxed);
        }
        claimed
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    cuts: AtomicU64,
    downstream: AtomicU64,
    upstream: AtomicU64,
}

impl Counters {
    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_bytes(&self, direction: Direction, bytes: u64) {
        let counter = match direction {
            Direction::Downstream => &self.downstream,
            Direction::Upstream => &self.upstream,
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }

    pub(super) fn downstream(&self) -> u64 {
        self.downstream.load(Ordering::Relaxed)
    }

    pub(super) fn upstream(&self) -> u64 {
        self.upstream.load(Ordering::Relaxed)
    }
}
