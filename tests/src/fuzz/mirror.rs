//! Pages, deliveries and time into a [`Mirror`], with a consumer that folds what it gets.
//!
//! The deliveries come from a real [`Watcher`], which a server feeds that says anything: so they are what a
//! mirror may be given, and nothing else. Input: a byte for the settings, then operations.

mod consumer;
mod stories;

use std::time::Duration;

use etcd_watch_core::{
    Action, CloseReason, Delivery, Failure, Instant, KeyRange, ListKey, Mirror, MirrorAction, MirrorRequest,
    Opened, Overflow, OwnedKeyValue, Page, Pairs, Request, ServerVersion, StreamKey, WatchConfig, WatchKey,
    Watcher,
};
use etcd_watch_proto::etcdserverpb::{ResponseHeader, WatchResponse as Frame};
use etcd_watch_proto::mvccpb::{Event, KeyValue};
use etcd_watch_proto::prost::Message;

use self::consumer::Consumer;
pub(super) use self::stories::seeds;
use super::input::Input;

/// Operations in one input beyond which nothing new is found.
const MAX_OPERATIONS: usize = 400;

/// What one call may have a mirror ask for.
const MAX_ACTIONS: usize = 4;

const KEYS: [&str; 9] = ["b", "c", "d", "e", "b\0", "c\u{7f}", "a", "", "z"];

const TEXTS: [&str; 8] = [
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: invalid auth token",
    "grpc: received message larger than max (9 vs. 4)",
    "etcdserver: no leader",
    "etcdserver: permission denied",
    "etcdserver: authentication failed, invalid user ID or password",
    "",
];

// What there is to do, by the number that stands for it.
const PAGE: u8 = 0;
const TAKE: u8 = 1;
const EVENTS: u8 = 2;
const FEED: u8 = 3;
const FAILED: u8 = 4;
const TIMEOUT: u8 = 5;
const PROGRESS: u8 = 6;
const ENDED: u8 = 7;
const CLOSED: u8 = 8;
const REQUEST: u8 = 9;
const SLEEP: u8 = 10;
const CUT: u8 = 11;
const OLD_PAGE: u8 = 12;
const CANCEL: u8 = 13;
const OPERATIONS: u8 = 14;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(input.byte());
    world.settle();
    for _ in 0..MAX_OPERATIONS {
        if input.is_empty() {
            break;
        }
        world.perform(&mut input);
        world.settle();
    }
    world.mirror.cancel(world.now);
    world.settle();
    while world.take() {}
    world.consumer.assert_closed();
    assert!(!world.mirror.has_events() && world.mirror.poll_timeout().is_none());
    assert_eq!((world.mirror.index_keys(), world.mirror.synced_revision()), (0, None));
}

/// What the mirror waits for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    list: ListKey,
    /// Whether a stream may bring it, and whether one does.
    may_stream: bool,
    streams: bool,
}

struct World {
    mirror: Mirror,
    watcher: Watcher,
    now: Instant,
    range: KeyRange,
    /// Every page that was ever asked for, and the one that is now.
    lists: Vec<ListKey>,
    asked: Option<Asked>,
    watch: Option<WatchKey>,
    /// The watcher's open stream, and the id of the watch on it.
    stream: Option<(StreamKey, i64)>,
    revision: i64,
    consumer: Consumer,
}

impl World {
    fn new(settings: u8) -> Self {
        let range = match settings % 3 {
            0 => KeyRange::range("b", "f").expect("in order"),
            1 => KeyRange::key("b"),
            _ => KeyRange::all(),
        };
        let page_bytes = [1, 3, 128 << 10, 8 << 20][usize::from(settings >> 2 & 3)];
        let keeps_index = settings & 0x10 == 0;
        let mut request = MirrorRequest::new(range.clone()).page_bytes(page_bytes).keep_index(keeps_index);
        if settings & 0x20 != 0 {
            request = request.overflow(Overflow::Fail).buffer_bytes(600);
        }
        let mut config = WatchConfig::default();
        if settings & 0x40 != 0 {
            config = config.unreachable_deadline(Some(Duration::from_secs(20)));
            config = config.no_leader_deadline(Some(Duration::from_secs(10)));
        }
        Self {
            mirror: Mirror::new(&config, request, 1).expect("a valid request"),
            watcher: Watcher::new(config, 1).expect("a valid configuration"),
            now: Instant::from_nanos(1),
            consumer: Consumer::new(range.clone(), keeps_index, page_bytes),
            range,
            lists: Vec::new(),
            asked: None,
            watch: None,
            stream: None,
            revision: 10,
        }
    }

