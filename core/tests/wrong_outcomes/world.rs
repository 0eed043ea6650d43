//! A machine in virtual time: a member that answers as etcd does, and consumers that take at once, unless the
//! test says otherwise.
//!
//! A test passes its server as a closure, which is given everything that the machine asks for. It answers the
//! unusual by itself, and hands the rest to [`World::answer`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use etcd_watch_core::{
    Action, CloseReason, CreateRequest, Delivery, Failure, Instant, KeyRange, Opened, RangeKey, Request,
    ResponseKind, StreamEnd, StreamKey, WatchConfig, WatchKey, WatchState,
};
use etcd_watch_proto::etcdserverpb::WatchResponse as Frame;

use crate::support::*;

/// What the machine asks of the server, and what the test asked to be reminded of.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Open(StreamKey),
    /// A create; `watch` is `None` for a probe.
    Create {
        stream: StreamKey,
        create: CreateRequest,
        watch: Option<WatchKey>,
    },
    Cancel {
        stream: StreamKey,
        id: i64,
    },
    Progress(StreamKey),
    Read {
        range: RangeKey,
        keys: KeyRange,
    },
    /// The time given to [`World::tick_in`] has passed.
    Tick(u32),
}

/// What is on its way to the machine.
enum Input {
    Opened(StreamKey),
    Frame(StreamKey, Frame),
    Failed(StreamKey, Failure),
    Read(RangeKey, Result<i64, Failure>),
    Tick(u32),
}

/// A watch on the server.
struct Live {
    watch: Option<WatchKey>,
    keys: KeyRange,
    start: i64,
}

/// One open stream, on the server.
#[derive(Default)]
struct Served {
    live: BTreeMap<i64, Live>,
    /// Frames that have arrived while the machine did not want any.
    unread: VecDeque<Frame>,
}

pub(crate) struct World {
    pub(crate) driver: Driver,
    /// The store's revision.
    pub(crate) revision: i64,
    /// How long each answer takes.
    pub(crate) latency: Duration,
    pub(crate) opened: Opened,
    /// Watches whose consumers take nothing.
    pub(crate) stalled: BTreeSet<WatchKey>,
    /// The revisions of the events that consumers have taken.
    pub(crate) seen: BTreeMap<WatchKey, Vec<i64>>,
    /// The progress notifications that consumers have taken, as resume revisions.
    pub(crate) bookmarks: BTreeMap<WatchKey, Vec<i64>>,
    pub(crate) ended: BTreeMap<WatchKey, CloseReason>,
    /// Streams asked for, the first one included.
    pub(crate) opens: usize,
    /// Creates sent for watches, without probes.
    pub(crate) creates: usize,
    pub(crate) progress_requests: usize,
    /// Streams that the machine gave up.
    pub(crate) closes: Vec<(Instant, StreamEnd)>,
    /// The most bytes that ever waited for consumers after an input.
    pub(crate) most_queued: usize,
    /// At which revisions each key was put.
    history: BTreeMap<String, Vec<i64>>,
    served: BTreeMap<StreamKey, Served>,
    inputs: BTreeMap<(Instant, u64), Input>,
    next_input: u64,
}

impl World {
    pub(crate) fn new(config: WatchConfig) -> Self {
        Self::with_seed(config, 1)
    }

