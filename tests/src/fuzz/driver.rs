//! A driver that keeps books: it does what a [`Watcher`] says, and holds it to what it has said before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_core::{
    Action, ApiMisuse, Delivery, Failure, Instant, KeyRange, Opened, RangeDone, RangeKey, Request,
    ResponseKind, StreamKey, WatchConfig, WatchKey, WatchRequest, WatchResponse, WatchState, Watcher,
};
use etcd_watch_proto::etcdserverpb::WatchResponse as Frame;
use etcd_watch_proto::prost::Message;

/// What an event's index takes at the most, with that of its previous pair.
const BYTES_PER_EVENT: usize = 128;

/// What a response takes beside its events, at the most, with a notice that comes after it.
const BYTES_PER_RESPONSE: usize = 1024;

/// A watcher and all that is known of it from outside.
pub(super) struct Driver {
    pub(super) watcher: Watcher,
    pub(super) now: Instant,
    sizes: Sizes,
    /// Every watch there ever was, in order.
    pub(super) watches: Vec<WatchKey>,
    books: BTreeMap<WatchKey, Watched>,
    /// Every stream that was ever asked for, in order.
    pub(super) streams: Vec<StreamKey>,
    connections: BTreeMap<StreamKey, Connection>,
    /// Every read that was ever asked for, in order.
    pub(super) ranges: Vec<RangeKey>,
    /// What the largest frame takes at the most, with its index.
    largest_frame: usize,
}

/// The limits that the machine was given, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) buffer: usize,
    pub(super) total: usize,
    pub(super) revision: usize,
}

impl Sizes {
    pub(super) fn set(self, config: WatchConfig) -> WatchConfig {
        config.total_buffer_bytes(self.total).buffer_bytes(self.buffer).max_revision_bytes(self.revision)
    }
}

/// What is known of one watch.
struct Watched {
    range: KeyRange,
    start: i64,
    buffer: usize,
    wants_created: bool,
    wants_progress: bool,
    /// Whether it was announced, and hasn't been found empty since.
    announced: bool,
    /// Whether it hasn't been looked at since it was announced.
    unread: bool,
    /// The last revision of an event that was delivered.
    delivered: i64,
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Open,
    Ended,
}

/// What is known of one stream.
struct Connection {
    phase: Phase,
    /// The ids that were asked for, in order, with their watches, of which a probe has none; those the server has
    /// not answered.
    pending: Vec<(i64, Option<WatchKey>)>,
    asked: BTreeSet<i64>,
    /// How often an id was given out by the server, and how often it was cancelled since.
    created: BTreeMap<i64, usize>,
    cancelled: BTreeMap<i64, usize>,
}

impl Driver {
    /// `config` has to have these sizes.
    pub(super) fn new(config: WatchConfig, sizes: Sizes, seed: u64) -> Self {
        Self {
            watcher: Watcher::new(config, seed).expect("the target's configurations are valid"),
            now: Instant::from_nanos(1),
            sizes,
            watches: Vec::new(),
            books: BTreeMap::new(),
            streams: Vec::new(),
            connections: BTreeMap::new(),
            ranges: Vec::new(),
            largest_frame: 0,
        }
    }

    /// Opens a watch, if the request is a valid one.
    pub(super) fn watch(&mut self, request: WatchRequest, facts: (i64, Option<usize>, bool, bool)) {
        let (start, buffer, wants_created, wants_progress) = facts;
        let range = request.range().clone();
        let is_valid = request.validate().is_ok();
        match self.watcher.watch(self.now, request) {
            Ok(key) => {
                assert!(is_valid && !self.books.contains_key(&key), "{key:?} is new");
                self.watches.push(key);
                let watched = Watched {
                    range,
                    start,
                    buffer: buffer.unwrap_or(self.sizes.buffer),
                    wants_created,
                    wants_progress,
                    announced: false,
                    unread: false,
                    delivered: 0,
                    closed: false,
                };
                self.books.insert(key, watched);
            }
            Err(ApiMisuse::Request(_)) => assert!(!is_valid),
            Err(error) => assert_eq!(error, ApiMisuse::ShutDown),
        }
        self.settle();
    }

