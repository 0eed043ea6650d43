//! A machine, a store, the servers' ends of its streams, and what every watch must come to.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use etcd_watch_core::{
    Action, CloseReason, Delivery, Event as Seen, EventKind, Failure, Instant, Overflow, RangeDone, RangeKey,
    ResponseKind, ServerMisbehaved, StreamEnd, StreamKey, WatchConfig, WatchKey, WatchRequest, WatchResponse,
    Watcher,
};
use etcd_watch_proto::mvccpb::{Event, KeyValue};
use prost::Message;

use crate::{
    server::{Kind, Server},
    store::{Store, View, revision_of},
    support::CLUSTER,
};

/// A watch, as the application knows it.
pub(crate) struct Tracked {
    pub(crate) key: WatchKey,
    view: View,
    progress_notify: bool,
    /// Progress requests that may still be answered.
    progress_asked: bool,
    created_notify: bool,
    overflow: Overflow,
    /// Below it everything has been delivered; `None` until a "now" is known.
    pub(crate) cursor: Option<i64>,
    /// The store's revision when it was asked for.
    asked_at: i64,
    is_new: bool,
    cancelled: bool,
    /// Only a watch that had ended before it was cancelled still has something.
    taken_since_cancel: bool,
    pub(crate) closed: bool,
}

pub(crate) struct World {
    pub(crate) watcher: Watcher,
    pub(crate) now: Instant,
    pub(crate) store: Store,
    pub(crate) watches: Vec<Tracked>,
    pub(crate) opening: VecDeque<StreamKey>,
    pub(crate) servers: BTreeMap<StreamKey, Server>,
    /// Reads asked for, with the revision they will report.
    pub(crate) reads: VecDeque<(RangeKey, i64)>,
    /// Watches that have been announced and not yet found empty.
    pub(crate) ready: BTreeSet<WatchKey>,
    /// Everything the machine said.
    pub(crate) log: Vec<String>,
    /// How many tokens have expired.
    expiries: usize,
    budget: usize,
    total: usize,
    largest: usize,
}

impl World {
    pub(crate) fn new(config: WatchConfig, budget: usize, total: usize, seed: u64) -> Self {
        let config = config.buffer_bytes(budget).total_buffer_bytes(total);
        Self {
            watcher: Watcher::new(config, seed).expect("a valid configuration"),
            now: Instant::from_nanos(1),
            store: Store::new(),
            watches: Vec::new(),
            opening: VecDeque::new(),
            servers: BTreeMap::new(),
            reads: VecDeque::new(),
            ready: BTreeSet::new(),
            log: Vec::new(),
            expiries: 0,
            budget,
            total,
            largest: 0,
        }
    }

    /// Does what the machine says, and looks at what it holds.
    pub(crate) fn settle(&mut self) {
        while let Some(action) = self.watcher.poll_action() {
            self.log.push(format!("{action:?}"));
            assert!(self.log.len() < 100_000, "no end of actions: {action:?}");
            match action {
                Action::Open { stream, .. } => self.opening.push_back(stream),
                Action::Send { stream, request, .. } => {
                    let server = self.servers.get_mut(&stream);
                    server.expect("requests are for streams that are open").inbox.push_back(request);
                }
                Action::Close { stream, reason } => {
                    if let StreamEnd::Misbehaved(what) = reason {
                        let is_slow = matches!(what, ServerMisbehaved::Unresponsive { .. });
                        assert!(is_slow, "the servers here keep the rules: {what}");
                    }
                    self.servers.remove(&stream);
                    self.opening.retain(|&opening| opening != stream);
                }
                Action::Range { range, .. } => self.reads.push_back((range, self.store.revision)),
                Action::Overflowed { watch, .. } => {
                    assert!(self.watches.iter().any(|known| known.key == watch && !known.closed));
                }
                Action::Deliver { watch } => {
                    assert!(self.ready.insert(watch), "{watch:?} is announced once per edge");
                }
            }
        }
        self.largest = self.servers.values().map(|server| server.largest).fold(self.largest, usize::max);
        assert!(!self.watcher.has_actions());
        let queued = self.watcher.stats().queued_bytes;
        let lag = self.watcher.all_watch_stats().map(|(_, stats)| stats.lag).max();
        assert_eq!(self.watcher.max_lag(), lag.unwrap_or(0));
        let by_watch: usize = self.watcher.all_watch_stats().map(|(_, stats)| stats.queued_bytes).sum();
        assert_eq!(queued, by_watch);
        let open = self.watches.iter().filter(|watch| !watch.closed).count();
        let budgets = (open * self.budget).min(self.total);
        let notices = open * 512;
        let limit = budgets + (open + 1) * self.largest + notices;
        assert!(queued <= limit, "{queued} bytes wait for {open} watches, {limit} may");
    }