    pub(crate) fn with_seed(config: WatchConfig, seed: u64) -> Self {
        Self {
            driver: Driver::with_seed(config, seed),
            revision: 100,
            latency: ms(1),
            opened: TRUSTED,
            stalled: BTreeSet::new(),
            seen: BTreeMap::new(),
            bookmarks: BTreeMap::new(),
            ended: BTreeMap::new(),
            opens: 0,
            creates: 0,
            progress_requests: 0,
            closes: Vec::new(),
            most_queued: 0,
            history: BTreeMap::new(),
            served: BTreeMap::new(),
            inputs: BTreeMap::new(),
            next_input: 0,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.driver.now
    }

    pub(crate) fn reconnects(&self) -> usize {
        self.opens.saturating_sub(1)
    }

    pub(crate) fn is_active(&self, watch: WatchKey) -> bool {
        self.driver.watcher.watch_stats(watch).is_some_and(|stats| stats.state == WatchState::Active)
    }

    pub(crate) fn seen_by(&self, watch: WatchKey) -> &[i64] {
        self.seen.get(&watch).map_or(&[], Vec::as_slice)
    }

    /// The revisions at which a key was put.
    pub(crate) fn puts_of(&self, key: &str) -> Vec<i64> {
        self.history.get(key).cloned().unwrap_or_default()
    }

    /// Where a watch runs on the server.
    pub(crate) fn place_of(&self, watch: WatchKey) -> Option<(StreamKey, i64)> {
        self.served.iter().find_map(|(&stream, served)| {
            let found = served.live.iter().find(|(_, live)| live.watch == Some(watch));
            found.map(|(&id, _)| (stream, id))
        })
    }

    fn input(&mut self, after: Duration, input: Input) {
        self.inputs.insert((self.driver.now + after, self.next_input), input);
        self.next_input += 1;
    }

    /// A frame that arrives after the usual time.
    pub(crate) fn say(&mut self, stream: StreamKey, frame: Frame) {
        self.input(self.latency, Input::Frame(stream, frame));
    }

    pub(crate) fn fail_in(&mut self, after: Duration, stream: StreamKey, failure: Failure) {
        self.input(after, Input::Failed(stream, failure));
    }

    pub(crate) fn read_in(&mut self, after: Duration, range: RangeKey, result: Result<i64, Failure>) {
        self.input(after, Input::Read(range, result));
    }

    pub(crate) fn tick_in(&mut self, after: Duration, tick: u32) {
        self.input(after, Input::Tick(tick));
    }

    /// Writes a key; every watch on it is told.
    pub(crate) fn put(&mut self, key: &str, value: &[u8]) {
        self.revision += 1;
        let revision = self.revision;
        self.history.entry(key.into()).or_default().push(revision);
        // A probe's watch sees nothing.
        let is_told = |live: &Live| {
            live.watch.is_some() && live.start <= revision && live.keys.contains(key.as_bytes())
        };
        let told: Vec<(StreamKey, i64)> = self
            .served
            .iter()
            .flat_map(|(&stream, served)| served.live.iter().map(move |(&id, live)| (stream, id, live)))
            .filter(|(_, _, live)| is_told(live))
            .map(|(stream, id, _)| (stream, id))
            .collect();
        for (stream, id) in told {
            let events = vec![put_value(revision, key, value.to_vec())];
            self.say(stream, Frame { header: header(revision), ..batch(id, events) });
        }
    }

    /// The server ends a watch: it says `frame`, and nothing more under the watch's id.
    pub(crate) fn end_on_server(&mut self, stream: StreamKey, id: i64, frame: Frame) {
        if let Some(served) = self.served.get_mut(&stream) {
            served.live.remove(&id);
        }
        self.say(stream, Frame { header: header(self.revision), ..frame });
    }

    /// What a healthy member does.
    pub(crate) fn answer(&mut self, asked: Asked) {
        match asked {
            Asked::Open(stream) => self.input(self.latency, Input::Opened(stream)),
            Asked::Create { stream, create, watch } => self.create(stream, create, watch),
            Asked::Cancel { stream, id } => {
                let was = self.served.get_mut(&stream).and_then(|served| served.live.remove(&id));
                if was.is_some() {
                    self.say(stream, Frame { header: header(self.revision), ..canceled(id, "") });
                }
            }
            Asked::Progress(stream) => self.say(stream, manual_progress(self.revision)),
            Asked::Read { range, .. } => self.read_in(self.latency, range, Ok(self.revision)),
            Asked::Tick(_) => {}
        }
    }

    fn create(&mut self, stream: StreamKey, create: CreateRequest, watch: Option<WatchKey>) {
        let id = create.watch_id;
        let Some(served) = self.served.get_mut(&stream) else { return };
        let (keys, start) = (create.range, create.start_revision);
        let of_range = self.history.iter().filter(|(key, _)| start > 0 && keys.contains(key.as_bytes()));
        let mut missed: Vec<(i64, &String)> = of_range
            .flat_map(|(key, puts)| {
                let from = puts.partition_point(|&revision| revision < start);
                puts[from..].iter().map(move |&revision| (revision, key))
            })
            .collect();
        missed.sort_unstable();
        let missed: Vec<_> = missed.into_iter().map(|(revision, key)| put(revision, key)).collect();
        served.live.insert(id, Live { watch, keys, start });
        self.say(stream, created_at(id, self.revision));
        if !missed.is_empty() {
            self.say(stream, Frame { header: header(self.revision), ..batch(id, missed) });
        }
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, lasting: Duration, server: &mut dyn FnMut(&mut Self, Asked)) {
        self.run_until(lasting, server, |_| false);
    }

    /// Lets time pass until something is so, at most so long; says whether it came to be so.
    pub(crate) fn run_until(
        &mut self,
        at_most: Duration,
        server: &mut dyn FnMut(&mut Self, Asked),
        is_done: impl Fn(&Self) -> bool,
    ) -> bool {
        let until = self.driver.now + at_most;
        let mut steps_now = 0;
        loop {
            self.act(server);
            if is_done(self) {
                return true;
            }
            let timeout = self.driver.watcher.poll_timeout();
            let arrives = self.inputs.keys().next().map(|&(at, _)| at);
            let next = timeout.into_iter().chain(arrives).min().filter(|&at| at <= until);
            let Some(next) = next else { break };
            steps_now = if next > self.driver.now { 0 } else { steps_now + 1 };
            assert!(steps_now < 1_000_000, "the machine stays at one instant");
            self.step(next);
        }
        self.step(until);
        self.act(server);
        is_done(self)
    }

    fn step(&mut self, at: Instant) {
        self.driver.now = self.driver.now.max(at);
        if let Some(entry) = self.inputs.first_entry()
            && entry.key().0 <= self.driver.now
            && !matches!(entry.get(), Input::Tick(_))
        {
            let input = entry.remove();
            self.apply(input);
        }
        self.driver.watcher.handle_timeout(self.driver.now);
        self.driver.collect();
        self.read_on();
        self.most_queued = self.most_queued.max(self.driver.stats().queued_bytes);
    }

    fn apply(&mut self, input: Input) {
        match input {
            Input::Opened(stream) => {
                self.served.insert(stream, Served::default());
                self.driver.opened(stream, self.opened);
            }
            Input::Frame(stream, frame) => {
                if let Some(served) = self.served.get_mut(&stream) {
                    served.unread.push_back(frame);
                }
            }
            Input::Failed(stream, failure) => {
                if self.served.remove(&stream).is_some() {
                    self.driver.failed(stream, failure);
                }
            }
            Input::Read(range, Ok(revision)) => self.driver.range_done(range, revision),
            Input::Read(range, Err(failure)) => self.driver.range_failed(range, failure),
            Input::Tick(_) => unreachable!("ticks are for the server"),
        }
    }

    /// Hands over the frames that have arrived, as far as the machine wants them.
    fn read_on(&mut self) {
        let streams: Vec<StreamKey> =
            self.served.iter().filter(|(_, s)| !s.unread.is_empty()).map(|(&key, _)| key).collect();
        for stream in streams {
            while self.driver.watcher.wants_frame(stream)
                && let Some(frame) = self.served.get_mut(&stream).and_then(|s| s.unread.pop_front())
            {
                self.driver.frame(stream, frame);
            }
        }
    }

    /// Does what the machine asks for.
    fn act(&mut self, server: &mut dyn FnMut(&mut Self, Asked)) {
        while let Some(entry) = self.inputs.first_entry()
            && entry.key().0 <= self.driver.now
            && let Input::Tick(tick) = *entry.get()
        {
            entry.remove();
            server(self, Asked::Tick(tick));
        }
        loop {
            self.driver.collect();
            let actions = std::mem::take(&mut self.driver.actions);
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.act_on(action, server);
            }
        }
    }

