//! Any sequence of calls, with frames that decode and sometimes make sense, against a driver that keeps books.
//!
//! Input: a byte that chooses the configuration, then operations: a byte for which one, and what it needs.

mod stories;

use std::time::Duration;

use bytes::Bytes;
use etcd_watch_core::{
    Failure, Filters, Instant, KeyRange, Opened, Overflow, RangeDone, ServerVersion, StreamKey,
    StreamOptions, WatchConfig, WatchRequest,
};
use etcd_watch_proto::etcdserverpb::{ResponseHeader, WatchResponse as Frame};
use etcd_watch_proto::mvccpb::{Event, KeyValue};
use etcd_watch_proto::prost::Message;

use super::driver::{Driver, Sizes};
use super::input::Input;

pub(super) use self::stories::seeds;

/// Operations and watches in one input beyond which nothing new is found.
const MAX_OPERATIONS: usize = 400;
const MAX_WATCHES: usize = 24;

const TEXTS: [&str; 12] = [
    "",
    "nonsense",
    "etcdserver: permission denied",
    "etcdserver: invalid auth token",
    "etcdserver: no leader",
    "mvcc: duplicate watch ID provided on the WatchStream",
    "etcdserver: authentication failed, invalid user ID or password",
    "etcdserver: user name not found",
    "etcdserver: too many requests",
    "etcdserver: server stopped",
    "etcdserver: user name is empty",
    "mvcc: watcher range is empty",
];

const KEYS: [&[u8]; 8] = [b"k", b"k1", b"k\xff", b"a", b"z", b"\0", b"", b"\xff\xff"];

/// What there is to do, by the number that stands for it.
#[derive(Clone, Copy)]
enum Operation {
    Watch,
    Settle,
    Events,
    Next,
    Answer,
    Timeout,
    Sleep,
    Failed,
    Progress,
    Ended,
    Opened,
    RangeDone,
    Cancel,
    RequestProgress,
    Move,
    Wild,
    Raw,
    Back,
    Shutdown,
}

const OPERATIONS: [Operation; 19] = [
    Operation::Watch,
    Operation::Settle,
    Operation::Events,
    Operation::Next,
    Operation::Answer,
    Operation::Timeout,
    Operation::Sleep,
    Operation::Failed,
    Operation::Progress,
    Operation::Ended,
    Operation::Opened,
    Operation::RangeDone,
    Operation::Cancel,
    Operation::RequestProgress,
    Operation::Move,
    Operation::Wild,
    Operation::Raw,
    Operation::Back,
    Operation::Shutdown,
];

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (config, sizes) = configuration(input.byte());
    let mut world = World { driver: Driver::new(config, sizes, 1), revision: 10 };
    for _ in 0..MAX_OPERATIONS {
        if input.is_empty() {
            break;
        }
        let operation = input.pick(&OPERATIONS);
        world.perform(operation, &mut input);
    }
    world.driver.finish();
}

fn configuration(choice: u8) -> (WatchConfig, Sizes) {
    let small = Sizes { buffer: 4000, total: 10_000, revision: 4000 };
    let secs = |secs| Some(Duration::from_secs(secs));
    let config = WatchConfig::default();
    let (config, sizes) = match choice % 4 {
        0 => (config, small),
        1 => {
            let config =
                config.max_watches_per_stream(3).streams(2).probe(secs(1)).unreachable_deadline(secs(30));
            (config.no_leader_deadline(secs(20)), small)
        }
        2 => (
            config.batch_events(1).stall_after(Duration::from_nanos(1)),
            Sizes { buffer: 1, total: 1, revision: 1 },
        ),
        _ => {
            // The most that is accepted.
            let ever = Duration::from_secs(365 * 24 * 60 * 60);
            let config =
                config.backoff(ever, ever, ever).answer_timeout(ever).probe_timeout(ever).linger(ever);
            let config = config.lag_deadline(ever).stall_after(ever).probe(Some(ever));
            let config = config.progress_interval(Some(ever)).unreachable_deadline(Some(ever));
            let (most, many) = (isize::MAX as usize, u32::MAX as usize);
            let config =
                config.batch_bytes(most).batch_events(many).max_watches_per_stream(many).streams(many);
            (config, Sizes { buffer: most, total: most, revision: most })
        }
    };
    let config = sizes.set(config);
    (if choice & 4 != 0 { config.overflow(Overflow::Pause) } else { config }, sizes)
}

struct World {
    driver: Driver,
    /// The store's revision, as far as the frames that make sense go.
    revision: i64,
}