    pub(crate) fn watch(&mut self, request: WatchRequest, view: View, plan: Plan) {
        let key = self.watcher.watch(self.now, request).expect("a valid request");
        self.watches.push(Tracked {
            key,
            view,
            progress_notify: plan.progress_notify,
            progress_asked: false,
            created_notify: plan.created_notify,
            overflow: plan.overflow,
            cursor: plan.start,
            asked_at: self.store.revision,
            is_new: true,
            cancelled: false,
            taken_since_cancel: false,
            closed: false,
        });
        if !plan.together {
            self.settle();
        }
    }

    pub(crate) fn cancel(&mut self, index: usize) {
        let watch = &mut self.watches[index];
        let result = self.watcher.cancel(self.now, watch.key);
        assert_eq!(result.is_err(), watch.closed, "a watch is known until its end is taken");
        watch.cancelled = true;
        self.settle();
    }

    pub(crate) fn request_progress(&mut self, index: usize) {
        let watch = &mut self.watches[index];
        watch.progress_asked = true;
        let result = self.watcher.request_progress(self.now, watch.key);
        assert_eq!(result.is_err(), watch.closed, "a watch is known until its end is taken");
        self.settle();
    }

    pub(crate) fn open(&mut self, kind: Kind) -> bool {
        let Some(stream) = self.opening.pop_front() else { return false };
        self.servers.insert(stream, Server::new(kind));
        self.watcher.handle_opened(self.now, stream, kind.opened());
        self.settle();
        true
    }

    pub(crate) fn fail(&mut self, stream: StreamKey) {
        self.servers.remove(&stream);
        self.opening.retain(|&opening| opening != stream);
        self.watcher.handle_failed(self.now, stream, Failure::connection("reset"));
        self.settle();
    }

    /// The driver wants the stream elsewhere; it is open, since a server has its end.
    pub(crate) fn move_stream(&mut self, stream: StreamKey) {
        self.watcher.move_stream(self.now, stream).expect("an open stream");
        self.settle();
        assert!(!self.servers.contains_key(&stream), "the old stream is closed");
    }

    /// From now on the stream's server denies everyone. Twice in all: a watch that never gets through is
    /// lawfully taken for one that may not.
    pub(crate) fn expire_token(&mut self, stream: StreamKey) {
        if self.expiries < 2
            && let Some(server) = self.servers.get_mut(&stream)
        {
            self.expiries += 1;
            server.is_expired = true;
        }
    }

    pub(crate) fn answer_read(&mut self, ok: bool) -> bool {
        let Some((range, revision)) = self.reads.pop_front() else { return false };
        let result = match ok {
            true => Ok(RangeDone { revision, cluster_id: CLUSTER, mod_revision: 0 }),
            false => Err(Failure::connection("reset")),
        };
        self.watcher.handle_range_done(self.now, range, result);
        for watch in self.watches.iter_mut().filter(|watch| watch.cursor.is_none() && !watch.cancelled) {
            match self.watcher.resume_revision(watch.key) {
                Some(start) if start != 0 => {
                    assert_eq!(start, revision + 1, "it starts right after the revision read");
                    assert!(revision >= watch.asked_at, "changes after the watch was asked for are seen");
                    watch.cursor = Some(start);
                }
                _ => {}
            }
        }
        self.settle();
        true
    }

