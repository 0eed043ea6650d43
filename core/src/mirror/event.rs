//! What a mirror hands out.

use alloc::vec::Vec;
use bytes::Bytes;
use core::{fmt, ops::Bound};

use super::Pairs;
use crate::{CloseReason, EventKind, OwnedKeyValue, WatchResponse};

/// What [`Mirror::next`](crate::Mirror::next) hands out. A consumer folds it, in order, into whatever it
/// keeps of the store: a map, a table, a set of addresses.
///
/// # Protocol
/// ```text
///   (Listing Snapshot*)+ Synced ( Changes | Synced | (Listing Snapshot*)+ Synced )* Closed
/// ```
///
/// A mirror that [resumes](crate::MirrorRequest::resume) begins as if it had just said `Synced`.
///
/// - [`Listing`](Self::Listing) opens a bracket, and the next [`Synced`](Self::Synced) closes it. **Between
///   them the fold is a mix** of an older state and the one that is being listed: show readers what you had
///   before, or nothing, or tell them. That is what keeps memory bounded: nothing is held back until the list
///   is complete.
/// - A further `Listing` before the `Synced` says that the list began again, at a later revision. What was
///   handed out stays folded; the new list corrects it.
/// - [`Synced`](Self::Synced) means: **the fold is now exactly the store at this revision**, as far as the
///   mirror's keys go. It closes a bracket, and outside of one it says that there was nothing new up to that
///   revision.
/// - [`Changes`](Self::Changes) come outside of brackets only; with all of its events folded in, the fold is
///   exactly the store at [`revision`](WatchResponse::revision).
/// - [`Closed`](Self::Closed) is the end: exactly once, and last. If a bracket is open, it is never closed.
///
/// The revisions of `Synced` and `Changes` never go down, until a `Listing` says that it is
/// [another store](ListReason::is_other_store): then they start over. (One exception: an event that a server
/// sends after it had vouched that there is none, which faulty ones do, comes late rather than never. Take
/// the largest.)
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MirrorEvent {
    /// The keys are being listed, at this revision.
    Listing {
        /// The revision that all the parts to come are of.
        revision: i64,
        /// Why they are listed.
        reason: ListReason,
    },
    /// A part of the list.
    Snapshot(SnapshotPart),
    /// The fold is exactly the store at this revision.
    Synced {
        /// The revision.
        revision: i64,
    },
    /// Events of the watch, whole revisions of them.
    Changes(WatchResponse),
    /// The end.
    Closed(CloseReason),
}

impl MirrorEvent {
    /// What to fold in: each key that the event changes, with its value, or `None` for a key that is gone; in the order
    /// to do it in. A list [without an index](crate::MirrorRequest::keep_index) names no keys that are gone: a consumer of
    /// one forgets all keys at [`Listing`](Self::Listing), or looks for those that are
    /// [missing](SnapshotPart::missing).
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use etcd_watch_core::MirrorEvent;
    ///
    /// fn fold(mine: &mut BTreeMap<Vec<u8>, Vec<u8>>, event: &MirrorEvent) {
    ///     for (key, value) in event.updates() {
    ///         match value {
    ///             Some(value) => mine.insert(key.to_vec(), value.to_vec()),
    ///             None => mine.remove(key),
    ///         };
    ///     }
    /// }
    /// ```
    pub fn updates(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let (part, response) = match self {
            Self::Snapshot(part) => (Some(part), None),
            Self::Changes(response) => (None, Some(response)),
            Self::Listing { .. } | Self::Synced { .. } | Self::Closed(_) => (None, None),
        };
        let listed = part.into_iter().flat_map(|part| {
            let deletes = part.deletes.iter().map(|key| (&key[..], None));
            deletes.chain(part.puts.iter().map(|kv| (kv.key(), Some(kv.value()))))
        });
        let changed = response.into_iter().flat_map(WatchResponse::events).map(|event| match event.kind() {
            EventKind::Put => (event.key(), Some(event.value())),
            EventKind::Delete => (event.key(), None),
        });
        listed.chain(changed)
    }

    /// The revision of the store that the fold is exactly at once the event is folded in; `None` if it is at
    /// none, or if the event is the end.
    #[must_use]
    pub fn synced_revision(&self) -> Option<i64> {
        match self {
            Self::Synced { revision } => Some(*revision),
            Self::Changes(response) => Some(response.revision()),
            Self::Listing { .. } | Self::Snapshot(_) | Self::Closed(_) => None,
        }
    }
}

