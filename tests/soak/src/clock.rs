//! When what was acknowledged, and what was compacted.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

/// How many acknowledgements are remembered: minutes of them.
const REMEMBERED: usize = 100_000;

/// What writers and faults tell of the store, and everybody asks. One for each store: after a restore begins another.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    acknowledged: Mutex<VecDeque<(i64, Instant)>>,
    newest: AtomicI64,
    compacted: AtomicI64,
    settled: AtomicI64,
}

impl Clock {
    /// The clock of a store that is at this revision.
    pub(crate) fn starting_at(revision: i64) -> Self {
        Self { newest: AtomicI64::new(revision), ..Self::default() }
    }

    /// A write that made this revision, or found the store at it, has been acknowledged.
    pub(crate) fn acknowledge(&self, revision: i64) {
        let now = Instant::now();
        self.newest.fetch_max(revision, Ordering::Relaxed);
        let mut acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let at = acknowledged.partition_point(|&(other, _)| other < revision);
        if acknowledged.get(at).is_none_or(|&(other, _)| other != revision) {
            acknowledged.insert(at, (revision, now));
        }
        if acknowledged.len() > REMEMBERED {
            acknowledged.pop_front();
        }
    }

    /// When a revision was acknowledged, if its writer heard of it.
    pub(crate) fn acknowledged(&self, revision: i64) -> Option<Instant> {
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let at = acknowledged.binary_search_by_key(&revision, |&(other, _)| other).ok()?;
        Some(acknowledged[at].1)
    }

    /// The highest revision that was acknowledged.
    pub(crate) fn newest(&self) -> i64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// Nobody needs history up to this revision any more.
    pub(crate) fn settle(&self, revision: i64) {
        self.settled.fetch_max(revision, Ordering::SeqCst);
    }

    /// The revision up to which nobody needs history.
    pub(crate) fn settled(&self) -> i64 {
        self.settled.load(Ordering::SeqCst)
    }

    /// A compaction at this revision is about to be asked for.
    pub(crate) fn compact(&self, revision: i64) {
        self.compacted.fetch_max(revision, Ordering::SeqCst);
    }

    /// The highest revision that a compaction was asked for.
    pub(crate) fn compacted(&self) -> i64 {
        self.compacted.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_was_acknowledged_when_it_was_first_heard_of() {
        let clock = Clock::default();
        for revision in [5, 3, 9, 5] {
            clock.acknowledge(revision);
        }
        let at = |revision| clock.acknowledged(revision);
        assert!(at(5) < at(3) && at(3) < at(9));
        assert_eq!((at(4), clock.newest()), (None, 9));
    }
}
