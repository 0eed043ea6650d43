//! Why a transaction was not committed.

use std::time::Duration;

use crate::CallError;

/// Why a transaction was not committed, or may not have been. `E` is the error of its closure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StmError<E> {
    /// The closure returned an error. Nothing was written.
    #[error("the transaction was aborted: {0}")]
    Aborted(E),
    /// Others changed what the transaction read or writes, each time, until the limit was reached. Nothing was written.
    #[error(
        "the transaction conflicted with others in all of {attempts} attempts within {after:?}: raise time_limit or max_attempts, or touch fewer keys"
    )]
    Contended {
        /// How often it was tried.
        attempts: u32,
        /// For how long.
        after: Duration,
    },
    /// The commit was sent, and its answer was lost: the transaction may or may not have been committed, and it may yet
    /// be. It was not tried again, since it would then see its own writes as another's, and could take place twice. Read
    /// back what it writes: see [`Stm`](super::Stm).
    #[error("the transaction may or may not have been committed: {0}")]
    MaybeCommitted(CallError),
    /// The commit, or the reads that were [asked for beforehand](super::Stm::prefetch), failed. Nothing was written.
    #[error(transparent)]
    Call(CallError),
    /// What was read has no revision, so that it can't be known whether it was changed since: a proxy has left out the
    /// header. Nothing was written.
    #[error(
        "an answer has no header that tells the store's revision: run transactions by way of the members, not of this proxy"
    )]
    NoRevision,
}