    fn perform(&mut self, input: &mut Input<'_>) {
        match input.byte() % OPERATIONS {
            PAGE => {
                let shape = input.byte();
                let page = self.page(input, shape);
                self.answer_with(page, shape);
            }
            TAKE => {
                for _ in 0..=input.below(4) {
                    self.take();
                }
            }
            EVENTS => self.events(input),
            FEED => self.feed(),
            FAILED => {
                let failure = failure(input);
                self.fail(failure);
            }
            TIMEOUT => {
                let due =
                    [self.mirror.poll_timeout(), self.watcher.poll_timeout()].into_iter().flatten().min();
                self.sleep_until(due.unwrap_or(self.now));
            }
            PROGRESS => {
                let revision = self.some_revision(input);
                self.frame(|watch_id| Frame { header: header(1, revision), watch_id, ..Frame::default() });
            }
            ENDED => {
                let (compact_revision, text) = (input.number().max(0), input.pick(&TEXTS));
                self.frame(|watch_id| Frame {
                    watch_id,
                    canceled: true,
                    compact_revision,
                    cancel_reason: text.into(),
                    ..Frame::default()
                });
            }
            CLOSED => {
                let reason = reason(input);
                self.watch_ends(reason);
            }
            REQUEST => self.mirror.request_progress(self.now),
            SLEEP => {
                let nanos = match input.byte() {
                    u8::MAX => input.u64(),
                    tenths => u64::from(tenths) * 100_000_000,
                };
                self.sleep_until(self.now + Duration::from_nanos(nanos));
            }
            CUT => {
                if let Some((stream, _)) = self.stream.take() {
                    self.watcher.handle_failed(self.now, stream, failure(input));
                }
            }
            OLD_PAGE => {
                let Some(list) = input.pick_from_end(&self.lists) else { return };
                let shape = input.byte();
                let page = self.page(input, shape);
                if self.asked.is_none_or(|asked| asked.list != list) {
                    self.mirror.handle_chunk(self.now, list, Ok(page.clone()));
                    self.mirror.handle_page(self.now, list, Ok(page));
                }
            }
            // Seldom, as nothing comes after it.
            _ if input.byte() == 0x5d => self.mirror.cancel(self.now),
            _ => {}
        }
    }

    /// Brings a page, or a message of a stream if one may bring the list and the shape says so.
    fn answer_with(&mut self, page: Page, shape: u8) {
        let Some(asked) = self.asked.take() else { return };
        if !asked.streams && (!asked.may_stream || shape & 0x40 == 0) {
            return self.mirror.handle_page(self.now, asked.list, Ok(page));
        }
        // Seldom too early.
        if !self.mirror.wants_chunk(asked.list) && shape != u8::MAX {
            self.asked = Some(asked);
            return;
        }
        self.asked = Some(Asked { streams: true, ..asked });
        let has_header = shape & 0x80 != 0;
        let chunk = if has_header { page } else { Page { kvs: page.kvs, ..Page::default() } };
        self.mirror.handle_chunk(self.now, asked.list, Ok(chunk));
    }

    fn fail(&mut self, failure: Failure) {
        match self.asked.take() {
            Some(Asked { list, streams: true, .. }) => {
                self.mirror.handle_chunk(self.now, list, Err(failure));
            }
            Some(Asked { list, .. }) => self.mirror.handle_page(self.now, list, Err(failure)),
            None => {}
        }
    }

