//! What waits for the cache's subscribers.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use etcd_watch_core::{EventKind, Filters, KeyRange};
use futures_util::task::AtomicWaker;

use super::{change::CacheChange, error::CacheError, snapshot::Snapshot, stats::Counters};
use crate::toolkit::{lock, wake_all};

/// What one revision changed, shared by all subscribers.
pub(super) struct Batch<P> {
    pub(super) changes: Vec<CacheChange<P>>,
    pub(super) after: Snapshot<P>,
}

pub(super) enum Item<P> {
    Changes(Arc<Batch<P>>),
    /// The keys were listed: whatever has changed is in the difference.
    Listed(Snapshot<P>),
    /// There was no change up to this revision.
    Bookmark(i64),
}

impl<P> Clone for Item<P> {
    fn clone(&self) -> Self {
        match self {
            Self::Changes(batch) => Self::Changes(batch.clone()),
            Self::Listed(snapshot) => Self::Listed(snapshot.clone()),
            Self::Bookmark(revision) => Self::Bookmark(*revision),
        }
    }
}

/// Which changes a subscriber wants.
#[derive(Clone, Debug)]
pub(super) struct Interest {
    pub(super) range: KeyRange,
    pub(super) filters: Filters,
    pub(super) bookmarks: bool,
}

impl Interest {
    pub(super) fn wants<P>(&self, change: &CacheChange<P>) -> bool {
        let is_left_out = match change.kind() {
            EventKind::Delete => self.filters.no_delete,
            _ => self.filters.no_put,
        };
        !is_left_out && self.range.contains(change.key())
    }
}

/// All subscribers.
pub(super) struct Registry<P> {
    next: u64,
    inboxes: BTreeMap<u64, Arc<Inbox<P>>>,
}

impl<P> Default for Registry<P> {
    fn default() -> Self {
        Self { next: 0, inboxes: BTreeMap::new() }
    }
}

impl<P> Registry<P> {
    pub(super) fn add(&mut self, inbox: Arc<Inbox<P>>) -> u64 {
        self.next += 1;
        self.inboxes.insert(self.next, inbox);
        self.next
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Arc<Inbox<P>>> {
        self.inboxes.remove(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.inboxes.len()
    }

    /// The inboxes of all subscribers, to be filled without the registry's lock.
    pub(super) fn all(&self) -> Vec<Arc<Inbox<P>>> {
        self.inboxes.values().cloned().collect()
    }
}

/// What waits for one subscriber.
pub(super) struct Inbox<P> {
    pub(super) interest: Interest,
    pub(super) limit: usize,
    pub(super) waiting: Mutex<Waiting<P>>,
    /// The subscriber's task.
    pub(super) task: AtomicWaker,
}

pub(super) struct Waiting<P> {
    pub(super) queue: VecDeque<Item<P>>,
    /// More came than the queue holds: all that is thrown away, and the difference takes its place.
    pub(super) lags: bool,
    /// The number of the state that the subscriber was brought to by a difference: what led there is not news.
    pub(super) state: u64,
    pub(super) ended: Option<CacheError>,
}

impl<P> Inbox<P> {
    pub(super) fn new(interest: Interest, limit: usize, state: u64) -> Self {
        let waiting = Waiting { queue: VecDeque::new(), lags: false, state, ended: None };
        Self { interest, limit, waiting: Mutex::new(waiting), task: AtomicWaker::new() }
    }

    /// Offers what made the state with this number.
    pub(super) fn offer(&self, state: u64, item: &Item<P>, counters: &Counters) {
        match item {
            Item::Changes(batch) if !batch.changes.iter().any(|change| self.interest.wants(change)) => {
                self.offer_bookmark(state, batch.after.revision());
                return;
            }
            Item::Bookmark(revision) => {
                self.offer_bookmark(state, *revision);
                return;
            }
            Item::Changes(_) | Item::Listed(_) => {}
        }
        let thrown_away = {
            let mut waiting = lock(&self.waiting);
            if waiting.lags || state <= waiting.state {
                return;
            }
            let mut thrown_away = VecDeque::new();
            if waiting.queue.len() < self.limit {
                waiting.queue.push_back(item.clone());
            } else {
                counters.slow_resyncs.add(1);
                waiting.lags = true;
                thrown_away = std::mem::take(&mut waiting.queue);
            }
            thrown_away
        };
        wake_all(self.task.take());
        drop(thrown_away);
    }

    /// Offers a bookmark. It takes no room from changes: it replaces the bookmark before it, and is left out where the
    /// queue is full.
    fn offer_bookmark(&self, state: u64, revision: i64) {
        if !self.interest.bookmarks {
            return;
        }
        {
            let mut waiting = lock(&self.waiting);
            if waiting.lags || state < waiting.state {
                return;
            }
            let has_room = waiting.queue.len() < self.limit;
            match waiting.queue.back_mut() {
                Some(Item::Bookmark(last)) => *last = revision,
                _ if has_room => waiting.queue.push_back(Item::Bookmark(revision)),
                _ => return,
            }
        }
        wake_all(self.task.take());
    }

    /// The cache has ended; what waits can still be taken.
    pub(super) fn end(&self, error: &CacheError) {
        lock(&self.waiting).ended.get_or_insert_with(|| error.clone());
        wake_all(self.task.take());
    }
}
