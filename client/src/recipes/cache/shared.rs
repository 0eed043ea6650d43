//! What the cache's task publishes, and handles read.

use std::sync::{
    Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, Ordering},
};

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
use crate::sync::lock;

/// What a cache is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheStatus {
    /// The keys are listed for the first time: there is nothing to read yet.
    Listing,
    /// It follows the store.
    Current,
    /// The keys are listed again; readers see what there was before.
    Relisting(ListReason),
    /// It has ended; readers see the last state.
    Ended(CacheError),
}

pub(super) struct Shared<P> {
    pub(super) range: KeyRange,
    published: RwLock<Published<P>>,
    pub(super) registry: Mutex<Registry<P>>,
    pub(super) waiters: Waiters,
    reads: Mutex<Reads>,
    pub(super) counters: Counters,
    /// The cache's task.
    pub(super) task: AtomicWaker,
    has_ended: AtomicBool,
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

/// Reads of the store's revision. One that was begun after a call speaks for it.
#[derive(Debug, Default)]
struct Reads {
    asked: u64,
    read: Option<(u64, i64)>,
    failed: Option<(u64, CacheError)>,
}

impl<P> Shared<P> {
    pub(super) fn new(range: KeyRange, history: usize) -> Self {
        let published = Published {
            snapshot: Snapshot::none(),
            state: 0,
            store: 0,
            history: History::new(history),
            status: CacheStatus::Listing,
        };
        Self {
            range,
            published: RwLock::new(published),
            registry: Mutex::default(),
            waiters: Waiters::default(),
            reads: Mutex::default(),
            counters: Counters::default(),
            task: AtomicWaker::new(),
            has_ended: AtomicBool::new(false),
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Published<P>> {
        self.published.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Published<P>> {
        self.published.write().unwrap_or_else(PoisonError::into_inner)
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
            decode_errors: counters.decode_errors.get(),
            slow_resyncs: counters.slow_resyncs.get(),
            progress_requests: counters.progress_requests.get(),
            proof_reads: counters.proof_reads.get(),
            revision_reads: counters.revision_reads.get(),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    pub(super) fn listing(&self, reason: ListReason) {
        self.counters.lists.add(1);
        let mut published = self.write();
        if !matches!(published.status, CacheStatus::Ended(_)) && published.state > 0 {
            published.status = CacheStatus::Relisting(reason);
        }
    }

    /// Publishes the state that the changes of one revision made.
    pub(super) fn publish_changes(&self, snapshot: Snapshot<P>, changes: Vec<CacheChange<P>>) {
        let (state, revision) = {
            let mut published = self.write();
            if matches!(published.status, CacheStatus::Ended(_)) {
                return;
            }
            published.state += 1;
            let dropped = published.history.follow(&snapshot);
            let before = std::mem::replace(&mut published.snapshot, snapshot.clone());
            let state = published.state;
            drop(published);
            // Freed only now: it may be the last to hold a part of the tree.
            drop((dropped, before));
            (state, snapshot.revision)
        };
        let batch = Arc::new(Batch { changes, after: snapshot });
        lock(&self.registry).offer(state, &Item::Changes(batch), &self.counters);
        self.arrived(revision);
    }

    /// Publishes the state that a list came to.
    pub(super) fn publish_list(&self, snapshot: Snapshot<P>, is_other_store: bool) {
        let (state, revision) = {
            let mut published = self.write();
            if matches!(published.status, CacheStatus::Ended(_)) {
                return;
            }
            published.state += 1;
            published.status = CacheStatus::Current;
            published.store += u64::from(is_other_store);
            let (jumped, restarted) = if is_other_store {
                (None, Some(published.history.restart(&snapshot)))
            } else {
                (Some(published.history.jump(&snapshot)), None)
            };
            let before = std::mem::replace(&mut published.snapshot, snapshot.clone());
            let state = published.state;
            drop(published);
            drop((jumped, restarted, before));
            (state, snapshot.revision)
        };
        lock(&self.registry).offer(state, &Item::Listed(snapshot), &self.counters);
        if is_other_store {
            self.waiters.wake(|_| true);
        }
        self.arrived(revision);
    }

    /// The state is the store's at this revision, too.
    pub(super) fn extend(&self, revision: i64) {
        {
            let mut published = self.write();
            if published.snapshot.revision >= revision {
                return;
            }
            published.snapshot.revision = revision;
            published.history.extend(revision);
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
        {
            let mut published = self.write();
            if matches!(published.status, CacheStatus::Ended(_)) {
                return;
            }
            published.status = CacheStatus::Ended(error.clone());
            self.has_ended.store(true, Ordering::Release);
        }
        lock(&self.registry).end(&error);
        self.waiters.wake(|_| true);
        self.task.wake();
    }

    /// Asks for a read of the store's revision: its number.
    pub(super) fn ask_for_read(&self) -> u64 {
        let mut reads = lock(&self.reads);
        reads.asked += 1;
        reads.asked
    }

    /// The number of a read to begin: it speaks for all that were asked for up to it.
    pub(super) fn read_wanted(&self) -> Option<u64> {
        let reads = lock(&self.reads);
        let answered = reads.read.map_or(0, |(number, _)| number);
        let failed = reads.failed.as_ref().map_or(0, |(number, _)| *number);
        (reads.asked > answered.max(failed)).then_some(reads.asked)
    }

    pub(super) fn read_done(&self, number: u64, result: Result<i64, CacheError>) {
        {
            let mut reads = lock(&self.reads);
            match result {
                Ok(revision) => reads.read = Some((number, revision)),
                Err(error) => reads.failed = Some((number, error)),
            }
        }
        self.waiters.wake(|wants| matches!(wants, Wants::Read(asked) if asked <= number));
    }

    /// What came of the read with this number, or of a later one.
    pub(super) fn read_result(&self, number: u64) -> Option<Result<i64, CacheError>> {
        let reads = lock(&self.reads);
        let read = reads.read.filter(|(done, _)| *done >= number).map(|(_, revision)| Ok(revision));
        let failed = || reads.failed.as_ref().filter(|(done, _)| *done >= number);
        read.or_else(|| failed().map(|(_, error)| Err(error.clone())))
    }
}