impl World {
    fn perform(&mut self, operation: Operation, input: &mut Input<'_>) {
        match operation {
            Operation::Watch => self.watch(input),
            Operation::Settle => self.settle(),
            Operation::Events => self.events(input),
            Operation::Next => {
                if let Some(watch) = input.pick_from_end(&self.driver.watches) {
                    self.driver.take(watch, 1 + input.below(4));
                }
            }
            Operation::Answer => self.answer(input),
            Operation::Timeout => self.driver.timeout(),
            Operation::Sleep => {
                let nanos = match input.byte() {
                    u8::MAX => input.u64(),
                    tenths => u64::from(tenths) * 100_000_000,
                };
                self.driver.sleep(Duration::from_nanos(nanos));
            }
            Operation::Failed => {
                if let Some(stream) = input.pick_from_end(&self.driver.streams) {
                    self.driver.failed(stream, failure(input));
                }
            }
            Operation::Progress => {
                let header = self.header(input);
                self.frame(input, |watch_id| Frame { header, watch_id, ..Frame::default() });
            }
            Operation::Ended => {
                let (header, cancel_reason) = (self.header(input), input.pick(&TEXTS).into());
                let compact_revision = if input.flag() { input.number() } else { 0 };
                self.frame(input, |watch_id| Frame {
                    header,
                    watch_id,
                    canceled: true,
                    compact_revision,
                    cancel_reason,
                    ..Frame::default()
                });
            }
            Operation::Opened => {
                if let Some(stream) = input.pick_from_end(&self.driver.streams) {
                    let opened = opened(input);
                    self.driver.opened(stream, opened);
                }
            }
            Operation::RangeDone => {
                let Some(range) = input.pick_from_end(&self.driver.ranges) else { return };
                let result = if input.flag() {
                    Err(failure(input))
                } else {
                    let (revision, cluster_id) = (input.number(), input.below(3) as u64);
                    Ok(RangeDone { revision, cluster_id, mod_revision: revision })
                };
                self.driver.range_done(range, result);
            }
            Operation::Cancel => {
                if let Some(watch) = input.pick_from_end(&self.driver.watches) {
                    self.driver.cancel(watch);
                }
            }
            Operation::RequestProgress => {
                if let Some(watch) = input.pick_from_end(&self.driver.watches) {
                    self.driver.request_progress(watch);
                }
            }
            Operation::Move => {
                if let Some(stream) = input.pick_from_end(&self.driver.streams) {
                    self.driver.move_stream(stream);
                }
            }
            Operation::Wild => self.wild(input),
            Operation::Raw => {
                if let Some(stream) = input.pick_from_end(&self.driver.streams) {
                    let bytes = Bytes::copy_from_slice(input.bytes());
                    self.driver.frame(stream, bytes);
                }
            }
            Operation::Back => {
                let nanos = self.driver.now.as_nanos() >> input.below(64);
                self.driver.go_back(Instant::from_nanos(nanos));
            }
            // Seldom, as nothing comes after it.
            Operation::Shutdown if input.byte() == 0x5d => self.driver.shutdown(),
            Operation::Shutdown => {}
        }
    }

    fn watch(&mut self, input: &mut Input<'_>) {
        if self.driver.watches.len() >= MAX_WATCHES {
            return;
        }
        let range = match input.byte() % 6 {
            0 => KeyRange::all(),
            1 => KeyRange::key("k"),
            2 => KeyRange::prefix("k"),
            3 => KeyRange::from_key("b"),
            4 => KeyRange::range("a", "k1").expect("in order"),
            _ => KeyRange::prefix(input.bytes().to_vec()),
        };
        let start = input.number();
        let flags = input.byte();
        let is_set = |bit: u8| flags >> bit & 1 == 1;
        let (wants_created, wants_progress) = (is_set(0), is_set(1));
        let mut request = WatchRequest::new(range)
            .start_revision(start)
            .created_notify(wants_created)
            .progress_notify(wants_progress)
            .prev_kv(is_set(2))
            .fragment(is_set(3))
            .filters(Filters { no_put: is_set(4), no_delete: is_set(5) });
        let more = input.byte();
        request = match more % 4 {
            0 => request,
            1 => request.overflow(Overflow::Replay),
            2 => request.overflow(Overflow::Pause),
            _ => request.overflow(Overflow::Fail),
        };
        let buffer = [None, None, Some(1), Some(2000)][usize::from(more >> 2 & 3)];
        if let Some(bytes) = buffer {
            request = request.buffer_bytes(bytes);
        }
        let metadata = [None, None, Some("a"), Some("b")][usize::from(more >> 4 & 3)];
        if let Some(value) = metadata {
            let metadata = vec![("group".to_owned(), value.to_owned())];
            request = request.stream_options(StreamOptions { metadata, ..StreamOptions::default() });
        }
        if more & 0x40 != 0 {
            request = request.known_store(input.below(3) as u64, input.number());
        }
        self.driver.watch(request, (start, buffer, wants_created, wants_progress));
    }

    /// What a good network and a good server do: streams open, creates are answered, the revision is read.
    fn settle(&mut self) {
        for _ in 0..3 {
            for stream in self.driver.opening() {
                let version = Some(ServerVersion::new(3, 5, 30));
                self.driver.opened(stream, Opened { version, authenticated: false });
            }
            for stream in self.driver.streams.clone() {
                while self.driver.watcher.wants_frame(stream)
                    && let Some(watch_id) = self.driver.pending(stream)
                {
                    let header = Some(header(1, self.revision));
                    let frame = Frame { header, watch_id, created: true, ..Frame::default() };
                    self.driver.frame(stream, frame.encode_to_vec().into());
                }
            }
            for range in self.driver.ranges.clone() {
                let done = RangeDone { revision: self.revision, cluster_id: 1, mod_revision: 0 };
                self.driver.range_done(range, Ok(done));
            }
        }
    }

