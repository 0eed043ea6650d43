//! A change of a key.

use std::fmt;

use etcd_watch_core::EventKind;

use super::entry::CachedKv;

/// A change of one key, with what it was before.
pub struct CacheChange<P = ()> {
    revision: i64,
    after: After<P>,
}

/// There is always one of the two pairs.
enum After<P> {
    Put { kv: CachedKv<P>, prev: Option<CachedKv<P>> },
    Deleted { prev: CachedKv<P> },
}

impl<P> CacheChange<P> {
    /// `None` for no change. `revision` is that of a delete: a put has its own.
    pub(super) fn new(revision: i64, kv: Option<CachedKv<P>>, prev: Option<CachedKv<P>>) -> Option<Self> {
        Some(match (kv, prev) {
            (Some(kv), prev) => Self { revision: kv.mod_revision(), after: After::Put { kv, prev } },
            (None, Some(prev)) => Self { revision, after: After::Deleted { prev } },
            (None, None) => return None,
        })
    }

    /// The revision that made the change. Of a delete in a resync it is not known: there it is the revision of
    /// the state that the resync leads to.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether the key was put or deleted.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self.after {
            After::Put { .. } => EventKind::Put,
            After::Deleted { .. } => EventKind::Delete,
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match &self.after {
            After::Put { kv, .. } => kv.key(),
            After::Deleted { prev } => prev.key(),
        }
    }

    /// The value put; `None` for a delete.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.kv().map(CachedKv::value)
    }

    /// The pair put; `None` for a delete.
    #[must_use]
    pub fn kv(&self) -> Option<&CachedKv<P>> {
        match &self.after {
            After::Put { kv, .. } => Some(kv),
            After::Deleted { .. } => None,
        }
    }

    /// The pair as it was before; `None` for a key that is new. It comes from the cache, so it is there without
    /// the server having to send it, and after compaction too.
    #[must_use]
    pub fn prev(&self) -> Option<&CachedKv<P>> {
        match &self.after {
            After::Put { prev, .. } => prev.as_ref(),
            After::Deleted { prev } => Some(prev),
        }
    }
}

impl<P> Clone for CacheChange<P> {
    fn clone(&self) -> Self {
        let after = match &self.after {
            After::Put { kv, prev } => After::Put { kv: kv.clone(), prev: prev.clone() },
            After::Deleted { prev } => After::Deleted { prev: prev.clone() },
        };
        Self { revision: self.revision, after }
    }
}

impl<P> PartialEq for CacheChange<P> {
    fn eq(&self, other: &Self) -> bool {
        (self.revision, self.kv(), self.prev()) == (other.revision, other.kv(), other.prev())
    }
}

impl<P> fmt::Debug for CacheChange<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = String::from_utf8_lossy(self.key());
        write!(f, "{:?} {key:?}@{}", self.kind(), self.revision)
    }
}
