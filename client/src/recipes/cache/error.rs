//! What can go wrong with a cache.

use std::{ops::RangeInclusive, time::Duration};

use etcd_watch_core::{CloseReason, KeyRange};

use crate::{CallError, OpenError, WatchError};

/// Why a cache can't go on, or can't be as new as was asked for. The keys it has can be read all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// [`Cache::close`](super::Cache::close) was called.
    #[error("the cache has been closed")]
    Closed,
    /// The mirror ended for good: a permission was denied, the client was closed.
    #[error("the cache ended: {0}")]
    Ended(#[source] WatchError),
    /// The range has more keys than [`CacheRequest::max_keys`](super::CacheRequest::max_keys) allows. Raise it, or cache
    /// fewer keys.
    #[error(
        "the range has more than {limit} keys, the limit of the cache: raise max_keys, or cache fewer keys"
    )]
    TooManyKeys {
        /// The limit.
        limit: u64,
    },
    /// Its task is gone: the runtime was shut down, or the decoder panicked.
    #[error("the cache's task is gone: its runtime was shut down, or its decoder panicked")]
    Stopped,
    /// While a revision was waited for, another store took the place of the one it is of: the revision means
    /// nothing there. Read the revision again.
    #[error("another store has taken the place of the one the revision is of: read the revision again")]
    OtherStore,
    /// The store's revision could not be read.
    #[error("the store's revision could not be read: {0}")]
    Read(#[from] CallError),
    /// The store is at an earlier revision than the cache: it was restored from a backup, and the cache, whose watch
    /// hasn't noticed yet, will list it again; or a proxy answered from memory. Try again later.
    #[error(
        "the store is at revision {revision}, before the cache's {known}: it was restored, or a proxy answers"
    )]
    StoreWentBack {
        /// The cache's revision before the store was asked.
        known: i64,
        /// The store's.
        revision: i64,
    },
    /// It did not come in the time given. Try again, or give it more time.
    #[error("{what} did not come within {after:?}: the cluster can't be reached, or the time is too short")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// The time.
        after: Duration,
    },
    /// The store's revision was read, but the answer doesn't tell it: a proxy has left out the header.
    #[error(
        "the answer has no header that tells the store's revision: read by way of the members, not of this proxy"
    )]
    NoRevision,
}

impl From<WatchError> for CacheError {
    fn from(ended: WatchError) -> Self {
        match *ended.reason() {
            CloseReason::TooManyKeys { limit } => Self::TooManyKeys { limit },
            _ => Self::Ended(ended),
        }
    }
}

/// A cache can't be made as asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheRequestError {
    /// An option is out of range.
    #[error("{field} is {value}: it must be {allowed}")]
    OutOfRange {
        /// The option.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// The mirror was refused: the request can't be served, or the client has ended.
    #[error(transparent)]
    Refused(#[from] OpenError),
}

/// A subscription can't be made as asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// An option is out of range.
    #[error("{field} is {value}: it must be {allowed}")]
    OutOfRange {
        /// The option.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// The cache doesn't have all of these keys: the subscription would be silent about some.
    #[error("{wanted:?} is not within the cache's range, {cached:?}: subscribe to a part of that")]
    OutsideCache {
        /// The keys asked for.
        wanted: Box<KeyRange>,
        /// The cache's.
        cached: Box<KeyRange>,
    },
    /// The state before the start revision is not held any more, or there is none yet.
    #[error("start_revision: {0}")]
    NotHeld(#[from] RevisionNotHeld),
}

/// The cache has no state of this revision: it is too old, or the cache is not there yet
/// ([`Cache::wait_for`](super::Cache::wait_for) waits).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "revision {revision} is not held; held are {}: keep more with CacheRequest::history, or wait for newer ones",
    ranges(held)
)]
#[non_exhaustive]
pub struct RevisionNotHeld {
    /// The revision asked for.
    pub revision: i64,
    /// The revisions held, ascending. More than one range after the keys had to be listed again: what was in
    /// between is not known.
    pub held: Vec<RangeInclusive<i64>>,
}

fn ranges(held: &[RangeInclusive<i64>]) -> String {
    let ranges: Vec<_> = held.iter().map(|range| format!("{} to {}", range.start(), range.end())).collect();
    if ranges.is_empty() { "none".to_owned() } else { ranges.join(", ") }
}

/// Refuses a number that is not a count: counts are from 1 to 4,294,967,295.
pub(super) fn check_count(
    field: &'static str,
    value: usize,
) -> Result<(), (&'static str, String, &'static str)> {
    let is_count = (1..=u32::MAX as usize).contains(&value);
    if is_count { Ok(()) } else { Err((field, value.to_string(), "from 1 to 4294967295")) }
}
