//! The snapshot-then-watch machine: list, hand out, watch; and when history breaks, list again and hand out
//! the difference.
//!
//! ```text
//!            +------ Compacted, Lagged, TooLarge, StoreChanged, StoreRegressed ------+
//!            v                                                                       |
//!   new -> Listing -- page -> Listing -- last page --------------------------> Watching
//!            ^                  | |                                                  |
//!            +-- compacted, or -+ +-- denied, given up, ... --> Closed <-- final end +
//!                another store
//! ```
//!
//! While it is listing, one page is asked for, brought, handed out, and only then the next is asked for
//! (`list.rs`); how large they are is in `page_size.rs`. Where the driver can, a stream brings what comes after the first
//! page (`stream.rs`). What a page comes to for the consumer is in `merge.rs`, what a watch delivers in `watch.rs`.
//! A page that fails in a way that may pass is asked for again after a backoff.

mod event;
mod list;
mod merge;
mod page_size;
mod pairs;
mod request;
mod stream;
mod watch;

pub use event::{ListReason, MirrorEvent, SnapshotPart};
pub use pairs::{Pairs, PairsIter};
pub use request::{ListKey, ListProgress, ListRequest, MirrorAction, MirrorRequest, Page};

use alloc::collections::VecDeque;

use crate::{
    ApiMisuse, Checkpoint, CloseReason, Delivery, Instant, TimeoutReason, WatchConfig,
    attempts::Backoff,
    mirror::{
        list::{Lister, Position},
        merge::{Index, Merge},
    },
};

