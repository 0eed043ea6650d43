//! What the cache's task publishes, and handles read.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use etcd_watch_core::{KeyRange, ListReason};
use futures_util::task::AtomicWaker;

use super::{
    change::CacheChange,
    error::CacheError,
    history::History,
    inbox::{Batch, Item, Registry},
    snapshot::Snapshot,
    stats::{CacheStats, Counters},
    waiters::{Waiters, Wants},
};
use crate::{
    Monitor, Runtime,
    toolkit::{Moment, WaitList, lock, wake_all},
};

/// What a cache is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheStatus {
    /// The keys are listed for the first time: there is nothing to read yet.
    Listing,
    /// It follows the store, or has not been away from it for long.
    Current,
    /// It has been away from the store for longer than [`unready_after`](super::CacheRequest::unready_after): its watch
    /// doesn't run on a member, or what it missed has not come yet. Readers see what there was before.
    Away,
    /// The keys are listed again; readers see what there was before.
    Relisting(ListReason),
    /// It has ended; readers see the last state.
    Ended(CacheError),
}

/// What the cache's task and its handles share. Readers take no lock: each state is a value of its own, and an update
/// puts another in its place.
pub(super) struct Shared<P> {
    pub(super) range: KeyRange,
    published: ArcSwap<Published<P>>,
    pub(super) registry: Mutex<Registry<P>>,
    pub(super) waiters: Waiters,
    reads: Reads,
    pub(super) counters: Counters,
    /// The cache's task.
    pub(super) task: AtomicWaker,
    /// Of which store the last state is known to be current, and as of which moment.
    current: Mutex<Option<(u64, Moment)>>,
    pub(super) unready_after: Option<Duration>,
    /// The mirror that the cache stands on.
    pub(super) mirror: Monitor,
    /// The tasks that wait for the first state, and for the end, to know whether it is ready.
    pub(super) monitoring: WaitList,
    pub(super) runtime: Arc<dyn Runtime>,
}

pub(super) struct Published<P> {
    pub(super) snapshot: Snapshot<P>,
    /// Counts the states; 0 before the first.
    pub(super) state: u64,
    /// Counts the stores that followed each other.
    pub(super) store: u64,
    pub(super) history: History<P>,
    pub(super) status: CacheStatus,
}

impl<P> Published<P> {
    fn has_ended(&self) -> bool {
        matches!(self.status, CacheStatus::Ended(_))
    }
}

impl<P> Clone for Published<P> {
    fn clone(&self) -> Self {
        Self {
            snapshot: self.snapshot.clone(),
            state: self.state,
            store: self.store,
            history: self.history.clone(),
            status: self.status.clone(),
        }
    }
}

/// Reads of the store's revision. One that was begun after a call speaks for it.
#[derive(Debug, Default)]
struct Reads {
    asked: AtomicU64,
    done: ArcSwap<ReadsDone>,
}

/// The last read that went well, and the last that failed, by their numbers.
#[derive(Clone, Debug, Default)]
struct ReadsDone {
    read: Option<(u64, i64)>,
    failed: Option<(u64, CacheError)>,
}

impl<P> Shared<P> {
    pub(super) fn new(
        range: KeyRange,
        history: usize,
        unready_after: Option<Duration>,
        mirror: Monitor,
        runtime: Arc<dyn Runtime>,
    ) -> Self {
        let published = Published {
            snapshot: Snapshot::none(),
            state: 0,
            store: 0,
            history: History::new(history),
            status: CacheStatus::Listing,
        };
        Self {
            range,
            published: ArcSwap::from_pointee(published),
            registry: Mutex::default(),
            waiters: Waiters::default(),
            reads: Reads::default(),
            counters: Counters::default(),
            task: AtomicWaker::new(),
            current: Mutex::new(None),
            unready_after,
            mirror,
            monitoring: WaitList::default(),
            runtime,
        }
    }

    /// The states from now on have everything that the store had at this moment.
    pub(super) fn is_current(&self, store: u64, as_of: Moment) {
        // Without the lock: it may be the last to hold that state, whose values are the application's.
        if self.read().store != store {
            return;
        }
        let mut current = lock(&self.current);
        // Of two calls the later one may end first.
        let is_later = current.is_none_or(|(before, known)| before != store || as_of.is_after(known));
        if is_later {
            *current = Some((store, as_of));
        }
    }

    /// As of which moment the last state is known to be current.
    pub(super) fn known_current(&self) -> Option<Moment> {
        let current = *lock(&self.current);
        current.filter(|(store, _)| *store == self.read().store).map(|(_, as_of)| as_of)
    }

    /// What was published last. To be dropped without a lock: it may be the last to hold values of the application.
    pub(super) fn read(&self) -> Guard<Arc<Published<P>>> {
        self.published.load()
    }

    /// Publishes what `change` makes of what was published last; the number of its state. Nothing is published after
    /// the end. `change` is called again if another was faster, which only [`end`](Self::end) can be.
    fn publish(&self, change: impl Fn(&mut Published<P>)) -> Option<u64> {
        let mut state = None;
        let before = self.published.rcu(|current| {
            state = None;
            if current.has_ended() {
                return current.clone();
            }
            let mut next = Published::clone(current);
            change(&mut next);
            state = Some(next.state);
            Arc::new(next)
        });
        // Freed here: it may be the last to hold a part of the tree.
        drop(before);
        state
    }

