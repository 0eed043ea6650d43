//! One watch stream as the server sees it: its watches, and what waits to be sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};

use super::config::{ModelConfig, ProgressMode};
use super::error::ModelError;
use super::fragment;
use super::key_range::KeyRange;
use super::store::{Change, Store};
use super::watcher::{State, Watcher};

/// Stands for no watch in particular: the stream as a whole, or a watch that was refused.
const NO_WATCH: i64 = -1;

/// What a stream needs to know of the rest of the member.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) store: &'a Store,
    pub(super) config: &'a ModelConfig,
}

impl Context<'_> {
    fn header(&self, revision: i64) -> Option<ResponseHeader> {
        (!self.config.quirks.omit_headers).then(|| self.config.header(revision))
    }
}

/// One watch stream.
///
/// Two queues lead to the client, as in etcd: `control` with the replies to requests, and `queue` with
/// everything else, which has a limit. A watch whose response doesn't fit falls behind and catches up from
/// history when there is room again, so a slow reader costs no memory.
#[derive(Debug, Clone)]
pub(super) struct WatchStream {
    watchers: BTreeMap<i64, Watcher>,
    next_id: i64,
    control: VecDeque<WatchResponse>,
    queue: VecDeque<Queued>,
    /// Watches whose `Created` has been sent, and that haven't been cancelled.
    announced: BTreeSet<i64>,
    /// Responses that came out of the queue while their watch wasn't announced. As in etcd, that includes
    /// late ones of cancelled watches, which a new watch with the same id will get.
    pending: BTreeMap<i64, Vec<WatchResponse>>,
    /// Goes out next, in this order: fragments of one response, and what was pending.
    out: VecDeque<WatchResponse>,
    unsynced: Waiting,
    victims: Waiting,
    progress_watchers: usize,
    next_progress: Duration,
    failure: Option<ModelError>,
    random: Option<fastrand::Rng>,
}

/// A response on its way; the events are made of the changes only when it is sent.
#[derive(Debug, Clone)]
struct Queued {
    watch_id: i64,
    changes: Vec<Change>,
    revision: i64,
    compact_revision: i64,
    /// Why the server ends the watch, if it does without a compaction.
    canceled: Option<String>,
}

/// Watches that wait for their turn, round robin by id.
#[derive(Debug, Clone, Default)]
struct Waiting {
    ids: BTreeSet<i64>,
    last: i64,
}

impl Waiting {
    fn next(&mut self) -> Option<i64> {
        let after = self.ids.range((Bound::Excluded(self.last), Bound::Unbounded)).next();
        let next = *after.or_else(|| self.ids.first())?;
        self.last = next;
        Some(next)
    }
}

impl WatchStream {
    pub(super) fn new(config: &ModelConfig, seed: u64, now: Duration) -> Self {
        Self {
            watchers: BTreeMap::new(),
            next_id: 0,
            control: VecDeque::new(),
            queue: VecDeque::new(),
            announced: BTreeSet::new(),
            pending: BTreeMap::new(),
            out: VecDeque::new(),
            unsynced: Waiting::default(),
            victims: Waiting::default(),
            progress_watchers: 0,
            next_progress: now.saturating_add(config.progress_interval()),
            failure: None,
            random: config.interleave_seed.map(|base| fastrand::Rng::with_seed(base.wrapping_add(seed))),
        }
    }

    /// Watches that are held: one ended by compaction too, until its client cancels it, as in etcd.
    pub(super) fn watcher_count(&self) -> usize {
        self.watchers.len()
    }

    /// Watches that have to catch up.
    pub(super) fn slow_watcher_count(&self) -> usize {
        self.unsynced.ids.len() + self.victims.ids.len()
    }

    pub(super) fn ranges(&self) -> impl Iterator<Item = (i64, &KeyRange)> {
        self.watchers.iter().map(|(id, watcher)| (*id, &watcher.range))
    }

    pub(super) fn failure(&self) -> Option<ModelError> {
        self.failure
    }

    /// Ends the stream: nothing more is sent.
    pub(super) fn fail(&mut self, error: ModelError) {
        self.watchers.clear();
        self.unsynced = Waiting::default();
        self.victims = Waiting::default();
        self.progress_watchers = 0;
        self.control.clear();
        self.queue.clear();
        self.pending.clear();
        self.out.clear();
        self.failure = Some(error);
    }

    /// Whether there is room for the reply to one more request.
    pub(super) fn wants_request(&self, config: &ModelConfig) -> bool {
        self.control.len() < config.control_queue
    }

