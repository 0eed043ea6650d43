//! What was checked.

use std::ops::AddAssign;

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Operations in all.
    pub operations: usize,
    /// Those that have made a revision, and said so.
    pub writes: usize,
    /// Those that have seen a revision, and made none.
    pub reads: usize,
    /// Those that may have been executed.
    pub unknown: usize,
    /// Of these, those that have made a revision.
    pub executed: usize,
    /// Those that were not executed.
    pub not_executed: usize,
    /// Leases that ran out with their keys.
    pub expired: usize,
    /// Those whose answer can't be checked: it is older than the truth, or of the past within a transaction.
    pub unverified: usize,
}

impl AddAssign for Checked {
    fn add_assign(&mut self, other: Self) {
        self.operations += other.operations;
        self.writes += other.writes;
        self.reads += other.reads;
        self.unknown += other.unknown;
        self.executed += other.executed;
        self.not_executed += other.not_executed;
        self.expired += other.expired;
        self.unverified += other.unverified;
    }
}