    /// The network carries one thing from a stream's server to the machine, if it wants it.
    pub(crate) fn transmit(&mut self, stream: StreamKey, prefer_control: bool) -> bool {
        if !self.watcher.wants_frame(stream) {
            return false;
        }
        let Some(server) = self.servers.get_mut(&stream).filter(|server| server.has_words()) else {
            return false;
        };
        let mut frames = VecDeque::from(server.transmit(prefer_control));
        while let Some(frame) = frames.pop_front() {
            self.watcher.handle_frame(
                self.now,
                stream,
                etcd_watch_core::Frame::decode(frame.encode_to_vec().into()),
            );
            if !self.watcher.wants_frame(stream) {
                server.take_back(frames);
                break;
            }
        }
        self.settle();
        true
    }

    pub(crate) fn sleep(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.watcher.handle_timeout(self.now);
        self.settle();
    }

    /// The consumer takes up to `count` deliveries, if it has been told that there are any.
    pub(crate) fn take(&mut self, index: usize, count: usize) -> bool {
        let key = self.watches[index].key;
        for taken in 0..count {
            if !self.ready.contains(&key) {
                return taken > 0;
            }
            let delivery = self.watcher.next(self.now, key);
            self.log.push(format!("{key:?} {delivery:?}"));
            match delivery {
                Some(Delivery::Response(response)) => self.check(index, &response),
                Some(Delivery::Closed(reason)) => {
                    self.check_end(index, &reason);
                    self.ready.remove(&key);
                    assert_eq!(self.watcher.next(self.now, key), None, "nothing comes after the end");
                    assert_eq!(self.watcher.resume_revision(key), None);
                }
                Some(other) => panic!("unheard of: {other:?}"),
                None => {
                    self.ready.remove(&key);
                }
            }
            self.settle();
        }
        count > 0
    }

    /// Ordered, unique, reliable, atomic, resumable, bookmarkable: what comes is exactly what the history
    /// has between the last response's resume revision and this one's.
    fn check(&mut self, index: usize, response: &WatchResponse) {
        let watch = &mut self.watches[index];
        assert!(!watch.closed, "{response:?} after the end");
        watch.taken_since_cancel |= watch.cancelled;
        let cursor = watch.cursor.expect("events only after the start is known");
        let seen: Vec<Event> = response.events().map(|event| render(&event)).collect();
        let to = response.resume_revision() - 1;
        let key = watch.key;
        match response.kind() {
            ResponseKind::Events => {
                let last = seen.last().map_or(0, revision_of);
                assert_eq!(last, to, "{key:?} resumes right after the last event");
            }
            ResponseKind::Progress => {
                assert!(watch.progress_notify || watch.progress_asked, "nobody asked for progress");
                assert!(to <= self.store.revision, "progress up to what exists");
            }
            ResponseKind::Created => {
                assert!(watch.created_notify && watch.is_new, "created is said once, first, if asked for");
            }
            other => panic!("unheard of: {other:?}"),
        }
        watch.is_new = false;
        assert!(to + 1 >= cursor, "{key:?} goes back from {cursor} to {}", to + 1);
        let expected = self.store.seen(cursor, to, &watch.view);
        assert_eq!(seen, expected, "{key:?}: history from {cursor} to {to}, got {response:?}");
        watch.cursor = Some(to + 1);
        let stats = self.watcher.watch_stats(key).expect("it has not ended");
        assert_eq!(stats.taken_revision, to);
        assert!(stats.accepted_revision >= to || response.kind() != ResponseKind::Events, "{stats:?}");
        let newest = to + i64::try_from(stats.lag).expect("a small store");
        assert!(newest <= self.store.revision.max(to), "{stats:?}");
        assert!(stats.queued_responses > 0 || stats.lag == 0, "{stats:?}");
    }

    fn check_end(&mut self, index: usize, reason: &CloseReason) {
        let watch = &mut self.watches[index];
        assert!(!watch.closed, "{:?} ends twice", watch.key);
        watch.closed = true;
        let next = match *reason {
            CloseReason::Cancelled => {
                assert!(watch.cancelled, "nobody cancelled it");
                assert!(!watch.taken_since_cancel, "what waits is thrown away");
                return;
            }
            CloseReason::Compacted { compact_revision, next_revision } => {
                assert!(next_revision < compact_revision && compact_revision <= self.store.compacted);
                next_revision
            }
            CloseReason::Lagged { next_revision, .. } => {
                assert_eq!(watch.overflow, Overflow::Fail, "only this policy ends a watch");
                next_revision
            }
            ref other => panic!("{:?} ended: {other}", watch.key),
        };
        let cursor = watch.cursor.expect("only a watch that ran can be behind");
        assert!(next >= cursor, "it ends at {next} and delivered up to {cursor}");
        assert_eq!(self.store.seen(cursor, next - 1, &watch.view), [], "a gap before the end");
    }

