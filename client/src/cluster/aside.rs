//! Connections to members without a leader, to be used again.
//!
//! While a cluster has no leader, calls and watch streams go from member to member. Connections to members that have no
//! leader are put aside until a member with a leader answers. Otherwise every attempt of every client would open a new
//! connection.

use std::sync::{Arc, Mutex};

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

    /// The same after another attempt that found no leader; `None` if it is not to be used again.
    pub(crate) fn found_no_leader(self, dialer: &Dialer) -> Option<Self> {
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

    /// The connection to the best of the candidates with one, if there is any; only the candidates that are better are
    /// left then.
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

    /// Connects to the first of the candidates that is up, over the connection that is kept to it, if there is one; by
    /// `dial` otherwise.
    ///
    /// # Errors
    /// When none is up.
    pub(crate) async fn connect<F: Future<Output = Result<Dialed, Unreached>>>(
        &self,
        mut candidates: Vec<Arc<Endpoint>>,
        dial: impl FnOnce(Vec<Arc<Endpoint>>) -> F,
    ) -> Result<Tried, Unreached> {
        let ended = lock(&self.kept).take_ended();
        drop(ended);
        let kept = lock(&self.kept).take(&mut candidates);
        let Some(kept) = kept else { return Ok(Tried::new(dial(candidates).await?)) };
        if candidates.is_empty() {
            return Ok(kept);
        }
        // Those that come before it may be up again.
        match dial(candidates).await {
            Ok(dialed) => {
                self.put(kept);
                Ok(Tried::new(dialed))
            }
            Err(_) => Ok(kept),
        }
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
