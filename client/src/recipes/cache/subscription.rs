//! Local subscriptions to a cache.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use etcd_watch_core::{Filters, KeyRange};
use futures_core::{FusedStream, Stream};

use super::{
    Alive,
    change::CacheChange,
    error::{CacheError, SubscribeError, check_count},
    inbox::{Batch, Inbox, Interest, Item},
    shared::CacheStatus,
    snapshot::{Range, Snapshot},
};
use crate::toolkit::lock;

/// A subscription to make: [`Cache::subscribe`](super::Cache::subscribe).
#[derive(Clone, Debug)]
#[must_use]
pub struct SubscribeRequest {
    interest: Interest,
    initial_state: bool,
    start_revision: i64,
    queue: usize,
}

impl SubscribeRequest {
    /// A subscription to the changes of these keys, from now on, with every option at its default. One that is
    /// made before the cache's first state begins with that.
    pub fn new(range: KeyRange) -> Self {
        let interest = Interest { range, filters: Filters::default(), bookmarks: false };
        Self { interest, initial_state: false, start_revision: 0, queue: 64 }
    }

    /// Begin with the keys there are: the first event is then [`CacheEvent::Initial`], and changes follow on it
    /// without a gap. Default: off. Left out where a start revision is given.
    pub fn initial_state(mut self, on: bool) -> Self {
        self.initial_state = on;
        self
    }

    /// Begin with the changes of this revision, as far as the cache's [history](super::CacheRequest::history)
    /// reaches. Default: 0, from now on.
    pub fn start_revision(mut self, revision: i64) -> Self {
        self.start_revision = revision;
        self
    }

    /// Leave out puts or deletes. Default: neither.
    pub fn filters(mut self, filters: Filters) -> Self {
        self.interest.filters = filters;
        self
    }

    /// Tell how far the subscription is where nothing that it is about has changed: [`CacheEvent::Bookmark`]. They come
    /// with changes of other keys of the cache, with the watch's progress notifications (for which a quiet watch asks once
    /// in [`progress_interval`](etcd_watch_core::WatchConfig::progress_interval), a minute by default), and when the cache
    /// comes to a revision that somebody waits for. Default: off.
    pub fn bookmarks(mut self, on: bool) -> Self {
        self.interest.bookmarks = on;
        self
    }

    /// How many batches may wait to be taken. One more, and the difference takes the place of all of them.
    /// Default: 64. Values that wait are shared with the cache and with all other subscriptions.
    pub fn queue(mut self, batches: usize) -> Self {
        self.queue = batches;
        self
    }
}

impl From<KeyRange> for SubscribeRequest {
    fn from(range: KeyRange) -> Self {
        Self::new(range)
    }
}

/// What a subscription tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum CacheEvent<P = ()> {
    /// The keys there are: the first event, if it was asked for.
    Initial(Initial<P>),
    /// What one revision changed, all of it that was subscribed to.
    Changes(CacheChanges<P>),
    /// Everything up to a revision has been told: nothing that was subscribed to has changed since the event before.
    /// Only if it was [asked for](SubscribeRequest::bookmarks).
    Bookmark {
        /// The revision. It is higher than that of every event before, until there is another store.
        revision: i64,
    },
    /// What has changed since the event before, without what lay in between: one change for each key that
    /// differs. Told where not every revision could be.
    Resynced {
        /// Why.
        reason: ResyncReason,
        /// The difference, in order of the keys.
        changes: CacheChanges<P>,
    },
}

/// Why a subscription is told a difference rather than every change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResyncReason {
    /// The subscriber was too slow: more batches waited than its queue holds.
    Lagged,
    /// The cache had to list its keys again.
    Relisted,
}

/// The keys there are when a subscription begins.
pub struct Initial<P = ()> {
    snapshot: Snapshot<P>,
    range: KeyRange,
}

impl<P> Initial<P> {
    /// The revision they are of.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.snapshot.revision()
    }

    /// The keys subscribed to, in order.
    #[must_use]
    pub fn iter(&self) -> Range<'_, P> {
        self.snapshot.range(&self.range)
    }

    /// All of the cache's keys.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot<P> {
        &self.snapshot
    }
}

impl<'a, P> IntoIterator for &'a Initial<P> {
    type Item = &'a super::CachedKv<P>;
    type IntoIter = Range<'a, P>;

    fn into_iter(self) -> Range<'a, P> {
        self.iter()
    }
}

impl<P> fmt::Debug for Initial<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initial").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

/// Changes that belong together.
#[derive(Debug)]
pub struct CacheChanges<P = ()> {
    changes: Vec<CacheChange<P>>,
    after: Snapshot<P>,
}