    /// Whether the watch has everything there is for it.
    fn is_caught_up(&self, watch: &Tracked) -> bool {
        let seen = |cursor| self.store.seen(cursor, self.store.revision, &watch.view);
        watch.closed || watch.cursor.is_some_and(|cursor| seen(cursor).is_empty())
    }

    /// One round of everything working as it should; whether anything happened.
    fn round(&mut self) -> bool {
        let mut happened = false;
        while self.open(Kind::Trusted) || self.answer_read(true) {
            happened = true;
        }
        let streams: Vec<StreamKey> = self.servers.keys().copied().collect();
        for stream in streams {
            if let Some(server) = self.servers.get_mut(&stream) {
                while !server.inbox.is_empty() {
                    server.read(&self.store, 0);
                    happened = true;
                }
                for which in 0..server.watch_count() {
                    happened |= server.emit(&self.store, which, 3, &[1, 2], 0);
                }
            }
            while self.transmit(stream, false) {
                happened = true;
            }
        }
        for index in 0..self.watches.len() {
            happened |= self.take(index, usize::MAX);
        }
        happened
    }

    /// Live: once faults stop, every watch gets everything; then all is taken down and nothing is left.
    pub(crate) fn finish(&mut self) {
        self.settle();
        self.run_until("every watch has caught up", |world| {
            world.watches.iter().all(|watch| world.is_caught_up(watch))
        });
        for index in 0..self.watches.len() {
            if !self.watches[index].closed {
                self.cancel(index);
            }
        }
        self.run_until("every watch has ended, also on its server", |world| {
            world.watches.iter().all(|watch| watch.closed)
                && world.servers.values().all(|server| server.watch_count() == 0)
        });
        self.run_until("no stream is left, and nothing waits for time", |world| {
            world.watcher.stats().streams == 0 && world.watcher.poll_timeout().is_none()
        });
        let stats = self.watcher.stats();
        assert_eq!((stats.watches, stats.queued_bytes), (0, 0));
        let left = format!("{:?}", self.watcher);
        let empty =
            ["Streams { streams: {}", "Groups { groups: {}, by_options: {}", "in_order: {}", "actions: []"];
        assert!(empty.iter().all(|empty| left.contains(empty)), "left behind: {left}");
        assert_eq!(self.watcher.all_watch_stats().count(), 0, "left behind: {left}");
        assert!(self.servers.is_empty() && self.opening.is_empty() && self.ready.is_empty());
    }

    fn run_until(&mut self, goal: &str, is_done: impl Fn(&Self) -> bool) {
        for _ in 0..400 {
            let happened = self.round();
            if is_done(self) {
                return;
            }
            if !happened {
                let at = self.watcher.poll_timeout();
                let at = at.unwrap_or_else(|| panic!("stuck before {goal}: {:#?}", self.watcher));
                self.sleep(at.since(self.now));
            }
        }
        panic!("too long until {goal}: {:#?}", self.watcher);
    }
}

/// What the test knows of a watch request.
pub(crate) struct Plan {
    pub(crate) start: Option<i64>,
    pub(crate) progress_notify: bool,
    pub(crate) created_notify: bool,
    pub(crate) overflow: Overflow,
    /// More calls follow before the machine's actions are looked at.
    pub(crate) together: bool,
}

fn render(event: &Seen<'_>) -> Event {
    let kv = |kv: etcd_watch_core::KeyValue<'_>| KeyValue {
        key: kv.key_bytes(),
        create_revision: kv.create_revision(),
        mod_revision: kv.mod_revision(),
        version: kv.version(),
        value: kv.value_bytes(),
        lease: kv.lease(),
    };
    Event {
        r#type: i32::from(event.kind() == EventKind::Delete),
        kv: Some(kv(event.kv())),
        prev_kv: event.prev().map(kv),
    }
}
