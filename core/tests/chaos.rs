//! Garbage and random calls: no panic, no endless loop, no unbounded answer, and the accounts balance.

mod support;

use std::time::Duration;

use bytes::Bytes;
use etcd_watch_core::{
    Action, Delivery, Failure, Filters, Instant, KeyRange, Opened, Overflow, RangeDone, RangeKey, Request,
    ServerVersion, StreamKey, WatchConfig, WatchKey, WatchRequest, Watcher,
};
use etcd_watch_proto::etcdserverpb::{ResponseHeader, WatchResponse as Frame};
use proptest::{prelude::*, test_runner::RngSeed};
use prost::Message;

use support::{put, put_value};

#[derive(Clone, Debug)]
enum Call {
    Watch {
        start: i64,
        overflow: usize,
        notify: bool,
    },
    Cancel(usize),
    RequestProgress(usize),
    Next(usize, usize),
    Opened(usize, u32),
    /// A lawful turn: a stream is opened, or its oldest create answered.
    Answer(usize),
    Failed(usize, i32, usize),
    Move(usize),
    Garbage(usize, Vec<u8>),
    Frame(usize, Box<Wild>),
    RangeDone(usize, i64, Option<i32>),
    Timeout,
    Time(u64),
    Shutdown,
}

/// A frame that decodes; whether it is lawful is another matter.
#[derive(Clone, Debug)]
struct Wild {
    id: usize,
    header: Option<(u64, i64)>,
    flags: [bool; 3],
    compact: i64,
    reason: usize,
    events: Vec<(i64, usize)>,
}

const REASONS: [&str; 6] = [
    "",
    "etcdserver: permission denied",
    "etcdserver: invalid auth token",
    "etcdserver: no leader",
    "mvcc: duplicate watch ID provided on the WatchStream",
    "nonsense",
];

fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![20 => 1..60_i64, 1 => Just(0), 1 => Just(-1), 1 => Just(i64::MAX), 1 => Just(i64::MAX - 1),
        1 => Just(i64::MIN)]
}

fn call() -> impl Strategy<Value = Call> {
    let index = || 0..64_usize;
    let code = || 0..18_i32;
    let flag = || prop::bool::weighted(0.05);
    let wild = (
        (index(), prop::option::of((0..3_u64, revision())), [flag(), flag(), flag()]),
        (prop_oneof![9 => Just(0), 1 => revision()], 0..REASONS.len()),
        prop::collection::vec((revision(), 0..3000_usize), 0..5),
    )
        .prop_map(|((id, header, flags), (compact, reason), mut events)| {
            events.sort_unstable();
            Box::new(Wild { id, header, flags, compact, reason, events })
        });
    let start = prop_oneof![1 => Just(0), 3 => revision()];
    prop_oneof![
        6 => (start, 0..3_usize, any::<bool>())
            .prop_map(|(start, overflow, notify)| Call::Watch { start, overflow, notify }),
        2 => index().prop_map(Call::Cancel),
        3 => index().prop_map(Call::RequestProgress),
        8 => (index(), 1..4_usize).prop_map(|(watch, count)| Call::Next(watch, count)),
        8 => (index(), 0..40_u32).prop_map(|(stream, patch)| Call::Opened(stream, patch)),
        30 => index().prop_map(Call::Answer),
        1 => (index(), code(), 0..REASONS.len())
            .prop_map(|(stream, code, reason)| Call::Failed(stream, code, reason)),
        1 => (0..4_usize).prop_map(Call::Move),
        1 => (index(), prop::collection::vec(any::<u8>(), 0..24))
            .prop_map(|(stream, bytes)| Call::Garbage(stream, bytes)),
        40 => (index(), wild).prop_map(|(stream, frame)| Call::Frame(stream, frame)),
        4 => (index(), revision(), prop::option::of(code()))
            .prop_map(|(range, revision, code)| Call::RangeDone(range, revision, code)),
        8 => Just(Call::Timeout),
        4 => prop_oneof![99 => 0..3_000_000_000_u64, 1 => Just(u64::MAX)].prop_map(Call::Time),
        1 => prop::bool::weighted(0.1).prop_map(|on| if on { Call::Shutdown } else { Call::Timeout }),
    ]
}

struct Chaos {
    watcher: Watcher,
    now: Instant,
    watches: Vec<WatchKey>,
    streams: Vec<StreamKey>,
    ranges: Vec<RangeKey>,
    /// Ids the machine or the server chose, and some nobody did.
    ids: Vec<i64>,
    /// The creates that each stream has not answered, oldest first.
    creates: Vec<(StreamKey, i64)>,
    /// The creates that were answered.
    running: Vec<(StreamKey, i64)>,
}

