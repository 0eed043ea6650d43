//! Watches with equal stream options, and the read of the current revision they share.

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};

use crate::{
    Config, Instant, RangeKey, TimeoutReason, WatchKey,
    backoff::{Backoff, Patience},
};

/// The watches and lanes of one set of stream options.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) lanes: BTreeSet<u32>,
    /// Watches that start "now" and whose now is not known.
    pub(crate) waiting: VecDeque<WatchKey>,
    pub(crate) read: RevisionRead,
    pub(crate) backoff: Backoff,
    pub(crate) patience: Patience,
    pub(crate) elsewhere: bool,
    pub(crate) fresh_token: bool,
}

/// The read of the store's current revision.
#[derive(Debug, Default)]
pub(crate) enum RevisionRead {
    /// None is under way.
    #[default]
    Idle,
    /// The driver is at it, for these watches; the first one's keys are the ones read.
    InFlight {
        /// Its key.
        key: RangeKey,
        /// Whose now it will be. Watches opened after it was sent wait for the next one.
        watches: Vec<WatchKey>,
    },
    /// It failed and is tried again.
    Backoff {
        /// When.
        until: Instant,
    },
}

impl Group {
    pub(crate) fn is_unused(&self) -> bool {
        self.lanes.is_empty() && self.waiting.is_empty() && matches!(self.read, RevisionRead::Idle)
    }

    /// Everything the group waits for.
    pub(crate) fn timeouts(&self, config: &Config) -> impl Iterator<Item = (Instant, TimeoutReason)> + use<> {
        let retry = match self.read {
            RevisionRead::Backoff { until } => Some((until, TimeoutReason::RetryRange)),
            RevisionRead::Idle | RevisionRead::InFlight { .. } => None,
        };
        let is_reading = !matches!(self.read, RevisionRead::Idle);
        let give_up = self.patience.due(config).filter(|_| is_reading).map(|at| (at, TimeoutReason::GiveUp));
        [retry, give_up].into_iter().flatten()
    }
}