/// A key range of the store, listed and then watched, as one consistent history of states: a synchronous
/// machine like [`Watcher`](crate::Watcher), which it sits beside.
///
/// What its consumer gets, and what it may rely on, is [`MirrorEvent`]'s documentation.
///
/// The range is listed in pages, all at one revision R, and watched from R + 1: nothing is missed and
/// nothing comes twice. Where a watch can't go on (history is compacted, the store is another one or was
/// restored, the consumer lagged and asked for that), the range is listed again, and the difference to what
/// had been handed out is handed out, deletes included. Ends that listing can't cure end the mirror, with the
/// watch's reason. Failures of lists are retried as those of the `Watcher` are: by the same
/// [table](crate::remedy), backoff and deadlines.
///
/// It owns no `Watcher` and no connection. A *driver* stands between, reads pages, and hands on what the
/// watch has: `if mirror.wants_delivery() && let Some(delivery) = watcher.next(now, watch)`, then
/// `mirror.handle_delivery(now, delivery)`.
///
/// - **commands** are the consumer's: [`next`](Self::next), [`request_progress`](Self::request_progress),
///   [`cancel`](Self::cancel).
/// - **`handle_*`** tell it what happened: [`handle_page`](Self::handle_page),
///   [`handle_chunk`](Self::handle_chunk), [`handle_delivery`](Self::handle_delivery), [`handle_timeout`](Self::handle_timeout). They never fail.
/// - **`poll_*`** say what to do: after any call, `next` too, take [`poll_action`](Self::poll_action) until
///   it returns `None`, then ask [`poll_timeout`](Self::poll_timeout) when to call `handle_timeout`.
/// - **getters** change nothing: [`has_events`](Self::has_events), [`has_actions`](Self::has_actions),
///   [`wants_delivery`](Self::wants_delivery), [`wants_chunk`](Self::wants_chunk),
///   [`list_progress`](Self::list_progress), [`synced_revision`](Self::synced_revision),
///   [`checkpoint`](Self::checkpoint), [`index_keys`](Self::index_keys), [`is_closed`](Self::is_closed).
///
/// # Bounds
/// At most one thing waits for the consumer: a page, a message of a stream or a delivery. The next page is asked for once
/// the one before has been taken. The driver reads a stream only while `wants_chunk` is true, and takes from the watch only
/// while `wants_delivery` is true; the `Watcher` bounds what is left there. The index of keys
/// ([`keep_index`](MirrorRequest::keep_index)) is the only thing that grows with the range.
///
/// # Driving it by hand
/// ```
/// use bytes::Bytes;
/// use etcd_watch_core::{
///     CloseReason, WatchConfig, Delivery, Instant, KeyRange, ListReason, Mirror, MirrorAction, MirrorEvent,
///     MirrorRequest, Page, Pairs, OwnedKeyValue,
/// };
///
/// // A driver has `Page::decode` for what a server answers.
/// fn page(revision: i64, more: bool, keys: &[(&'static str, i64)]) -> Page {
///     let kv = |&(key, mod_revision)| OwnedKeyValue { key: Bytes::from_static(str::as_bytes(key)), mod_revision, ..OwnedKeyValue::default() };
///     let kvs: Vec<OwnedKeyValue> = keys.iter().map(kv).collect();
///     Page { revision, cluster_id: 1, more, count: 0, kvs: Pairs::copied(&kvs).unwrap() }
/// }
///
/// let now = Instant::ZERO;
/// let request = MirrorRequest::new(KeyRange::prefix("k"));
/// let mut mirror = Mirror::new(&WatchConfig::default(), request, 1)?;
///
/// // It wants the first page, at whatever revision the store is.
/// let Some(MirrorAction::List { list, request }) = mirror.poll_action() else { panic!() };
/// assert_eq!((request.revision, request.limit), (0, 128));
/// mirror.handle_page(now, list, Ok(page(7, true, &[("k1", 3), ("k2", 7)])));
///
/// // The consumer takes it, and the next page is asked for, at the same revision.
/// assert_eq!(mirror.next(now), Some(MirrorEvent::Listing { revision: 7, reason: ListReason::First }));
/// let Some(MirrorEvent::Snapshot(part)) = mirror.next(now) else { panic!() };
/// assert_eq!(part.puts().len(), 2);
/// assert_eq!(mirror.next(now), None);
/// let Some(MirrorAction::List { list, request }) = mirror.poll_action() else { panic!() };
/// assert_eq!((request.revision, &request.range.start()[..]), (7, &b"k2\0"[..]));
/// mirror.handle_page(now, list, Ok(page(9, false, &[("k5", 4)])));
///
/// // That was the last: it is watched on from there.
/// let Some(MirrorAction::Watch(watch)) = mirror.poll_action() else { panic!() };
/// assert_eq!(watch.start_at(), etcd_watch_core::StartAt::Revision(8));
/// assert!(matches!(mirror.next(now), Some(MirrorEvent::Snapshot(_))));
/// assert_eq!(mirror.next(now), Some(MirrorEvent::Synced { revision: 7 }));
///
/// // The driver now takes what the watch has. Here it has come too late: history is gone.
/// assert!(mirror.wants_delivery());
/// let reason = CloseReason::Compacted { compact_revision: 12, next_revision: 8 };
/// mirror.handle_delivery(now, Delivery::Closed(reason));
///
/// // So the keys are listed again, and the difference is handed out: k1 has changed, k2 is gone.
/// let Some(MirrorAction::List { list, .. }) = mirror.poll_action() else { panic!() };
/// mirror.handle_page(now, list, Ok(page(13, false, &[("k1", 10), ("k5", 4)])));
/// assert_eq!(mirror.next(now), Some(MirrorEvent::Listing { revision: 13, reason: ListReason::Compacted }));
/// let Some(MirrorEvent::Snapshot(part)) = mirror.next(now) else { panic!() };
/// assert_eq!((part.puts().len(), part.deletes()), (1, &[Bytes::from_static(b"k2")][..]));
/// assert_eq!(mirror.next(now), Some(MirrorEvent::Synced { revision: 13 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Mirror {
    config: WatchConfig,
    request: MirrorRequest,
    rng: fastrand::Rng,
    now: Instant,
    phase: Phase,
    lister: Lister,
    /// Lists begun again, with no word from a watch between them.
    restarts: Backoff,
    index: Option<Index>,
    /// The cluster's id, 0 while it is not known.
    cluster_id: u64,
    /// The highest revision that this store has shown.
    known: i64,
    /// The highest revision of this store that was handed out as synced.
    synced: i64,
    /// The revision that the fold of what was taken is at, and its cluster; `None` in the middle of a list. `known` and
    /// `cluster_id` may be ahead of it while something waits to be taken.
    taken: Option<(i64, u64)>,
    actions: VecDeque<MirrorAction>,
    events: VecDeque<MirrorEvent>,
    /// What was listed and is being handed out, after `events`. It is empty whenever `events` is empty.
    merges: VecDeque<Merge>,
    progress: ListProgress,
    /// What the watch delivered, after that.
    deliveries: VecDeque<Delivery>,
}