impl<P> CacheChanges<P> {
    /// The revision that they lead to. Those of batches rise, until there is another store.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.after.revision()
    }

    /// The changes.
    #[must_use]
    pub fn changes(&self) -> &[CacheChange<P>] {
        &self.changes
    }

    /// The changes, to keep.
    #[must_use]
    pub fn into_changes(self) -> Vec<CacheChange<P>> {
        self.changes
    }

    /// All of the cache's keys after them.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot<P> {
        &self.after
    }
}

/// A subscription to a cache: a stream of [`CacheEvent`]s. All of them share the cache's one watch on the server.
///
/// Folding what it tells gives the store's state at every event's revision, as far as its keys go. Taking is
/// cancel-safe. Not taking costs no more than the [queue](SubscribeRequest::queue): what is too much is thrown
/// away, and a difference told in its place ([`CacheEvent::Resynced`]).
///
/// It keeps the cache alive. When that ends for good, the error is the last item; after
/// [`close`](super::Cache::close) there is none.
#[must_use = "it does nothing unless it is polled"]
pub struct Subscription<P = ()> {
    alive: Arc<Alive<P>>,
    inbox: Arc<Inbox<P>>,
    id: u64,
    /// What it was last brought to; `None` before the cache's first state.
    seen: Option<Snapshot<P>>,
    initial_state: bool,
    ended: bool,
}

/// What was in the inbox.
enum Taken<P> {
    Item(Item<P>),
    Lagged(Snapshot<P>),
    Ended(CacheError),
}

impl<P> Subscription<P> {
    pub(super) fn new(alive: Arc<Alive<P>>, request: SubscribeRequest) -> Result<Self, SubscribeError> {
        let SubscribeRequest { interest, initial_state, start_revision, queue } = request;
        let out_of_range = |(field, value, allowed)| SubscribeError::OutOfRange { field, value, allowed };
        check_count("queue", queue).map_err(out_of_range)?;
        if start_revision < 0 {
            return Err(out_of_range(("start_revision", start_revision.to_string(), "0 or more")));
        }
        let shared = &alive.0;
        if !covers(&shared.range, &interest.range) {
            return Err(SubscribeError::OutsideCache {
                wanted: interest.range.into(),
                cached: shared.range.clone().into(),
            });
        }
        // Declared before the lock, so that it is dropped after it: what it holds may be nowhere else any more.
        let published;
        let (inbox, id, seen) = {
            // What is published is offered to the registry afterwards: with that held, nothing falls in between.
            let mut registry = lock(&shared.registry);
            published = shared.read();
            let inbox = Inbox::new(interest, queue, published.state);
            let mut seen = (published.state > 0).then(|| published.snapshot.clone());
            {
                let mut waiting = lock(&inbox.waiting);
                if start_revision > 0 {
                    let (base, later) = published.history.since(start_revision - 1)?;
                    let mut before = base.clone();
                    for held in later {
                        let after = held.snapshot.at(held.from);
                        waiting.queue.push_back(if held.follows {
                            Item::Changes(Arc::new(Batch {
                                changes: after.changes_since(&before),
                                after: after.clone(),
                            }))
                        } else {
                            Item::Listed(after.clone())
                        });
                        before = after;
                    }
                    waiting.lags = waiting.queue.len() > queue;
                    seen = Some(base);
                }
                if let CacheStatus::Ended(error) = &published.status {
                    waiting.ended = Some(error.clone());
                }
            }
            let inbox = Arc::new(inbox);
            (inbox.clone(), registry.add(inbox), seen)
        };
        let initial_state = initial_state && start_revision == 0;
        Ok(Self { alive, inbox, id, seen, initial_state, ended: false })
    }