    fn act_on(&mut self, action: Action, server: &mut dyn FnMut(&mut Self, Asked)) {
        match action {
            Action::Open { stream, .. } => {
                self.opens += 1;
                server(self, Asked::Open(stream));
            }
            Action::Send { stream, request: Request::Create(create), creates } => {
                let watch = creates.map(|creates| creates.watch);
                self.creates += usize::from(watch.is_some());
                server(self, Asked::Create { stream, create, watch });
            }
            Action::Send { stream, request: Request::Cancel { watch_id }, .. } => {
                server(self, Asked::Cancel { stream, id: watch_id });
            }
            Action::Send { stream, request: Request::Progress, .. } => {
                self.progress_requests += 1;
                server(self, Asked::Progress(stream));
            }
            Action::Close { stream, reason } => {
                self.served.remove(&stream);
                self.closes.push((self.driver.now, reason));
            }
            Action::Range { range, request, .. } => server(self, Asked::Read { range, keys: request.keys }),
            Action::Deliver { watch } => self.take(watch),
            Action::Overflowed { .. } => {}
        }
    }

    /// The consumer takes all it has, unless it is stalled.
    pub(crate) fn take(&mut self, watch: WatchKey) {
        if self.stalled.contains(&watch) {
            return;
        }
        while let Some(delivery) = self.driver.take_one(watch) {
            match delivery {
                Delivery::Response(response) if response.kind() == ResponseKind::Progress => {
                    self.bookmarks.entry(watch).or_default().push(response.resume_revision());
                }
                Delivery::Response(response) => {
                    let revisions = response.events().map(|event| event.mod_revision());
                    self.seen.entry(watch).or_default().extend(revisions);
                }
                Delivery::Closed(reason) => {
                    self.ended.insert(watch, reason);
                }
                other => panic!("an unknown delivery: {other:?}"),
            }
        }
    }
}

/// The server that does nothing unusual.
pub(crate) fn healthy(world: &mut World, asked: Asked) {
    world.answer(asked);
}
