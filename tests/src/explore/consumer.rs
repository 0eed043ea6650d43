//! What a consumer has received, and whether that is what it had to.

use etcd_watch_core::{CloseReason, Delivery, Overflow, ResponseKind, WatchKey, WatchResponse};

use super::{
    plan::{Consumers, Plan},
    store::Store,
    violation::{Broken, Promise, ensure},
};

/// The consumer of one watch.
#[derive(Clone, Debug)]
pub(super) struct Consumer {
    /// Its number in the plan.
    pub(super) watch: usize,
    /// `None` until it is opened.
    pub(super) key: Option<WatchKey>,
    /// Below this revision it has everything; `None` until its start is known.
    pub(super) cursor: Option<i64>,
    /// The store's revision when it was opened, until its start is known.
    pub(super) opened_at: i64,
    /// It has been told that there is something to take, and has not found nothing since.
    pub(super) is_told: bool,
    /// It has asked for progress, and has not got it.
    pub(super) has_asked: bool,
    pub(super) is_cancelled: bool,
    pub(super) is_closed: bool,
}

impl Consumer {
    pub(super) fn new(watch: usize) -> Self {
        Self {
            watch,
            key: None,
            cursor: None,
            opened_at: 0,
            is_told: false,
            has_asked: false,
            is_cancelled: false,
            is_closed: false,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.key.is_some() && !self.is_closed && !self.is_cancelled
    }

    /// What it has to see between two revisions, as far as that exists.
    fn seen(&self, plan: &Plan, store: &Store, from: i64, to: i64) -> Vec<super::store::Change> {
        store.seen(&plan.writes, &plan.watches[self.watch].range, from, to)
    }

    /// What it has not received yet.
    pub(super) fn lacks(&self, plan: &Plan, store: &Store) -> Vec<super::store::Change> {
        self.cursor.map(|cursor| self.seen(plan, store, cursor, store.revision)).unwrap_or_default()
    }

    /// The machine knows where the watch starts.
    pub(super) fn starts_at(&mut self, plan: &Plan, store: &Store, start: i64) -> Result<(), Broken> {
        let is_right = start > self.opened_at && start <= store.revision + 1;
        ensure(is_right || plan.is_blind, Promise::Start, || {
            let (watch, before, now) = (self.watch, self.opened_at, store.revision);
            format!("watch {watch} starts at {start}; the store was at {before} before it, and is at {now}")
        })?;
        // What was there before it was opened is not for it.
        self.cursor = Some(start.max(self.opened_at + 1));
        self.opened_at = 0;
        Ok(())
    }

    /// The machine says where the watch would go on: nothing before that may be missing.
    pub(super) fn goes_on_at(&self, plan: &Plan, store: &Store, resume: i64) -> Result<(), Broken> {
        let Some(cursor) = self.cursor else { return Ok(()) };
        let skipped = self.seen(plan, store, cursor, resume - 1);
        ensure(skipped.is_empty() || plan.is_blind, Promise::Resume, || {
            let watch = self.watch;
            format!("watch {watch} would go on at {resume}, but {skipped:?} was neither taken nor waits")
        })
    }

    /// It has taken something.
    pub(super) fn take(&mut self, plan: &Plan, store: &Store, delivery: &Delivery) -> Result<(), Broken> {
        let watch = self.watch;
        ensure(!self.is_closed, Promise::End, || format!("watch {watch}: {delivery:?} after the end"))?;
        match delivery {
            Delivery::Response(response) => self.take_response(plan, store, response),
            Delivery::Closed(reason) => {
                self.is_closed = true;
                self.check_end(plan, store, reason)
            }
            other => Err(Broken::new(Promise::History, format!("watch {watch}: unheard of: {other:?}"))),
        }
    }

    /// Ordered, unique, reliable, atomic, resumable, bookmarkable: what comes is exactly what history has
    /// between what came before and the revision that the response ends at.
    fn take_response(&mut self, plan: &Plan, store: &Store, response: &WatchResponse) -> Result<(), Broken> {
        let watch = self.watch;
        ensure(!self.is_cancelled, Promise::End, || format!("watch {watch}: {response:?} after a cancel"))?;
        let Some(cursor) = self.cursor else {
            return Err(Broken::new(Promise::Start, format!("watch {watch}: {response:?} before its start")));
        };
        if plan.is_blind && response.is_empty() {
            return Ok(());
        }
        let to = response.revision();
        let promise = match response.kind() {
            ResponseKind::Events => Promise::History,
            _ => Promise::Bookmark,
        };
        ensure(to + 1 >= cursor && to <= store.revision.max(cursor - 1), promise, || {
            format!("watch {watch} has everything below {cursor}, and gets {response:?}")
        })?;
        let received: Vec<(i64, String)> = response
            .events()
            .map(|event| (event.mod_revision(), String::from_utf8_lossy(event.key()).into_owned()))
            .collect();
        let expected = self.seen(plan, store, cursor, to);
        let is_right =
            received.iter().map(|(revision, key)| (*revision, key.as_str())).eq(expected.iter().copied());
        ensure(is_right, promise, || {
            format!(
                "watch {watch} has everything below {cursor}, should get {expected:?}, and gets {response:?}"
            )
        })?;
        if response.kind() == ResponseKind::Progress {
            let is_wanted = plan.watches[watch].progress_notify || self.has_asked;
            ensure(is_wanted, Promise::Bookmark, || format!("watch {watch} wants no progress"))?;
            self.has_asked = false;
        }
        self.cursor = Some(to + 1);
        Ok(())
    }

    fn check_end(&self, plan: &Plan, store: &Store, reason: &CloseReason) -> Result<(), Broken> {
        let watch = self.watch;
        let (is_due, next) = match *reason {
            CloseReason::Cancelled => {
                return ensure(self.is_cancelled, Promise::End, || {
                    format!("watch {watch}: nobody cancelled it")
                });
            }
            CloseReason::Compacted { compact_revision, next_revision } => {
                (next_revision < compact_revision && compact_revision <= store.compacted, next_revision)
            }
            CloseReason::Lagged { next_revision, .. } => {
                (plan.consumers == Consumers::Cramped(Overflow::Fail), next_revision)
            }
            _ => (false, 0),
        };
        ensure(is_due, Promise::End, || format!("watch {watch} ended without need: {reason}"))?;
        let gap = self.cursor.map(|cursor| self.seen(plan, store, cursor, next - 1)).unwrap_or_default();
        ensure(gap.is_empty() || plan.is_blind, Promise::Resume, || {
            format!("watch {watch} ended at {next}, but {gap:?} was not taken")
        })
    }
}