    /// The next event; `None` after the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<CacheEvent<P>, CacheError>> {
        poll_fn(|cx| self.poll_take(cx)).await
    }

    /// The next event; `Ok(None)` after the end. Cancel-safe.
    ///
    /// # Errors
    /// Why the cache ended, once.
    pub async fn try_next(&mut self) -> Result<Option<CacheEvent<P>>, CacheError> {
        self.next().await.transpose()
    }

    /// The keys subscribed to.
    #[must_use]
    pub fn range(&self) -> &KeyRange {
        &self.inbox.interest.range
    }

    fn poll_take(&mut self, cx: &Context<'_>) -> Poll<Option<Result<CacheEvent<P>, CacheError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            if self.initial_state
                && let Some(seen) = &self.seen
            {
                self.initial_state = false;
                let initial = Initial { snapshot: seen.clone(), range: self.range().clone() };
                return Poll::Ready(Some(Ok(CacheEvent::Initial(initial))));
            }
            let event = match self.take(cx) {
                None => return Poll::Pending,
                Some(Taken::Ended(error)) => {
                    self.ended = true;
                    return Poll::Ready((error != CacheError::Closed).then_some(Err(error)));
                }
                Some(Taken::Item(Item::Changes(batch))) => {
                    self.seen = Some(batch.after.clone());
                    let wanted = batch.changes.iter().filter(|change| self.inbox.interest.wants(change));
                    let changes =
                        CacheChanges { changes: wanted.cloned().collect(), after: batch.after.clone() };
                    (!changes.changes.is_empty()).then_some(CacheEvent::Changes(changes))
                }
                Some(Taken::Item(Item::Bookmark(revision))) => self.bookmark(revision),
                Some(Taken::Item(Item::Listed(after))) => self.resync(ResyncReason::Relisted, after),
                Some(Taken::Lagged(after)) => self.resync(ResyncReason::Lagged, after),
            };
            if let Some(event) = event {
                return Poll::Ready(Some(Ok(event)));
            }
        }
    }

    fn take(&self, cx: &Context<'_>) -> Option<Taken<P>> {
        // Before looking: what comes in between wakes.
        self.inbox.task.register(cx.waker());
        let (taken, _dropped_after_unlocking) = {
            let mut waiting = lock(&self.inbox.waiting);
            if waiting.lags {
                waiting.lags = false;
                let published = self.alive.0.read();
                waiting.state = published.state;
                let thrown_away = std::mem::take(&mut waiting.queue);
                (Some(Taken::Lagged(published.snapshot.clone())), Some((thrown_away, published)))
            } else if let Some(item) = waiting.queue.pop_front() {
                (Some(Taken::Item(item)), None)
            } else if let Some(error) = &waiting.ended {
                (Some(Taken::Ended(error.clone())), None)
            } else {
                (None, None)
            }
        };
        taken
    }

    /// What it saw last was the same at this revision, as far as its keys go; nothing if it has seen that.
    fn bookmark(&mut self, revision: i64) -> Option<CacheEvent<P>> {
        let seen = self.seen.as_mut().filter(|seen| seen.revision < revision)?;
        seen.revision = revision;
        Some(CacheEvent::Bookmark { revision })
    }

    /// The difference to what it saw last; nothing at the cache's first state.
    fn resync(&mut self, reason: ResyncReason, after: Snapshot<P>) -> Option<CacheEvent<P>> {
        let before = self.seen.replace(after.clone())?;
        let interest = &self.inbox.interest;
        let mut changes = after.changes_within(&before, |key| interest.range.contains(key));
        changes.retain(|change| interest.wants(change));
        Some(CacheEvent::Resynced { reason, changes: CacheChanges { changes, after } })
    }
}

/// Whether one range has every key of another.
pub(super) fn covers(outer: &KeyRange, inner: &KeyRange) -> bool {
    if inner.end().is_empty() {
        return outer.contains(inner.start());
    }
    let has_no_end = |range: &KeyRange| range.end() == &b"\0"[..];
    let ends_before = has_no_end(outer) || (!has_no_end(inner) && inner.end() <= outer.end());
    !outer.end().is_empty() && outer.start() <= inner.start() && ends_before
}

impl<P> Stream for Subscription<P> {
    type Item = Result<CacheEvent<P>, CacheError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_take(cx)
    }
}

impl<P> FusedStream for Subscription<P> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<P> Drop for Subscription<P> {
    fn drop(&mut self) {
        let _freed = lock(&self.alive.0.registry).remove(self.id);
    }
}

impl<P> fmt::Debug for Subscription<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("range", self.range())
            .field("revision", &self.seen.as_ref().map(Snapshot::revision))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_each_other_as_their_keys_do() {
        let range = |start: &'static str, end: &'static str| KeyRange::range(start, end).unwrap();
        let (all, key, prefix) = (KeyRange::all(), KeyRange::key("b"), KeyRange::prefix("b"));
        let ranges = [all, key, prefix, range("a", "c"), range("b", "bb"), KeyRange::from_key("b")];
        let covered = |outer: &KeyRange| ranges.each_ref().map(|inner| u8::from(covers(outer, inner)));
        assert_eq!(covered(&ranges[0]), [1, 1, 1, 1, 1, 1]);
        assert_eq!(covered(&ranges[1]), [0, 1, 0, 0, 0, 0]);
        assert_eq!(covered(&ranges[2]), [0, 1, 1, 0, 1, 0]);
        assert_eq!(covered(&ranges[3]), [0, 1, 1, 1, 1, 0]);
        assert_eq!(covered(&ranges[4]), [0, 1, 0, 0, 1, 0]);
        assert_eq!(covered(&ranges[5]), [0, 1, 1, 0, 1, 1]);
    }
}