    pub(super) fn is_behind(&self) -> bool {
        !self.unsynced.ids.is_empty() || !self.victims.ids.is_empty()
    }

    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty() || !self.control.is_empty() || !self.queue.is_empty()
    }

    /// Begins a watch, or refuses it, with `denied` as the reason if given. Returns its id and range.
    pub(super) fn create(
        &mut self,
        request: &WatchCreateRequest,
        denied: Option<&str>,
        context: Context<'_>,
    ) -> Option<(i64, KeyRange)> {
        let range = requested_range(request);
        let requested = if context.config.quirks.assign_ids { 0 } else { request.watch_id };
        let refusal = if request.start_revision < 0 && !context.config.quirks.negative_start {
            Some(ModelError::Compacted.to_string())
        } else if let Some(reason) = denied {
            Some(reason.to_owned())
        } else if range.is_empty() {
            Some("mvcc: watcher range is empty".to_owned())
        } else if requested != 0 && self.watchers.contains_key(&requested) {
            Some("mvcc: duplicate watch ID provided on the WatchStream".to_owned())
        } else {
            None
        };
        let newest = context.store.revision();
        if let Some(cancel_reason) = refusal {
            self.control.push_back(WatchResponse {
                header: context.header(newest),
                watch_id: NO_WATCH,
                created: true,
                canceled: true,
                cancel_reason,
                ..WatchResponse::default()
            });
            return None;
        }

        let id = if requested == 0 { self.choose_id() } else { requested };
        let watcher = Watcher::new(request, range.clone(), newest);
        if !watcher.is_synced() {
            self.unsynced.ids.insert(id);
        }
        self.progress_watchers += usize::from(watcher.progress.is_some());
        self.watchers.insert(id, watcher);
        let header = if context.config.quirks.synthetic_created {
            Some(ResponseHeader { revision: request.start_revision, ..ResponseHeader::default() })
        } else {
            context.header(newest)
        };
        self.control.push_back(WatchResponse {
            header,
            watch_id: id,
            created: true,
            ..WatchResponse::default()
        });
        Some((id, range))
    }

    /// Ends a watch at its client's request and says so, or says nothing if there is none with this id. Returns its
    /// range.
    pub(super) fn cancel(&mut self, id: i64, context: Context<'_>) -> Option<KeyRange> {
        let range = self.remove(id)?;
        self.control.push_back(WatchResponse {
            header: context.header(context.store.revision()),
            watch_id: id,
            canceled: true,
            ..WatchResponse::default()
        });
        Some(range)
    }

    /// Ends a watch from the server's side. It is said behind what is on its way, as in etcd the end by compaction is: a
    /// progress reply that doesn't speak for the watch any more can't come before it.
    pub(super) fn end(&mut self, id: i64, reason: &str, context: Context<'_>) -> Option<KeyRange> {
        let range = self.remove(id)?;
        self.queue.push_back(Queued::canceled(id, context.store.revision(), reason));
        Some(range)
    }

    /// Loses a watch: it is held, and gets nothing any more but what is on its way. False if there is none with this id,
    /// or it has been lost or compacted before.
    pub(super) fn lose(&mut self, id: i64) -> bool {
        let Some(watcher) = self.watchers.get_mut(&id) else { return false };
        if matches!(watcher.state, State::Compacted | State::Lost) {
            return false;
        }
        watcher.state = State::Lost;
        self.progress_watchers -= usize::from(watcher.progress.take().is_some());
        self.unsynced.ids.remove(&id);
        self.victims.ids.remove(&id);
        true
    }

    /// Whether there is a watch with this id that doesn't leave puts out.
    pub(super) fn sees_puts(&self, id: i64) -> bool {
        self.watchers.get(&id).is_some_and(Watcher::sees_puts)
    }

    /// Watches that are held and lost.
    pub(super) fn lost_count(&self) -> usize {
        self.watchers.values().filter(|watcher| matches!(watcher.state, State::Lost)).count()
    }

    fn remove(&mut self, id: i64) -> Option<KeyRange> {
        let watcher = self.watchers.remove(&id)?;
        self.unsynced.ids.remove(&id);
        self.victims.ids.remove(&id);
        self.progress_watchers -= usize::from(watcher.progress.is_some());
        Some(watcher.range)
    }

    /// Answers a manual progress request, if it is to be answered.
    pub(super) fn request_progress(&mut self, context: Context<'_>) {
        if context.config.quirks.ignore_progress_requests {
            return;
        }
        let revision = context.store.revision();
        match context.config.progress {
            ProgressMode::Overtaking => self.control.push_back(WatchResponse {
                header: context.header(revision),
                watch_id: NO_WATCH,
                ..WatchResponse::default()
            }),
            ProgressMode::Fixed => {
                let all = !self.watchers.is_empty()
                    && self.watchers.values().all(|watcher| may_report(watcher, context));
                if all && self.has_room(context) {
                    self.queue.push_back(Queued::progress(NO_WATCH, revision));
                }
            }
        }
    }

    /// When the next round of progress notifications is due.
    pub(super) fn next_progress(&self) -> Option<Duration> {
        (self.progress_watchers > 0).then_some(self.next_progress)
    }

    /// Sends the progress notifications that are due.
    pub(super) fn notify_progress(&mut self, now: Duration, context: Context<'_>) {
        if now < self.next_progress {
            return;
        }
        self.next_progress = now.saturating_add(context.config.progress_interval());
        let revision = context.store.revision();
        for (id, watcher) in &mut self.watchers {
            if watcher.progress == Some(true)
                && may_report(watcher, context)
                && self.queue.len() < context.config.watch_queue
            {
                self.queue.push_back(Queued::progress(*id, revision));
            }
            // One that had events in this round is due in the next.
            watcher.progress = watcher.progress.map(|_| true);
        }
    }

    /// Passes on changes of one revision that just happened to a watch, if it is up to date.
    pub(super) fn notify(&mut self, id: i64, changes: Vec<Change>, context: Context<'_>) {
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        let revision = context.store.revision();
        if !watcher.is_synced() || revision < watcher.min_revision {
            return;
        }
        watcher.min_revision = revision + 1;
        if !offer(&mut self.queue, watcher, id, &changes, revision, context) {
            watcher.state = State::Victim(super::watcher::Batch { changes, more: None });
            self.victims.ids.insert(id);
        }
    }

    /// One pass over the watches that are behind.
    pub(super) fn catch_up(&mut self, context: Context<'_>) {
        self.move_victims(context);
        self.sync(context);
    }

    /// What goes to the client next.
    pub(super) fn next_response(&mut self, context: Context<'_>) -> Option<WatchResponse> {
        loop {
            if let Some(response) = self.out.pop_front() {
                return Some(response);
            }
            if context.config.sync_interval.is_zero() {
                self.refill(context);
            }
            if self.control_is_next() {
                return self.next_control(context);
            }
            self.take_queued(context)?;
            if context.config.quirks.interleave_fragments {
                while self.take_queued(context).is_some() {}
                self.out = fragment::interleaved(std::mem::take(&mut self.out));
            }
        }
    }

    /// Lets watches that are behind go on as soon as there is room for them.
    fn refill(&mut self, context: Context<'_>) {
        self.move_victims(context);
        // Each pass fills the queue, or takes watches off the list, or moves them on in history.
        while self.queue.is_empty() && !self.unsynced.ids.is_empty() {
            self.sync(context);
        }
    }

    fn control_is_next(&mut self) -> bool {
        if self.control.is_empty() {
            return false;
        }
        match &mut self.random {
            Some(random) if !self.queue.is_empty() => random.bool(),
            _ => true,
        }
    }

    fn next_control(&mut self, context: Context<'_>) -> Option<WatchResponse> {
        if context.config.quirks.reorder_created
            && self.control.len() > 1
            && self.control.iter().take(2).all(|response| response.created)
        {
            self.control.swap(0, 1);
        }
        let response = self.control.pop_front()?;
        if response.canceled {
            self.announced.remove(&response.watch_id);
        } else if response.created {
            self.announced.insert(response.watch_id);
            // Not fragmented even if asked for: etcd isn't that thorough here.
            self.out.extend(self.pending.remove(&response.watch_id).unwrap_or_default());
        }
        Some(response)
    }

    /// Moves the next response from the queue to the way out, or to those that wait for their `Created`.
    fn take_queued(&mut self, context: Context<'_>) -> Option<()> {
        let queued = self.queue.pop_front()?;
        let id = queued.watch_id;
        let watcher = self.watchers.get_mut(&id);
        let prev_kv = watcher.as_ref().is_some_and(|watcher| watcher.prev_kv);
        let response = queued.into_response(prev_kv, context);
        if id != NO_WATCH && !self.announced.contains(&id) {
            self.pending.entry(id).or_default().push(response);
            return Some(());
        }
        let mut fragment = false;
        if let Some(watcher) = watcher {
            fragment = watcher.fragment && !context.config.quirks.ignore_fragment;
            if !response.events.is_empty() {
                watcher.progress = watcher.progress.map(|_| false);
            }
        }
        if fragment {
            self.out.extend(fragment::cut(response, context.config.fragment_bytes));
        } else {
            self.out.push_back(response);
        }
        Some(())
    }

    /// Sends what didn't fit before, as long as it fits now.
    fn move_victims(&mut self, context: Context<'_>) {
        while self.has_room(context) {
            let Some(id) = self.victims.next() else { return };
            self.victims.ids.remove(&id);
            let Some(watcher) = self.watchers.get_mut(&id) else { continue };
            let State::Victim(batch) = std::mem::replace(&mut watcher.state, State::Synced) else { continue };
            // There is room, so it is taken.
            offer(&mut self.queue, watcher, id, &batch.changes, watcher.min_revision - 1, context);
            if let Some(more) = batch.more {
                watcher.min_revision = more;
            }
            if watcher.min_revision <= context.store.revision() {
                watcher.state = State::Unsynced;
                self.unsynced.ids.insert(id);
            }
        }
    }

    /// Lets a number of watches catch up by one response each.
    fn sync(&mut self, context: Context<'_>) {
        let newest = context.store.revision();
        for _ in 0..context.config.watchers_per_sync.min(self.unsynced.ids.len()).max(1) {
            let Some(id) = self.unsynced.next() else { return };
            let has_room = self.has_room(context);
            let Some(watcher) = self.watchers.get_mut(&id) else {
                self.unsynced.ids.remove(&id);
                continue;
            };
            if watcher.min_revision < context.store.compact_revision() {
                // Without room it is told another time.
                if has_room {
                    self.queue.push_back(Queued::compacted(id, context.store.compact_revision()));
                    watcher.state = State::Compacted;
                    self.unsynced.ids.remove(&id);
                }
                continue;
            }
            let batch = watcher.next_batch(context.store, context.config.watch_batch_revisions.max(1));
            watcher.min_revision = batch.more.unwrap_or(newest + 1);
            if !offer(&mut self.queue, watcher, id, &batch.changes, newest, context) {
                watcher.state = State::Victim(batch);
                self.unsynced.ids.remove(&id);
                self.victims.ids.insert(id);
            } else if batch.more.is_none() {
                watcher.state = State::Synced;
                self.unsynced.ids.remove(&id);
            }
        }
    }

    fn has_room(&self, context: Context<'_>) -> bool {
        self.queue.len() < context.config.watch_queue
    }

    fn choose_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }
}