    /// A page that mostly could be one.
    fn page(&mut self, input: &mut Input<'_>, shape: u8) -> Page {
        let revision = self.some_revision(input);
        let mut kvs: Vec<OwnedKeyValue> = (0..shape & 7)
            .map(|_| {
                let key = input.pick(&KEYS);
                OwnedKeyValue {
                    key: key.into(),
                    mod_revision: self.some_revision(input),
                    ..OwnedKeyValue::default()
                }
            })
            .collect();
        if shape & 0x10 == 0 {
            kvs.retain(|kv| !kv.key.is_empty() && self.range.contains(&kv.key));
            kvs.iter_mut().for_each(|kv| kv.mod_revision = kv.mod_revision.clamp(1, revision.max(1)));
            kvs.sort_by(|a, b| a.key.cmp(&b.key));
            kvs.dedup_by(|a, b| a.key == b.key);
        }
        let cluster_id = if shape & 0x20 == 0 { 1 } else { input.below(3) as u64 };
        let kvs = Pairs::copied(&kvs).expect("they are few");
        Page { revision, cluster_id, more: shape & 8 != 0, count: i64::from(shape), kvs }
    }

    /// Mostly the store's, or one step on.
    fn some_revision(&mut self, input: &mut Input<'_>) -> i64 {
        match input.byte() {
            0xf0.. => input.number(),
            step => {
                self.revision = self.revision.saturating_add(i64::from(step & 1));
                self.revision
            }
        }
    }