    pub(super) fn cancel(&mut self, watch: WatchKey) {
        let cancelled = self.watcher.cancel(self.now, watch);
        assert_eq!(cancelled.is_err(), self.books[&watch].closed, "{cancelled:?}");
        self.settle();
    }

    pub(super) fn request_progress(&mut self, watch: WatchKey) {
        let requested = self.watcher.request_progress(self.now, watch);
        if let Some(watched) = self.books.get_mut(&watch) {
            assert_eq!(requested.is_err(), watched.closed, "{requested:?}");
            watched.wants_progress = true;
        }
        self.settle();
    }

    /// The consumer takes up to `count` deliveries.
    pub(super) fn take(&mut self, watch: WatchKey, count: usize) {
        for _ in 0..count {
            let delivery = self.watcher.next(self.now, watch);
            let Some(watched) = self.books.get_mut(&watch) else { return };
            // What waits may be dropped for the common budget, to come again now that the consumer is there.
            let may_be_dropped = || self.watcher.watch_stats(watch).is_some_and(|stats| stats.overflows > 0);
            let has_something = delivery.is_some() || !watched.unread || may_be_dropped();
            assert!(has_something, "{watch:?} was announced and had nothing");
            watched.unread = false;
            match delivery {
                None => {
                    watched.announced = false;
                    break;
                }
                Some(delivery) => watched.check_delivery(watch, &delivery),
            }
        }
        self.settle();
    }

    pub(super) fn opened(&mut self, stream: StreamKey, opened: Opened) {
        if let Some(connection) = self.connections.get_mut(&stream)
            && connection.phase == Phase::Opening
        {
            connection.phase = Phase::Open;
        }
        self.watcher.handle_opened(self.now, stream, opened);
        self.settle();
    }

    /// A frame arrives. From an open stream it is read only when the machine wants that, as its contract says.
    pub(super) fn frame(&mut self, stream: StreamKey, bytes: Bytes) {
        let Some(connection) = self.connections.get_mut(&stream) else { return };
        let is_open = connection.phase == Phase::Open;
        if is_open && !self.watcher.wants_frame(stream) {
            return;
        }
        let decoded = Frame::decode(&bytes[..]);
        let events = decoded.as_ref().map_or(0, |frame| frame.events.len());
        self.largest_frame = self.largest_frame.max(bytes.len() + events * BYTES_PER_EVENT);
        if is_open
            && let Ok(frame) = decoded
            && frame.created
            && !connection.pending.is_empty()
        {
            connection.pending.remove(0);
            if !frame.canceled || (frame.compact_revision > 0 && frame.watch_id != -1) {
                *connection.created.entry(frame.watch_id).or_default() += 1;
            }
        }
        self.watcher.handle_frame(self.now, stream, etcd_watch_core::Frame::decode(bytes));
        self.settle();
    }

    pub(super) fn failed(&mut self, stream: StreamKey, failure: Failure) {
        if let Some(connection) = self.connections.get_mut(&stream) {
            connection.phase = Phase::Ended;
        }
        self.watcher.handle_failed(self.now, stream, failure);
        self.settle();
    }

    pub(super) fn move_stream(&mut self, stream: StreamKey) {
        let is_open = self.connections[&stream].phase == Phase::Open;
        assert_eq!(self.watcher.move_stream(self.now, stream).is_ok(), is_open, "{stream:?}");
        self.settle();
        assert!(!self.watcher.wants_frame(stream));
    }

    pub(super) fn range_done(&mut self, range: RangeKey, result: Result<RangeDone, Failure>) {
        self.watcher.handle_range_done(self.now, range, result);
        self.settle();
    }

    /// The timer rings, at the time that was asked for.
    pub(super) fn timeout(&mut self) {
        if let Some(at) = self.watcher.poll_timeout() {
            assert!(self.watcher.timeout_reason().is_some());
            self.now = self.now.max(at);
        }
        self.sleep(Duration::ZERO);
    }

    /// Time passes. Whatever was due then is not due any more afterwards, or a driver would spin.
    pub(super) fn sleep(&mut self, duration: Duration) {
        self.now = self.now + duration;
        let now = self.now;
        for _ in 0..4 {
            self.watcher.handle_timeout(now);
            self.settle();
        }
        // At the end of time everything is due for ever.
        let is_the_end = now.as_nanos() > u64::MAX / 2;
        let due = self.watcher.poll_timeout().filter(|&at| at <= now && !is_the_end);
        assert_eq!(due, None, "{:?} does not stop being due", self.watcher.timeout_reason());
    }