/// What it is at.
#[derive(Debug)]
enum Phase {
    Listing(Position),
    Watching,
    Closed,
}

impl Mirror {
    /// A mirror that wants its first page, or the watch that it resumes. `config` is the `Watcher`'s: its backoff and deadlines hold for
    /// lists too. `seed` is for the jitter: any number, different for each mirror.
    ///
    /// # Errors
    /// [`ApiMisuse::Request`] when the request [can't be served](MirrorRequest::validate),
    /// [`ApiMisuse::WatchConfig`] when `config` [contradicts itself](WatchConfig::validate).
    pub fn new(config: &WatchConfig, request: MirrorRequest, seed: u64) -> Result<Self, ApiMisuse> {
        config.validate()?;
        request.validate()?;
        let mut mirror = Self {
            config: config.clone(),
            rng: fastrand::Rng::with_seed(seed),
            now: Instant::ZERO,
            phase: Phase::Listing(Position::at(request.list_revision)),
            lister: Lister::new(request.page_bytes.unwrap_or(config.page_bytes)),
            restarts: Backoff::default(),
            index: request.keep_index.then(Index::default),
            request,
            cluster_id: 0,
            known: 0,
            synced: 0,
            taken: None,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            merges: VecDeque::new(),
            progress: ListProgress::default(),
            deliveries: VecDeque::new(),
        };
        mirror.resume();
        Ok(mirror)
    }

    /// Goes on where an earlier mirror had come to, if that is asked for.
    fn resume(&mut self) {
        let Some(checkpoint) = self.request.resume else { return };
        let revision = checkpoint.next_revision() - 1;
        self.cluster_id = checkpoint.cluster_id();
        (self.known, self.synced) = (revision, revision);
        self.taken = Some((revision, self.cluster_id));
        self.watch_from(revision);
    }

    /// Takes what is next for the consumer; `None` when there is nothing until something happens. What it
    /// takes makes room: drain the actions afterwards.
    pub fn next(&mut self, now: Instant) -> Option<MirrorEvent> {
        let now = self.advance(now);
        let event = self.events.pop_front();
        if let Some(event) = &event {
            let revision = event.synced_revision();
            self.synced = self.synced.max(revision.unwrap_or(0));
            self.taken = revision.map(|_| (self.synced, self.cluster_id));
        }
        self.fill();
        self.digest(now);
        event
    }

    /// Puts the next part of the page before the consumer, once it has taken what was there.
    fn fill(&mut self) {
        while self.events.is_empty()
            && let Some(merge) = self.merges.front_mut()
        {
            if let Some(part) = merge.next_part(self.index.as_mut(), self.lister.page_bytes()) {
                self.events.push_back(MirrorEvent::Snapshot(part));
                return;
            }
            let completes = merge.completes;
            self.merges.pop_front();
            self.events.extend(completes.map(|revision| MirrorEvent::Synced { revision }));
        }
    }

    /// Asks the server how far the watch is, for a [`Synced`](MirrorEvent::Synced) at the store's present
    /// revision; [`Watcher::request_progress`](crate::Watcher::request_progress) says when it is not
    /// answered. While keys are listed there is nothing to ask for: the list ends with a `Synced`.
    pub fn request_progress(&mut self, now: Instant) {
        self.advance(now);
        if matches!(self.phase, Phase::Watching) && !self.actions.contains(&MirrorAction::RequestProgress) {
            self.actions.push_back(MirrorAction::RequestProgress);
        }
    }