    pub(super) fn snapshot(&self) -> Snapshot<P> {
        self.read().snapshot.clone()
    }

    pub(super) fn stats(&self) -> CacheStats {
        let counters = &self.counters;
        let subscribers = lock(&self.registry).len();
        let snapshot = self.snapshot();
        CacheStats {
            keys: snapshot.len(),
            bytes: snapshot.bytes(),
            revision: snapshot.revision(),
            subscribers,
            lists: counters.lists.get(),
            list_progress: counters.list_progress.get().filter(|_| !self.has_ended()),
            decode_errors: counters.decode_errors.get(),
            slow_resyncs: counters.slow_resyncs.get(),
            progress_requests: counters.progress_requests.get(),
            proof_reads: counters.proof_reads.get(),
            revision_reads: counters.revision_reads.get(),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.read().has_ended()
    }

    pub(super) fn wake_task(&self) {
        wake_all(self.task.take());
    }

    pub(super) fn listing(&self, reason: &ListReason) {
        self.counters.lists.add(1);
        self.publish(|published| {
            if published.state > 0 {
                published.status = CacheStatus::Relisting(reason.clone());
            }
        });
    }

    /// Publishes the state that the changes of one revision made.
    pub(super) fn publish_changes(&self, snapshot: Snapshot<P>, changes: Vec<CacheChange<P>>) {
        let published = self.publish(|published| {
            published.state += 1;
            published.history.follow(&snapshot);
            published.snapshot = snapshot.clone();
        });
        let Some(state) = published else { return };
        let revision = snapshot.revision;
        self.offer(state, &Item::Changes(Arc::new(Batch { changes, after: snapshot })));
        self.arrived(revision);
    }

    /// Publishes the state that a list came to.
    pub(super) fn publish_list(&self, snapshot: Snapshot<P>, is_other_store: bool) {
        let published = self.publish(|published| {
            published.state += 1;
            published.status = CacheStatus::Current;
            published.store += u64::from(is_other_store);
            if is_other_store {
                published.history.restart(&snapshot);
            } else {
                published.history.jump(&snapshot);
            }
            published.snapshot = snapshot.clone();
        });
        let Some(state) = published else { return };
        let revision = snapshot.revision;
        self.offer(state, &Item::Listed(snapshot));
        if is_other_store {
            self.waiters.wake(|_| true);
        }
        self.arrived(revision);
        self.monitoring.wake_all();
    }

    /// Offers what made the state with this number to all subscribers.
    fn offer(&self, state: u64, item: &Item<P>) {
        let inboxes = lock(&self.registry).all();
        inboxes.iter().for_each(|inbox| inbox.offer(state, item, &self.counters));
    }

    /// The state is the store's at this revision, too.
    pub(super) fn extend(&self, revision: i64) {
        if self.read().snapshot.revision >= revision {
            return;
        }
        let published = self.publish(|published| {
            published.snapshot.revision = published.snapshot.revision.max(revision);
            published.history.extend(revision);
        });
        if let Some(state) = published {
            self.offer(state, &Item::Bookmark(revision));
        }
        self.arrived(revision);
    }

    fn arrived(&self, at: i64) {
        self.waiters.wake(|wants| match wants {
            Wants::Ready => true,
            Wants::Revision(revision) => revision <= at,
            Wants::Read(_) | Wants::End => false,
        });
    }

    /// Ends the cache; what ended it first counts.
    pub(super) fn end(&self, error: CacheError) {
        let is_first =
            self.publish(|published| published.status = CacheStatus::Ended(error.clone())).is_some();
        if !is_first {
            return;
        }
        let inboxes = lock(&self.registry).all();
        inboxes.iter().for_each(|inbox| inbox.end(&error));
        self.waiters.wake(|_| true);
        self.monitoring.wake_all();
        self.wake_task();
    }

    /// Asks for a read of the store's revision: its number.
    pub(super) fn ask_for_read(&self) -> u64 {
        self.reads.asked.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The number of a read to begin: it speaks for all that were asked for up to it.
    pub(super) fn read_wanted(&self) -> Option<u64> {
        let asked = self.reads.asked.load(Ordering::Acquire);
        let done = self.reads.done.load();
        let answered = done.read.map_or(0, |(number, _)| number);
        let failed = done.failed.as_ref().map_or(0, |(number, _)| *number);
        (asked > answered.max(failed)).then_some(asked)
    }

    /// Only the cache's task calls it.
    pub(super) fn read_done(&self, number: u64, result: Result<i64, CacheError>) {
        let mut done = ReadsDone::clone(&self.reads.done.load());
        match result {
            Ok(revision) => done.read = Some((number, revision)),
            Err(error) => done.failed = Some((number, error)),
        }
        self.reads.done.store(Arc::new(done));
        self.waiters.wake(|wants| matches!(wants, Wants::Read(asked) if asked <= number));
    }

    /// What came of the read with this number, or of a later one.
    pub(super) fn read_result(&self, number: u64) -> Option<Result<i64, CacheError>> {
        let done = self.reads.done.load();
        let read = done.read.filter(|(done, _)| *done >= number).map(|(_, revision)| Ok(revision));
        let failed = || done.failed.as_ref().filter(|(done, _)| *done >= number);
        read.or_else(|| failed().map(|(_, error)| Err(error.clone())))
    }
}