    /// A call with a time that has passed already.
    pub(super) fn go_back(&mut self, now: Instant) {
        self.watcher.handle_timeout(now);
        self.settle();
    }

    pub(super) fn shutdown(&mut self) {
        self.watcher.shutdown(self.now);
        self.settle();
    }

    /// The streams that are being opened.
    pub(super) fn opening(&self) -> Vec<StreamKey> {
        let is_opening = |key: &&StreamKey| self.connections[*key].phase == Phase::Opening;
        self.streams.iter().filter(is_opening).copied().collect()
    }

    /// The oldest create that an open stream has not answered.
    pub(super) fn pending(&self, stream: StreamKey) -> Option<i64> {
        let connection =
            self.connections.get(&stream).filter(|connection| connection.phase == Phase::Open)?;
        connection.pending.first().map(|&(id, _)| id)
    }

    /// Ids that mean something on a stream, or have meant something, or are to.
    pub(super) fn ids(&self, stream: StreamKey) -> Vec<i64> {
        let Some(connection) = self.connections.get(&stream) else { return Vec::new() };
        connection.asked.iter().chain(connection.created.keys()).copied().collect()
    }

    /// Does what the machine says, until it has nothing to say, which has to be soon.
    fn settle(&mut self) {
        let limit = 64 + 8 * self.watches.len() + 24 * self.watcher.stats().streams;
        let mut said = 0;
        loop {
            let has_actions = self.watcher.has_actions();
            let Some(action) = self.watcher.poll_action() else { break };
            assert!(has_actions, "it denied having {action:?}");
            said += 1;
            assert!(said <= limit, "more than {limit} actions at once, the last one {action:?}");
            self.act(action);
        }
        assert!(!self.watcher.has_actions());
        self.watcher.assert_consistent();
        self.check_accounts();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Open { stream, .. } => {
                let is_open = |(key, open): (&StreamKey, &Connection)| {
                    key.stream() == stream.stream() && open.phase != Phase::Ended
                };
                assert!(!self.connections.iter().any(is_open), "{stream:?} takes the place of an open one");
                let connection = Connection {
                    phase: Phase::Opening,
                    pending: Vec::new(),
                    asked: BTreeSet::new(),
                    created: BTreeMap::new(),
                    cancelled: BTreeMap::new(),
                };
                assert!(self.connections.insert(stream, connection).is_none(), "{stream:?} is new");
                self.streams.push(stream);
            }
            Action::Send { stream, request, creates } => {
                let connection = self.connections.get_mut(&stream).expect("it was asked for");
                assert_eq!(connection.phase, Phase::Open, "{request:?} on {stream:?}");
                match request {
                    Request::Create(create) => {
                        let is_new = create.watch_id == 0 || connection.asked.insert(create.watch_id);
                        assert!(is_new && create.watch_id >= 0, "{create:?} on {stream:?}");
                        let watch = creates.map(|creates| creates.watch);
                        assert_eq!(
                            watch.is_none(),
                            create.is_probe(),
                            "{create:?} is for a watch or a probe"
                        );
                        if let Some(watch) = watch {
                            let watched = &self.books[&watch];
                            assert!(!watched.closed, "{watch:?} has ended");
                            assert_eq!(create.range, watched.range);
                            let first = watched.start.max(1).max(watched.delivered + 1);
                            assert!(create.start_revision >= first, "{create:?}, not before {first}");
                            let is_pending =
                                connection.pending.iter().any(|&(_, pending)| pending == Some(watch));
                            assert!(!is_pending, "{watch:?} is being created already");
                        } else {
                            assert!(
                                create.filters.no_put && create.filters.no_delete,
                                "a probe sees nothing"
                            );
                            assert_eq!(connection.pending, [], "their answers would do");
                        }
                        connection.pending.push((create.watch_id, watch));
                    }
                    Request::Cancel { watch_id } => {
                        let cancelled = connection.cancelled.entry(watch_id).or_default();
                        *cancelled += 1;
                        let created = connection.created.get(&watch_id).copied().unwrap_or(0);
                        assert!(
                            *cancelled <= created,
                            "{watch_id} on {stream:?}: cancelled {cancelled} times"
                        );
                    }
                    Request::Progress => {}
                }
            }
            Action::Close { stream, .. } => {
                let connection = self.connections.get_mut(&stream).expect("it was asked for");
                assert_ne!(connection.phase, Phase::Ended, "{stream:?} has ended already");
                connection.phase = Phase::Ended;
            }
            Action::Range { range, .. } => {
                assert!(!self.ranges.contains(&range), "{range:?} is new");
                self.ranges.push(range);
            }
            Action::Deliver { watch } => {
                let watched = self.books.get_mut(&watch).expect("it was opened");
                assert!(!watched.announced && !watched.closed, "{watch:?} is announced once");
                (watched.announced, watched.unread) = (true, true);
            }
            Action::Overflowed { watch, .. } => assert!(!self.books[&watch].closed, "{watch:?} has ended"),
        }
    }

    /// What waits is bounded, and whoever has something to take knows it.
    fn check_accounts(&self) {
        let crossing =
            self.sizes.revision.saturating_add(self.largest_frame).saturating_add(BYTES_PER_RESPONSE);
        let mut queued = 0;
        for (watch, stats) in self.watcher.all_watch_stats() {
            let watched = &self.books[&watch];
            let limit = watched.buffer.saturating_add(crossing);
            assert!(stats.queued_bytes <= limit, "{watch:?} has {} bytes waiting", stats.queued_bytes);
            let has_something = stats.queued_responses > 0 || stats.state == WatchState::Closed;
            assert!(watched.announced || !has_something, "{watch:?} was not announced");
            assert!(!watched.closed, "{watch:?} has ended");
            queued += stats.queued_bytes;
        }
        let stats = self.watcher.stats();
        assert_eq!(queued, stats.queued_bytes, "the watches' accounts and the whole");
        let limit = crossing.saturating_mul(self.watches.len()).saturating_add(self.sizes.total);
        assert!(queued <= limit, "{queued} bytes wait in all");
    }

    /// Ends it. Every watch then ends, once and after everything else, and nothing is left.
    pub(super) fn finish(mut self) {
        self.shutdown();
        for watch in self.watches.clone() {
            self.take(watch, usize::MAX);
            assert!(self.books[&watch].closed, "{watch:?} has no end");
            assert_eq!(self.watcher.watch_stats(watch), None);
        }
        let stats = self.watcher.stats();
        assert_eq!((stats.watches, stats.streams, stats.queued_bytes), (0, 0, 0), "{stats:?}");
        assert_eq!(self.watcher.poll_timeout(), None);
        let is_left = |(_, open): (&StreamKey, &Connection)| open.phase != Phase::Ended;
        assert!(!self.connections.iter().any(is_left), "a stream is left open");
    }
}

impl Watched {
    fn check_delivery(&mut self, watch: WatchKey, delivery: &Delivery) {
        assert!(!self.closed, "{watch:?} has ended, and has {delivery:?}");
        match delivery {
            Delivery::Response(response) => self.check_response(watch, response),
            Delivery::Closed(_) => self.closed = true,
            other => panic!("unheard of: {other:?}"),
        }
    }

    fn check_response(&mut self, watch: WatchKey, response: &WatchResponse) {
        match response.kind() {
            ResponseKind::Created => {
                assert!(std::mem::take(&mut self.wants_created), "{watch:?}: created once, if asked for");
            }
            ResponseKind::Progress => assert!(self.wants_progress, "{watch:?} wants no progress"),
            _ => {
                assert!(!response.is_empty() && response.len() == response.events().count());
                let mut last = self.delivered + 1;
                for event in response.events() {
                    let revision = event.mod_revision();
                    assert!(revision >= last.max(self.start), "{watch:?}: {revision} where {last} was");
                    assert!(self.range.contains(event.key()), "{watch:?}: {event:?}");
                    last = revision;
                }
                self.delivered = last;
                assert_eq!(response.revision(), last);
                assert!(!format!("{response:?}").is_empty());
            }
        }
    }
}