/// Queues what a watch's filters let pass. False if there is no room; if nothing passes, none is needed.
fn offer(
    queue: &mut VecDeque<Queued>,
    watcher: &Watcher,
    watch_id: i64,
    changes: &[Change],
    revision: i64,
    context: Context<'_>,
) -> bool {
    let passing: Vec<Change> = changes.iter().filter(|change| watcher.passes(change)).cloned().collect();
    if passing.is_empty() {
        return true;
    }
    if queue.len() >= context.config.watch_queue {
        return false;
    }
    queue.push_back(Queued { watch_id, changes: passing, revision, compact_revision: 0, canceled: None });
    true
}

/// Whether a progress revision may speak for a watch.
fn may_report(watcher: &Watcher, context: Context<'_>) -> bool {
    watcher.is_synced()
        && (context.config.quirks.progress_before_start || watcher.start_revision <= context.store.revision())
}

/// The range a create request names; no key at all means the first key there can be.
pub(super) fn requested_range(request: &WatchCreateRequest) -> KeyRange {
    if request.key.is_empty() {
        KeyRange::new(&Bytes::from_static(b"\0"), &request.range_end)
    } else {
        KeyRange::new(&request.key, &request.range_end)
    }
}

impl Queued {
    fn progress(watch_id: i64, revision: i64) -> Self {
        Self { watch_id, changes: Vec::new(), revision, compact_revision: 0, canceled: None }
    }

    /// The end of a watch. Its header has no revision, in etcd neither.
    fn compacted(watch_id: i64, compact_revision: i64) -> Self {
        Self { watch_id, changes: Vec::new(), revision: 0, compact_revision, canceled: None }
    }

    /// The end of a watch for another reason.
    fn canceled(watch_id: i64, revision: i64, reason: &str) -> Self {
        let canceled = Some(reason.to_owned());
        Self { watch_id, changes: Vec::new(), revision, compact_revision: 0, canceled }
    }

    fn into_response(self, prev_kv: bool, context: Context<'_>) -> WatchResponse {
        let events = self
            .changes
            .iter()
            .map(|change| {
                let mut event = change.to_event();
                if prev_kv && !change.is_create() {
                    // Looked up when sent, so it is missing if compaction was quicker.
                    event.prev_kv = context.store.state_before(change);
                }
                event
            })
            .collect();
        WatchResponse {
            header: context.header(self.revision),
            watch_id: self.watch_id,
            canceled: self.compact_revision != 0 || self.canceled.is_some(),
            cancel_reason: self.canceled.unwrap_or_default(),
            compact_revision: self.compact_revision,
            events,
            ..WatchResponse::default()
        }
    }
}