fn pick<T: Copy>(from: &[T], which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[from.len() - 1 - which % from.len()])
}

impl Chaos {
    fn call(&mut self, call: &Call) {
        let now = self.now;
        match call {
            Call::Watch { start, overflow, notify } => {
                let policy = [Overflow::Replay, Overflow::Pause, Overflow::Fail][*overflow];
                let request = WatchRequest::new(KeyRange::prefix("k"))
                    .start_revision(*start)
                    .overflow(policy)
                    .progress_notify(*notify)
                    .created_notify(*notify)
                    .filters(Filters { no_put: false, no_delete: *notify });
                self.watches.extend(self.watcher.watch(now, request));
            }
            Call::Cancel(watch) => {
                let _ = pick(&self.watches, *watch).map(|watch| self.watcher.cancel(now, watch));
            }
            Call::RequestProgress(watch) => {
                let _ = pick(&self.watches, *watch).map(|watch| self.watcher.request_progress(now, watch));
            }
            Call::Next(watch, count) => {
                for _ in 0..*count {
                    let Some(watch) = pick(&self.watches, *watch) else { return };
                    if let Some(Delivery::Response(response)) = self.watcher.next(now, watch) {
                        assert!(response.events().all(|event| event.key().starts_with(b"k")));
                        assert!(!format!("{response:?}").is_empty());
                    }
                }
            }
            Call::Opened(stream, patch) => {
                let version = (*patch < 35).then(|| ServerVersion::new(3, 5, *patch));
                if let Some(stream) = pick(&self.streams, *stream) {
                    self.watcher.handle_opened(
                        now,
                        stream,
                        Opened { version, authenticated: patch % 2 == 0 },
                    );
                }
            }
            Call::Answer(stream) => {
                let Some(stream) = pick(&self.streams, stream % 3) else { return };
                self.watcher.handle_opened(now, stream, Opened::default());
                self.drain();
                if let Some(at) = self.creates.iter().position(|&(of, _)| of == stream) {
                    let (_, watch_id) = self.creates.remove(at);
                    self.running.push((stream, watch_id));
                    let created = Frame { watch_id, created: true, ..Frame::default() };
                    self.watcher.handle_frame(
                        now,
                        stream,
                        etcd_watch_core::Frame::decode(created.encode_to_vec().into()),
                    );
                }
            }
            Call::Failed(stream, code, reason) => {
                let failure = match code {
                    17 => Failure::ResponseTooLarge { bytes: 5, limit: 4 },
                    _ => Failure::status(*code, REASONS[*reason]),
                };
                if let Some(stream) = pick(&self.streams, *stream) {
                    self.running.retain(|&(running, _)| running != stream);
                    self.watcher.handle_failed(now, stream, failure);
                }
            }
            Call::Move(stream) => {
                let Some(stream) = pick(&self.streams, *stream) else { return };
                let is_read = self.watcher.wants_frame(stream);
                let moved = self.watcher.move_stream(now, stream);
                assert!(moved.is_ok() || !is_read, "a stream that is read is open");
                assert!(!self.watcher.wants_frame(stream), "and is not any more");
            }
            Call::Garbage(stream, bytes) => {
                if let Some(stream) = pick(&self.streams, *stream) {
                    self.watcher.handle_frame(
                        now,
                        stream,
                        etcd_watch_core::Frame::decode(Bytes::from(bytes.clone())),
                    );
                }
            }
            Call::Frame(stream, wild) => {
                let anything = (pick(&self.streams, stream % 3), pick(&self.ids, wild.id % 6).unwrap_or(-1));
                // Mostly where a watch runs: elsewhere most is refused at the door.
                let (stream, id) = match pick(&self.running, stream % 4) {
                    Some((stream, id)) if wild.id % 8 != 0 => (Some(stream), id),
                    _ => anything,
                };
                if let Some(stream) = stream {
                    self.watcher.handle_frame(
                        now,
                        stream,
                        etcd_watch_core::Frame::decode(wild_frame(wild, id)),
                    );
                }
            }
            Call::RangeDone(range, revision, code) => {
                let result = match code {
                    None => Ok(RangeDone { revision: *revision, cluster_id: 1, mod_revision: *revision }),
                    Some(code) => Err(Failure::status(*code, "")),
                };
                if let Some(range) = pick(&self.ranges, *range) {
                    self.watcher.handle_range_done(now, range, result);
                }
            }
            Call::Timeout => {
                let at = self.watcher.poll_timeout().unwrap_or(now);
                self.now = at;
                self.watcher.handle_timeout(at);
            }
            Call::Time(nanos) => {
                self.now = if *nanos == u64::MAX { Instant::from_nanos(*nanos) } else { now };
                self.watcher.handle_timeout(self.now + Duration::from_nanos(*nanos));
            }
            Call::Shutdown => self.watcher.shutdown(now),
        }
    }

