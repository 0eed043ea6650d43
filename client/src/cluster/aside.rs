//! Connections to members without a leader, to be used again.
//!
//! While a cluster has no leader, calls and watch streams go from member to member. Connections to members that have no
//! leader are put aside until a member with a leader answers. Otherwise every attempt of every client would open a new
//! connection.

use std::sync::{Arc, Mutex};

use etcd_watch_core::Remedy;

use crate::{
    Endpoint,
    cluster::dialer::{Dialed, Dialer, Unreached},
    sync::lock,
};

/// After this many attempts in a row that found no leader a connection is replaced: an endpoint may lead to several members.
const MOST_LEADERLESS: u32 = 4;

/// A connection, and how often in a row its member had no leader.
#[derive(Clone, Debug)]
pub(crate) struct Tried {
    pub(crate) dialed: Dialed,
    pub(crate) leaderless: u32,
}

impl Tried {
    pub(crate) fn new(dialed: Dialed) -> Self {
        Self { dialed, leaderless: 0 }
    }

    /// Counts one more attempt, which failed so. `None` if the connection must not be used again.
    pub(crate) fn again(self, remedy: Remedy, dialer: &Dialer) -> Option<Self> {
        if remedy != Remedy::NoLeader {
            return None;
        }
        let leaderless = self.leaderless + 1;
        let is_kept = leaderless < MOST_LEADERLESS && dialer.endpoints.has_other_than(&self.dialed.endpoint);
        is_kept.then_some(Self { leaderless, ..self })
    }
}

/// Connections to members without a leader.
#[derive(Debug)]
pub(crate) struct Aside {
    /// At most so many connections are kept.
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The longest put aside first.
    connections: Vec<Tried>,
    /// No connection is kept any more.
    is_closed: bool,
}

impl Kept {
    /// Returns what there is no place for.
    fn put(&mut self, tried: Tried, most: usize) -> Option<Tried> {
        if self.is_closed {
            return Some(tried);
        }
        let surplus = (self.connections.len() == most).then(|| self.connections.remove(0));
        self.connections.push(tried);
        surplus
    }

    /// The connections that have ended meanwhile: those of a member that was restarted, say.
    fn take_ended(&mut self) -> Vec<Tried> {
        self.connections.extract_if(.., |tried| tried.dialed.connection.is_closed()).collect()
    }

    /// Takes the connection to the first candidate that has one. Leaves only the candidates before it in the list.
    fn take(&mut self, candidates: &mut Vec<Arc<Endpoint>>) -> Option<Tried> {
        let connections = &mut self.connections;
        let place = |endpoint: &Arc<Endpoint>| {
            connections.iter().position(|tried| tried.dialed.endpoint == *endpoint)
        };
        let (rank, at) = candidates.iter().enumerate().find_map(|(rank, each)| Some((rank, place(each)?)))?;
        candidates.truncate(rank);
        Some(connections.remove(at))
    }
}

impl Aside {
    /// Keeps so many connections at most.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    /// Keeps a connection.
    pub(crate) fn put(&self, tried: Tried) {
        let surplus = lock(&self.kept).put(tried, self.most);
        drop(surplus);
    }

    /// Connects to the first of the candidates that is up, or uses the connection that is kept to it. `dial` is given the
    /// candidates before that one, or all if no connection is kept, and the kept one for when they fail or are late.
    ///
    /// # Errors
    /// When none is up.
    pub(crate) async fn connect<F: Future<Output = Result<Dialed, Unreached>>>(
        &self,
        mut candidates: Vec<Arc<Endpoint>>,
        dial: impl FnOnce(Vec<Arc<Endpoint>>, Option<Dialed>) -> F,
    ) -> Result<Tried, Unreached> {
        let (ended, kept) = {
            let mut all = lock(&self.kept);
            (all.take_ended(), all.take(&mut candidates))
        };
        drop(ended);
        let Some(kept) = kept else { return Ok(Tried::new(dial(candidates, None).await?)) };
        if candidates.is_empty() {
            return Ok(kept);
        }
        // Better candidates may be up again: they are tried first.
        match dial(candidates, Some(kept.dialed.clone())).await {
            Ok(dialed) if dialed.endpoint != kept.dialed.endpoint => {
                self.put(kept);
                Ok(Tried::new(dialed))
            }
            _ => Ok(kept),
        }
    }

    /// Whether no connection is kept.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.kept).connections.is_empty()
    }

    /// A member with a leader has answered: others are connected to again when they are needed.
    pub(crate) fn clear(&self) {
        let connections = std::mem::take(&mut lock(&self.kept).connections);
        drop(connections);
    }

    /// Keeps no connection any more.
    pub(crate) fn close(&self) {
        lock(&self.kept).is_closed = true;
        self.clear();
    }
}
