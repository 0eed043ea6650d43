//! What a cache has done so far.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use etcd_watch_core::ListProgress;

use crate::toolkit::lock;

/// What a cache has, and what it has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Keys it has.
    pub keys: usize,
    /// Bytes of these keys and their values.
    pub bytes: usize,
    /// The revision it is at; 0 before the first list.
    pub revision: i64,
    /// Subscriptions open.
    pub subscribers: usize,
    /// Lists begun: 1 for one that never had to list again.
    pub lists: u64,
    /// How far the list has come that is under way, if one is: for a progress bar.
    pub list_progress: Option<ListProgress>,
    /// Values that did not decode.
    pub decode_errors: u64,
    /// Resyncs of subscribers that were too slow.
    pub slow_resyncs: u64,
    /// Progress asked of the server because somebody waited.
    pub progress_requests: u64,
    /// Reads that were to show that nothing had changed, because progress was not answered.
    pub proof_reads: u64,
    /// Reads of the store's revision for [`consistent`](super::Cache::consistent).
    pub revision_reads: u64,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How far the list has come that is under way.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Option<ListProgress>>);

impl Progress {
    pub(super) fn set(&self, progress: Option<ListProgress>) {
        *lock(&self.0) = progress;
    }

    pub(super) fn get(&self) -> Option<ListProgress> {
        *lock(&self.0)
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) lists: Count,
    pub(super) list_progress: Progress,
    pub(super) decode_errors: Count,
    pub(super) slow_resyncs: Count,
    pub(super) progress_requests: Count,
    pub(super) proof_reads: Count,
    pub(super) revision_reads: Count,
}