    /// The oldest create of a stream is answered, if not always as a good server would.
    fn answer(&mut self, input: &mut Input<'_>) {
        let Some(stream) = input.pick_from_end(&self.driver.streams) else { return };
        let Some(pending) = self.driver.pending(stream) else { return };
        let header = self.header(input);
        let lawful = Frame { header, watch_id: pending, created: true, ..Frame::default() };
        let frame = match input.byte() % 6 {
            0..=2 => lawful,
            3 => Frame { watch_id: input.number(), ..lawful },
            4 => Frame { watch_id: -1, canceled: true, cancel_reason: input.pick(&TEXTS).into(), ..lawful },
            _ => Frame { canceled: true, compact_revision: input.number(), ..lawful },
        };
        self.driver.frame(stream, frame.encode_to_vec().into());
    }

    fn events(&mut self, input: &mut Input<'_>) {
        let header = self.header(input);
        let shape = input.byte();
        let events = (0..=shape & 3).map(|_| self.event(input)).collect();
        let fragment = shape & 4 != 0;
        self.frame(input, |watch_id| Frame { header, watch_id, events, fragment, ..Frame::default() });
    }

    fn event(&mut self, input: &mut Input<'_>) -> Event {
        // Mostly at the revision there is, or the next one.
        let step = input.byte();
        let mod_revision = match step {
            0xf0.. => input.number(),
            _ => {
                self.revision = self.revision.saturating_add(i64::from(step & 1));
                self.revision
            }
        };
        let size = [0, 10, 900, 3000][usize::from(step >> 1 & 3)];
        let key = Bytes::from_static(input.pick(&KEYS));
        let kv = KeyValue {
            key,
            value: vec![b'v'; size].into(),
            create_revision: mod_revision,
            mod_revision,
            version: 1,
            lease: 0,
        };
        let prev_kv = (step & 8 != 0).then(|| kv.clone());
        let kv = (step & 0x30 != 0x30).then_some(kv);
        Event { r#type: i32::from(step >> 6 & 1), kv, prev_kv }
    }

    /// A frame of no sense at all.
    fn wild(&mut self, input: &mut Input<'_>) {
        let flags = input.byte();
        let is_set = |bit: u8| flags >> bit & 1 == 1;
        let header = is_set(3).then(|| self.header(input)).flatten();
        let events = (0..flags >> 5).map(|_| self.event(input)).collect();
        let compact_revision = if is_set(4) { input.number() } else { 0 };
        let cancel_reason = input.pick(&TEXTS).into();
        let (created, canceled, fragment) = (is_set(0), is_set(1), is_set(2));
        self.frame(input, |watch_id| Frame {
            header,
            watch_id,
            created,
            canceled,
            compact_revision,
            cancel_reason,
            fragment,
            events,
        });
    }

    /// Sends a frame on some stream, for an id that means something there, or for any.
    fn frame(&mut self, input: &mut Input<'_>, make: impl FnOnce(i64) -> Frame) {
        let Some(stream) = input.pick_from_end(&self.driver.streams) else { return };
        let id = self.id(stream, input);
        self.driver.frame(stream, make(id).encode_to_vec().into());
    }

    fn id(&self, stream: StreamKey, input: &mut Input<'_>) -> i64 {
        match input.byte() {
            0xff => input.number(),
            0xfe => -1,
            which => {
                let ids = self.driver.ids(stream);
                if ids.is_empty() { 0 } else { ids[ids.len() - 1 - usize::from(which) % ids.len()] }
            }
        }
    }

    fn header(&self, input: &mut Input<'_>) -> Option<ResponseHeader> {
        match input.byte() {
            0xff => None,
            0xfe => Some(header(input.below(4) as u64, input.number())),
            0xfd => Some(header(1, input.number())),
            _ => Some(header(1, self.revision)),
        }
    }
}

fn header(cluster_id: u64, revision: i64) -> ResponseHeader {
    ResponseHeader { cluster_id, revision, ..ResponseHeader::default() }
}

fn opened(input: &mut Input<'_>) -> Opened {
    let patch = u32::from(input.byte());
    let version = (patch < 64).then(|| ServerVersion::new(3, 4 + (patch & 1), patch >> 1));
    Opened { version, authenticated: input.flag() }
}

fn failure(input: &mut Input<'_>) -> Failure {
    let what = input.byte();
    let text = input.pick(&TEXTS);
    match what % 24 {
        17 => Failure::connection(text),
        18 => Failure::EndOfStream,
        19 => Failure::ResponseTooLarge { bytes: input.below(256), limit: 4 },
        20 => Failure::tls(text),
        code => Failure::status(i32::from(code), text),
    }
}