    fn events(&mut self, input: &mut Input<'_>) {
        let shape = input.byte();
        let events: Vec<Event> = (0..=shape & 3)
            .map(|_| {
                let key = input.pick(&KEYS);
                let mod_revision = self.some_revision(input);
                let kv = KeyValue {
                    key: key.into(),
                    value: vec![0; 50].into(),
                    create_revision: mod_revision,
                    mod_revision,
                    version: 1,
                    lease: 0,
                };
                Event { r#type: i32::from(input.flag()), kv: Some(kv), prev_kv: None }
            })
            .collect();
        let cluster_id = if shape & 8 == 0 { 1 } else { 2 };
        let header = header(cluster_id, self.revision);
        self.frame(|watch_id| Frame {
            header,
            watch_id,
            events,
            fragment: shape & 4 != 0,
            ..Frame::default()
        });
    }

    fn frame(&mut self, make: impl FnOnce(i64) -> Frame) {
        if let Some((stream, id)) = self.stream {
            self.watcher.handle_frame(
                self.now,
                stream,
                etcd_watch_core::Frame::decode(make(id).encode_to_vec().into()),
            );
        }
    }

    fn sleep_until(&mut self, at: Instant) {
        self.now = self.now.max(at);
        self.watcher.handle_timeout(self.now);
        self.mirror.handle_timeout(self.now);
        // At the end of time everything is due for ever.
        let is_the_end = self.now.as_nanos() > u64::MAX / 2;
        let due = self.mirror.poll_timeout().filter(|&at| at <= self.now && !is_the_end);
        assert_eq!(due, None, "{:?} does not stop being due", self.mirror.timeout_reason());
    }

    /// The driver hands on what the watch has, when the mirror wants it.
    fn feed(&mut self) {
        while let Some(watch) = self.watch.filter(|_| self.mirror.wants_delivery()) {
            let Some(delivery) = self.watcher.next(self.now, watch) else { return };
            if matches!(delivery, Delivery::Closed(_)) {
                self.watch = None;
            }
            self.mirror.handle_delivery(self.now, delivery);
        }
    }

    /// The watch ends for a reason of the fuzzer's; what it really has is not wanted any more.
    fn watch_ends(&mut self, reason: CloseReason) {
        if self.watch.is_some() && !self.mirror.wants_delivery() {
            return;
        }
        self.mirror.handle_delivery(self.now, Delivery::Closed(reason));
        if let Some(watch) = self.watch.take() {
            self.watcher.cancel(self.now, watch).expect("its end has not been taken");
            while self.watcher.next(self.now, watch).is_some() {}
        }
    }

    fn take(&mut self) -> bool {
        let had_events = self.mirror.has_events();
        let event = self.mirror.next(self.now);
        assert_eq!(event.is_some(), had_events);
        let Some(event) = event else { return false };
        self.consumer.take(event, &self.mirror);
        true
    }

    /// Does what the two machines say.
    fn settle(&mut self) {
        let mut said = 0;
        loop {
            let has_actions = self.mirror.has_actions();
            let Some(action) = self.mirror.poll_action() else { break };
            said += 1;
            assert!(has_actions && said <= MAX_ACTIONS, "it does not stop: {action:?}");
            match action {
                MirrorAction::List { list, request } => {
                    assert!(self.asked.is_none() && self.watch.is_none() && !self.mirror.has_events());
                    assert!(!self.lists.contains(&list), "{list:?} is new");
                    assert!(request.limit > 0 && request.max_bytes > 0);
                    assert_eq!(self.mirror.wants_chunk(list), request.may_stream);
                    self.lists.push(list);
                    self.asked = Some(Asked { list, may_stream: request.may_stream, streams: false });
                }
                MirrorAction::CloseList { list } => {
                    let asked = self.asked.take().map(|asked| asked.list);
                    assert_eq!(asked, Some(list), "there is a list to close");
                }
                MirrorAction::Watch(request) => {
                    assert!(self.watch.is_none() && self.asked.is_none(), "one thing at a time");
                    self.watch = Some(self.watcher.watch(self.now, request).expect("a valid request"));
                }
                MirrorAction::Cancel => {
                    let watch = self.watch.take().expect("there is a watch to cancel");
                    self.watcher.cancel(self.now, watch).expect("its end has not been taken");
                }
                MirrorAction::RequestProgress => {
                    let watch = self.watch.expect("there is a watch to ask");
                    self.watcher.request_progress(self.now, watch).expect("its end has not been taken");
                }
            }
        }
        assert!(!self.mirror.has_actions());
        if !self.mirror.has_events() {
            self.consumer.compare_index(&self.mirror);
        }
        self.serve();
    }

    /// A network and a server without faults of their own, for the watcher.
    fn serve(&mut self) {
        while let Some(action) = self.watcher.poll_action() {
            match action {
                Action::Open { stream, .. } => {
                    let version = Some(ServerVersion::new(3, 5, 30));
                    self.watcher.handle_opened(self.now, stream, Opened { version, authenticated: false });
                }
                Action::Send { stream, request: Request::Create(create), .. } if create.is_probe() => {
                    let header = header(1, self.revision);
                    let frame =
                        Frame { header, watch_id: create.watch_id, created: true, ..Frame::default() };
                    self.watcher.handle_frame(
                        self.now,
                        stream,
                        etcd_watch_core::Frame::decode(frame.encode_to_vec().into()),
                    );
                }
                Action::Send { stream, request: Request::Create(create), .. } => {
                    self.stream = Some((stream, create.watch_id));
                    let header = header(1, self.revision);
                    self.frame(|watch_id| Frame { header, watch_id, created: true, ..Frame::default() });
                }
                Action::Close { .. } => self.stream = None,
                Action::Range { .. } => panic!("a mirror's watch knows where to start"),
                Action::Send { .. } | Action::Deliver { .. } | Action::Overflowed { .. } => {}
            }
        }
    }
}

fn header(cluster_id: u64, revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { cluster_id, revision, ..ResponseHeader::default() })
}

fn failure(input: &mut Input<'_>) -> Failure {
    let text = input.pick(&TEXTS);
    match input.byte() % 24 {
        17 => Failure::connection(text),
        18 => Failure::EndOfStream,
        19 => Failure::ResponseTooLarge { bytes: 5, limit: 4 },
        code => Failure::status(i32::from(code), text),
    }
}

fn reason(input: &mut Input<'_>) -> CloseReason {
    let number = input.number();
    match input.byte() % 7 {
        0 => CloseReason::Compacted { compact_revision: number, next_revision: 0 },
        1 => CloseReason::Lagged { queued_bytes: 0, next_revision: number },
        2 => CloseReason::StoreChanged { before: 1, after: 2 },
        3 => CloseReason::StoreRegressed { known: number, revision: 0 },
        4 => CloseReason::TooLarge { what: "a revision", bytes: 0, limit: 0 },
        5 => CloseReason::NoLeader { millis: 1 },
        _ => CloseReason::ShutDown,
    }
}
