//! Whether what a watch received is what it had to receive: the nine rules of etcd's own robustness tests.
//!
//! [`check`] compares what a watch received, from its start and over all its reconnects, with the store's
//! history, and names every rule that was broken. It knows nothing of clients: both sides are [`Change`]s, which
//! whatever has events can be seen as. A [`Checker`] does the same as responses come, in little memory; and a
//! [`StateAt`] is what the store was at a revision, for whoever folds changes. [`agree`] compares watches with each
//! other, without a store's history.
//!
//! | rule | what it demands |
//! |---|---|
//! | [`Filter`](Rule::Filter) | nothing outside the range, nothing filtered out |
//! | [`Ordered`](Rule::Ordered) | revisions never go down |
//! | [`Unique`](Rule::Unique) | no revision of a key twice |
//! | [`Atomic`](Rule::Atomic) | all matching events of a revision in one response |
//! | [`Bookmarkable`](Rule::Bookmarkable) | at a bookmark R everything up to R has come, and nothing of it comes later |
//! | [`Reliable`](Rule::Reliable) | no gap after the first event |
//! | [`Resumable`](Rule::Resumable) | nothing before the start, and no gap between it and the first event |
//! | [`PrevValue`](Rule::PrevValue) | the pair before the change is there if asked for, and the right one |
//! | [`IsCreate`](Rule::IsCreate) | a put that created its key says so, and no other |
//!
//! And, since nothing else would mean much without it, [`Content`](Rule::Content): every event is one of the
//! store's.

mod agreement;
mod change;
mod checker;
mod received;
mod state;

use std::fmt;

use bytes::Bytes;
use etcd_watch_core::KeyRange;
use etcd_watch_proto::mvccpb::Event;

pub use agreement::{Behind, Difference, Disagreement, Verdict, WatchLog, agree};
pub use change::{Change, History, Pair};
pub use checker::Checker;
pub use received::wire_event;
pub use state::StateAt;

#[cfg(test)]
mod tests;

/// What a watch asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The first key, as on the wire.
    pub key: Bytes,
    /// The end, as on the wire: empty for one key, `\0` for "from the key on".
    pub range_end: Bytes,
    /// The first revision it had to see.
    pub from: i64,
    /// Everything up to this revision had to arrive; of no meaning before the [end](Checker::finish).
    pub through: i64,
    /// Puts were filtered out.
    pub no_put: bool,
    /// Deletes were filtered out.
    pub no_delete: bool,
    /// The pairs before the changes were asked for.
    pub prev_kv: bool,
}

impl Watched {
    /// Everything in a range, from the first revision on, without previous pairs.
    #[must_use]
    pub fn range(range: &KeyRange) -> Self {
        Self {
            key: range.start().clone(),
            range_end: range.end().clone(),
            from: 0,
            through: 0,
            no_put: false,
            no_delete: false,
            prev_kv: false,
        }
    }

    /// Whether a key lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.range_end.is_empty() {
            return self.key == key;
        }
        key >= &self.key[..] && (self.range_end == b"\0"[..] || key < &self.range_end[..])
    }

    /// Whether a change has to come, if the watch lasts that long.
    #[must_use]
    pub fn expects(&self, change: &Change<'_>) -> bool {
        change.revision() >= self.from && self.passes(change)
    }

    fn passes(&self, change: &Change<'_>) -> bool {
        let filtered = if change.is_delete { self.no_delete } else { self.no_put };
        !filtered && self.contains(change.kv.key)
    }
}

/// One response, as it reached the application.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received {
    /// Its events, in order; none in a progress response.
    pub events: Vec<Event>,
    /// The revision up to which it claims that everything has been delivered, if it claims that.
    pub bookmark: Option<i64>,
}

/// What a watch must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// An event that the watch did not ask for.
    Filter,
    /// A revision after a later one.
    Ordered,
    /// A revision of a key for the second time.
    Unique,
    /// A revision in more than one response, or in part.
    Atomic,
    /// A bookmark before its time.
    Bookmarkable,
    /// An event missing after others.
    Reliable,
    /// An event before the start, or missing right after it.
    Resumable,
    /// A wrong pair before the change, one not asked for, or none though there was one.
    PrevValue,
    /// A put that claims to have created its key and has not, or the other way.
    IsCreate,
    /// An event that is not one of the store's.
    Content,
}

/// A rule that was broken, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The revision of the event or bookmark.
    pub revision: i64,
    /// The event's key.
    pub key: Bytes,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = String::from_utf8_lossy(&self.key);
        write!(f, "{:?} was broken at revision {}, key {key:?}", self.rule, self.revision)
    }
}

/// Compares what a watch received with `history`: every change of the store since `watched.from`, in order,
/// with previous pairs.
///
/// # Errors
/// Every rule that was broken, each time it was.
pub fn check(history: &[Event], watched: &Watched, received: &[Received]) -> Result<(), Vec<Violation>> {
    let mut checker = Checker::new(watched.clone());
    for response in received {
        checker.response(history, response.events.iter().map(Change::from), response.bookmark);
    }
    checker.finish(history)
}