    /// Takes what the machine says; how much that was.
    fn drain(&mut self) -> usize {
        let mut count = 0;
        loop {
            let has_actions = self.watcher.has_actions();
            let Some(action) = self.watcher.poll_action() else { break };
            assert!(has_actions, "it denied having {action:?}");
            count += 1;
            assert!(count < 10_000, "no end of actions");
            match action {
                Action::Open { stream, .. } => self.streams.push(stream),
                Action::Range { range, .. } => self.ranges.push(range),
                Action::Send { stream, request: Request::Create(create), .. } => {
                    self.ids.push(create.watch_id);
                    self.creates.push((stream, create.watch_id));
                }
                Action::Close { stream, .. } => self.running.retain(|&(running, _)| running != stream),
                Action::Send { .. } | Action::Deliver { .. } | Action::Overflowed { .. } => {}
            }
        }
        assert!(!self.watcher.has_actions());
        let queued = self.watcher.all_watch_stats().map(|(_, stats)| stats.queued_bytes).sum::<usize>();
        assert_eq!(queued, self.watcher.stats().queued_bytes, "the watches' accounts and the whole");
        count
    }
}

fn wild_frame(wild: &Wild, watch_id: i64) -> Bytes {
    let [created, canceled, fragment] = wild.flags;
    let event = |&(revision, size): &(i64, usize)| match size {
        2990.. => put(revision, ""),
        2980.. => put(revision, "elsewhere"),
        _ => put_value(revision, "key", vec![0; size]),
    };
    let header = wild.header.map(|(cluster_id, revision)| ResponseHeader {
        cluster_id,
        revision,
        ..ResponseHeader::default()
    });
    let frame = Frame {
        header,
        watch_id,
        created,
        canceled,
        compact_revision: wild.compact,
        cancel_reason: REASONS[wild.reason].into(),
        fragment,
        events: wild.events.iter().map(event).collect(),
    };
    frame.encode_to_vec().into()
}

fn config() -> ProptestConfig {
    let mut config =
        ProptestConfig { failure_persistence: None, max_shrink_time: 20_000, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(5);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 80;
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_input_panics_the_machine_or_makes_it_say_more_than_a_little_per_watch(
        calls in prop::collection::vec(call(), 1..400),
        seed in any::<u64>(),
    ) {
        let config = WatchConfig::default()
            .buffer_bytes(4000)
            .total_buffer_bytes(10_000)
            .max_revision_bytes(20_000)
            .max_watches_per_stream(3)
            .streams(2)
            .probe(Some(Duration::from_secs(1)))
            .unreachable_deadline(Some(Duration::from_secs(30)));
        let watcher = Watcher::new(config, seed).expect("a valid configuration");
        let ids = vec![0, 7, -1];
        let mut chaos =
            Chaos { watcher, now: Instant::ZERO, watches: vec![], streams: vec![], ranges: vec![], ids, creates: vec![], running: vec![] };
        for call in &calls {
            chaos.call(call);
            let before = chaos.watches.len();
            let count = chaos.drain();
            let limit = 40 + 6 * before;
            prop_assert!(count <= limit, "{count} actions, {limit} may be, after {call:?}");
        }
        let stats = chaos.watcher.stats();
        // A response in all for each watch may cross the line.
        prop_assert!(stats.queued_bytes <= 10_000 + chaos.watches.len() * 40_000, "{stats:?}");
        chaos.watcher.shutdown(chaos.now);
        chaos.drain();
        for watch in chaos.watches.clone() {
            let mut ends = 0;
            while let Some(delivery) = chaos.watcher.next(chaos.now, watch) {
                prop_assert_eq!(ends, 0, "nothing after the end");
                ends += usize::from(matches!(delivery, Delivery::Closed(_)));
            }
        }
        let stats = chaos.watcher.stats();
        prop_assert_eq!((stats.watches, stats.streams, stats.queued_bytes), (0, 0, 0));
    }
}
