//! Watches with equal stream options, and the reads they share.
//!
//! ```text
//!   Idle --someone waits--> InFlight --failed, or behind what was seen--> Backoff
//!    ^                         |                                             |
//!    +-------- answered -------+--------------- time is up ------------------+
//! ```

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};

use crate::{
    Config, Instant, RangeKey, TimeoutReason, WatchKey,
    attempts::{Backoff, Patience},
};

/// The watches and lanes of one set of stream options.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) lanes: BTreeSet<u32>,
    /// For watches that start "now" and whose now is not known.
    pub(crate) now: Read,
    /// For watches that were denied on a stream whose token may have expired.
    pub(crate) denial: Read,
}

/// What a read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To learn the current revision.
    Now,
    /// To learn whether the user may have the keys.
    Denial,
}

/// One kind of read: one at a time, and those who wait for the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    /// Watches that wait for the next one, in order.
    pub(crate) waiting: VecDeque<WatchKey>,
    pub(crate) state: ReadState,
    pub(crate) backoff: Backoff,
    pub(crate) patience: Patience,
    /// Ask another endpoint next time.
    pub(crate) elsewhere: bool,
    /// Ask with a new token, until an answer shows that one is good.
    pub(crate) fresh_token: bool,
    /// New tokens refused in a row.
    pub(crate) refused_tokens: u32,
    /// The newest revision that an answer has had.
    pub(crate) shown: Shown,
    /// Since when the answers have been behind what was shown before.
    pub(crate) behind_since: Option<Instant>,
    pub(crate) behind: Backoff,
}

/// Where a read stands.
#[derive(Clone, Debug, Default)]
pub(crate) enum ReadState {
    /// None is under way.
    #[default]
    Idle,
    /// The driver is at it, for these watches; the first one's keys are the ones read.
    InFlight {
        /// Its key.
        key: RangeKey,
        /// Whose it is. Watches that came after it was sent wait for the next one.
        watches: Vec<WatchKey>,
        /// What the store had shown when it was sent: what it finds can't be less.
        shown: Shown,
    },
    /// It failed and is tried again.
    Backoff {
        /// When.
        until: Instant,
    },
}

/// The highest revision that a cluster has shown to exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    cluster_id: u64,
    revision: i64,
}

impl Shown {
    /// A header has told a revision. Another cluster's history is another; 0 is no id.
    pub(crate) fn note(&mut self, cluster_id: u64, revision: i64) {
        if !self.is_of(cluster_id) {
            *self = Self::default();
        }
        self.cluster_id = if cluster_id == 0 { self.cluster_id } else { cluster_id };
        self.revision = self.revision.max(revision);
    }

    pub(crate) fn note_all(&mut self, other: Self) {
        self.note(other.cluster_id, other.revision);
    }

    /// What this cluster has shown; 0 if that was another.
    pub(crate) fn by(&self, cluster_id: u64) -> i64 {
        if self.is_of(cluster_id) { self.revision } else { 0 }
    }

    fn is_of(&self, cluster_id: u64) -> bool {
        cluster_id == 0 || self.cluster_id == 0 || cluster_id == self.cluster_id
    }
}

impl Read {
    pub(crate) fn is_unused(&self) -> bool {
        self.waiting.is_empty() && matches!(self.state, ReadState::Idle)
    }

    pub(crate) fn is_in_flight(&self, range: RangeKey) -> bool {
        matches!(&self.state, ReadState::InFlight { key, .. } if *key == range)
    }

    /// The server has answered, whatever it said, but for the token.
    pub(crate) fn answered(&mut self) {
        self.patience.proved();
        self.backoff.reset();
        self.fresh_token = false;
        self.refused_tokens = 0;
    }

    /// Everything the read waits for.
    fn timeouts(&self, config: &Config) -> impl Iterator<Item = (Instant, TimeoutReason)> + use<> {
        let retry = match self.state {
            ReadState::Backoff { until } => Some((until, TimeoutReason::RetryRange)),
            ReadState::Idle | ReadState::InFlight { .. } => None,
        };
        let is_reading = !matches!(self.state, ReadState::Idle);
        let give_up = self.patience.due(config).filter(|_| is_reading).map(|at| (at, TimeoutReason::GiveUp));
        [retry, give_up].into_iter().flatten()
    }
}

impl Group {
    pub(crate) fn read(&mut self, purpose: Purpose) -> &mut Read {
        match purpose {
            Purpose::Now => &mut self.now,
            Purpose::Denial => &mut self.denial,
        }
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.lanes.is_empty() && self.now.is_unused() && self.denial.is_unused()
    }

    /// Everything the group waits for.
    pub(crate) fn timeouts(&self, config: &Config) -> impl Iterator<Item = (Instant, TimeoutReason)> + use<> {
        self.now.timeouts(config).chain(self.denial.timeouts(config))
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn another_cluster_starts_over_and_no_cluster_id_counts_as_the_same() {
        let mut shown = Shown::default();
        shown.note(0, 5);
        shown.note(7, 3);
        assert_eq!((shown.by(7), shown.by(0), shown.by(8)), (5, 5, 0));
        shown.note(0, 9);
        assert_eq!(shown.by(7), 9);
        shown.note(8, 2);
        assert_eq!((shown.by(7), shown.by(8)), (0, 2));
    }

    #[test]
    fn a_read_is_in_use_while_someone_waits_or_it_is_under_way() {
        let idle = Read::default;
        let waited_for = Read { waiting: [WatchKey(1)].into(), ..idle() };
        let failed = Read { state: ReadState::Backoff { until: Instant::ZERO }, ..idle() };
        assert_eq!([idle(), waited_for, failed.clone()].map(|read| read.is_unused()), [true, false, false]);

        let unused = Group::default;
        let with_lane = Group { lanes: [1].into(), ..unused() };
        let with_read = Group { now: failed.clone(), ..unused() };
        let with_denial = Group { denial: failed, ..unused() };
        let groups = [unused(), with_lane, with_read, with_denial];
        assert_eq!(groups.map(|group| group.is_unused()), [true, false, false, false]);
    }

    #[test]
    fn only_a_read_that_is_under_way_is_given_up() {
        let config = Config::default().unreachable_deadline(Some(Duration::from_secs(3)));
        let at = |secs: u64| Instant::ZERO + Duration::from_secs(secs);
        let mut read = Read::default();
        read.patience.attempt(at(1));
        assert_eq!(read.timeouts(&config).next(), None);
        read.state = ReadState::Backoff { until: at(2) };
        let both = [(at(2), TimeoutReason::RetryRange), (at(4), TimeoutReason::GiveUp)];
        assert!(read.timeouts(&config).eq(both));
        let key = RangeKey(1);
        read.state = ReadState::InFlight { key, watches: Vec::new(), shown: Shown::default() };
        assert!(read.timeouts(&config).eq([both[1]]));
        assert!(read.is_in_flight(key) && !read.is_in_flight(RangeKey(2)));
    }
}