/// Why keys are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListReason {
    /// It is the first time.
    First,
    /// History was compacted past where the watch had come to, or past the revision that the first list was asked for at.
    Compacted,
    /// The list before could not be read to its end: its revision was compacted, or no member had it.
    Interrupted,
    /// The consumer lagged, and the watch's policy is [`Fail`](crate::Overflow::Fail).
    Lagged,
    /// A revision, or a response of the watch, was larger than the limit: it is passed by.
    TooLarge,
    /// Another cluster answers at the endpoints.
    StoreChanged {
        /// The cluster id before.
        before: u64,
        /// The one that answers now.
        after: u64,
    },
    /// The store went back: it was restored from a backup.
    StoreRegressed {
        /// The highest revision seen.
        known: i64,
        /// The revision it reported.
        revision: i64,
    },
}

impl ListReason {
    /// Whether revisions start over. Every key that is listed is handed out then, even under a revision that
    /// it had before: that was another one.
    #[must_use]
    pub fn is_other_store(&self) -> bool {
        matches!(self, Self::StoreChanged { .. } | Self::StoreRegressed { .. })
    }
}

impl fmt::Display for ListReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => write!(f, "the first list"),
            Self::Compacted => write!(f, "history was compacted"),
            Self::Interrupted => write!(f, "the list before could not be read to its end at its revision"),
            Self::Lagged => write!(f, "the consumer lagged"),
            Self::TooLarge => write!(f, "a revision was larger than the limit"),
            Self::StoreChanged { before, after } => {
                write!(f, "the store changed: cluster id {before:x} became {after:x}")
            }
            Self::StoreRegressed { known, revision } => {
                write!(f, "the store went back from revision {known} to {revision}")
            }
        }
    }
}

/// A part of a list: what to do with the keys of one [`span`](Self::span). The parts of a list follow each
/// other in key order; a part without changes is left out.
///
/// With an [index](crate::MirrorRequest::keep_index) it is the difference to what was handed out before:
/// fold in [`puts`](Self::puts) and [`deletes`](Self::deletes), that is all.
///
/// Without one, `deletes` is empty and `puts` has every key of the span that the store has: a consumer's key
/// in the span that is not among them is gone. The parts then cover the whole range without a gap.
///
/// ```
/// use std::collections::BTreeMap;
/// use bytes::Bytes;
/// use etcd_watch_core::SnapshotPart;
///
/// fn fold(mine: &mut BTreeMap<Bytes, Bytes>, part: SnapshotPart) {
///     let gone: Vec<Bytes> = part.missing(mine.range::<[u8], _>(part.span()).map(|(key, _)| key)).cloned().collect();
///     for key in gone.iter().chain(part.deletes()) {
///         mine.remove(key);
///     }
///     for kv in part.puts() {
///         mine.insert(Bytes::copy_from_slice(kv.key()), Bytes::copy_from_slice(kv.value()));
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPart {
    pub(super) after: Option<Bytes>,
    pub(super) through: Option<Bytes>,
    pub(super) puts: Pairs,
    pub(super) deletes: Vec<Bytes>,
    pub(super) is_whole: bool,
}

impl SnapshotPart {
    /// Keys to put, ascending: views on the page that was received.
    #[must_use]
    pub fn puts(&self) -> &Pairs {
        &self.puts
    }

    /// The same as pairs that stand alone. Nothing is copied: each shares the page, which stays in memory for as long as
    /// one of them does. What is to be kept for long is better copied.
    pub fn into_puts(self) -> impl Iterator<Item = OwnedKeyValue> {
        (0..self.puts.len()).filter_map(move |place| self.puts.get(place).map(|kv| kv.to_owned()))
    }

    /// Keys to delete, ascending; none of them is among the puts.
    #[must_use]
    pub fn deletes(&self) -> &[Bytes] {
        &self.deletes
    }

    /// The keys that the part is about: bounds for a map's `range`. The first part's start and the last
    /// one's end are unbounded, which means those of the mirror's range.
    #[must_use]
    pub fn span(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let after = self.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let through = self.through.as_deref().map_or(Bound::Unbounded, Bound::Included);
        (after, through)
    }

    /// For a mirror without an index: those of the consumer's keys in the [`span`](Self::span), given in
    /// ascending order, that are gone. With an index there are none: its `deletes` are complete.
    pub fn missing<'a, K: AsRef<[u8]> + ?Sized + 'a>(
        &'a self,
        known: impl IntoIterator<Item = &'a K> + 'a,
    ) -> impl Iterator<Item = &'a K> + 'a {
        let mut puts = self.puts.iter().map(|kv| kv.key()).peekable();
        known.into_iter().filter(move |key| {
            let key = (*key).as_ref();
            while puts.next_if(|&put| put < key).is_some() {}
            self.is_whole && puts.peek() != Some(&key)
        })
    }
}