    /// Ends the mirror: what waits is thrown away, and `next` hands out `Closed(Cancelled)`. One that has
    /// ended already stays as it is.
    pub fn cancel(&mut self, now: Instant) {
        self.advance(now);
        if self.is_closed() {
            return;
        }
        // Not before the driver has seen it is there a watch to cancel.
        let is_asked_for = self.actions.iter().any(|action| matches!(action, MirrorAction::Watch(_)));
        // A stream that is not wanted any more is the driver's to reset all the same.
        self.actions.retain(|action| matches!(action, MirrorAction::CloseList { .. }));
        if matches!(self.phase, Phase::Watching) && !is_asked_for {
            self.actions.push_back(MirrorAction::Cancel);
        }
        self.events.clear();
        self.close(CloseReason::Cancelled);
    }

    /// The next thing to do, or `None` when there is nothing until the next call or timeout.
    pub fn poll_action(&mut self) -> Option<MirrorAction> {
        self.actions.pop_front().or_else(|| self.ask())
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` when nothing waits for time.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_timeout().map(|(at, _)| at)
    }

    /// Why: the reason for [`poll_timeout`](Self::poll_timeout).
    #[must_use]
    pub fn timeout_reason(&self) -> Option<TimeoutReason> {
        self.next_timeout().map(|(_, reason)| reason)
    }

    fn next_timeout(&self) -> Option<(Instant, TimeoutReason)> {
        match self.phase {
            Phase::Listing(_) => self.lister.timeouts(&self.config).min(),
            Phase::Watching | Phase::Closed => None,
        }
    }

    /// Whether [`poll_action`](Self::poll_action) has something to say.
    #[must_use]
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty() || self.may_ask()
    }

    /// Whether [`next`](Self::next) has something.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Whether to take from the watch: the list has been handed out, and so has what the watch had before.
    #[must_use]
    pub fn wants_delivery(&self) -> bool {
        matches!(self.phase, Phase::Watching) && !self.has_events() && self.deliveries.is_empty()
    }

    /// The revision that the fold of what was handed out is exactly at; `None` while it is a mix, between a
    /// [`Listing`](MirrorEvent::Listing) and its `Synced`, and after the end.
    #[must_use]
    pub fn synced_revision(&self) -> Option<i64> {
        self.taken.map(|(revision, _)| revision)
    }

    /// Where to go on after a restart of the program with the fold of what was handed out, by
    /// [`MirrorRequest::resume`]; `None` whenever [`synced_revision`](Self::synced_revision) is.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.taken.map(|(revision, cluster_id)| Checkpoint::new(revision.saturating_add(1), cluster_id))
    }

    /// How far the list has come that is being handed out; `None` while there is none, between a
    /// [`Synced`](MirrorEvent::Synced) and the next [`Listing`](MirrorEvent::Listing), and after the end.
    #[must_use]
    pub fn list_progress(&self) -> Option<ListProgress> {
        (self.taken.is_none() && !self.is_closed()).then_some(self.progress)
    }

    /// How many keys the index has: those of the consumer's fold. 0 without an index.
    #[must_use]
    pub fn index_keys(&self) -> usize {
        self.index.as_ref().map_or(0, Index::len)
    }

    /// What it was asked for.
    pub fn request(&self) -> &MirrorRequest {
        &self.request
    }

    /// Whether it has ended: it wants nothing more, and `next` has its end or has handed it out.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    fn close(&mut self, reason: CloseReason) {
        self.close_stream();
        self.phase = Phase::Closed;
        self.merges.clear();
        self.index = None;
        self.deliveries.clear();
        self.events.push_back(MirrorEvent::Closed(reason));
    }

    /// Time never goes back.
    fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }
}
