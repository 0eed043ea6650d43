//! A driver for tests: a [`Watcher`], a clock that tests move, the actions not looked at yet, and the
//! server's side of the wire, built with prost.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use etcd_watch_core::{
    Action, CloseReason, CreateRequest, Delivery, EndpointHint, Failure, Instant, KeyRange, Opened,
    RangeDone, RangeKey, Request, ResponseKind, ServerVersion, Stats, StreamEnd, StreamKey, WatchConfig,
    WatchKey, WatchRequest, WatchResponse, Watcher, wire::RevisionRequest,
};
use etcd_watch_proto::{
    etcdserverpb::{ResponseHeader, WatchResponse as Frame},
    mvccpb::{Event, KeyValue},
};
use prost::Message;

/// Its manual progress replies are believed.
pub(crate) const TRUSTED: Opened =
    Opened { version: Some(ServerVersion::new(3, 5, 30)), authenticated: false };
/// Its manual progress replies can overtake events.
pub(crate) const UNTRUSTED: Opened =
    Opened { version: Some(ServerVersion::new(3, 4, 23)), authenticated: false };

pub(crate) const CLUSTER: u64 = 0xc1;

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What `Action::Open` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) stream: StreamKey,
    pub(crate) endpoint: EndpointHint,
    pub(crate) fresh_token: bool,
}

/// What `Action::Range` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) range: RangeKey,
    pub(crate) request: RevisionRequest,
    pub(crate) endpoint: EndpointHint,
    pub(crate) fresh_token: bool,
}

pub(crate) struct Driver {
    pub(crate) watcher: Watcher,
    pub(crate) now: Instant,
    /// Actions that no expectation has taken yet.
    pub(crate) actions: Vec<Action>,
    /// Streams that may be written to.
    open: BTreeSet<StreamKey>,
}

impl Driver {
    pub(crate) fn new(config: WatchConfig) -> Self {
        Self::with_seed(config, 1)
    }

    pub(crate) fn with_seed(config: WatchConfig, seed: u64) -> Self {
        let watcher = Watcher::new(config, seed).expect("a valid configuration");
        Self { watcher, now: Instant::from_nanos(1), actions: Vec::new(), open: BTreeSet::new() }
    }

    /// Drains the machine's actions, and holds it to what a driver relies on.
    pub(crate) fn collect(&mut self) {
        loop {
            let has_actions = self.watcher.has_actions();
            let action = self.watcher.poll_action();
            assert!(has_actions || action.is_none(), "{action:?}");
            let Some(action) = action else { break };
            match &action {
                Action::Send { stream, request, .. } => {
                    assert!(self.open.contains(stream), "{request:?} for {stream:?}, which is not open");
                }
                Action::Close { stream, .. } => {
                    self.open.remove(stream);
                }
                Action::Open { .. }
                | Action::Range { .. }
                | Action::Deliver { .. }
                | Action::Overflowed { .. } => {}
            }
            self.actions.push(action);
        }
        // It looks at everything: with thousands of watches that would be what a test spends its time on.
        if self.watcher.stats().watches < 50 {
            self.watcher.assert_consistent();
        }
    }

    fn take<T>(&mut self, pick: impl Fn(&Action) -> Option<T>) -> Vec<T> {
        self.collect();
        let mut taken = Vec::new();
        self.actions.retain(|action| match pick(action) {
            Some(found) => {
                taken.push(found);
                false
            }
            None => true,
        });
        taken
    }

    pub(crate) fn opens(&mut self) -> Vec<Open> {
        self.take(|action| match *action {
            Action::Open { stream, endpoint, fresh_token, .. } => {
                Some(Open { stream, endpoint, fresh_token })
            }
            _ => None,
        })
    }

    pub(crate) fn ranges(&mut self) -> Vec<Range> {
        self.take(|action| match action {
            Action::Range { range, request, endpoint, fresh_token, .. } => Some(Range {
                range: *range,
                request: request.clone(),
                endpoint: *endpoint,
                fresh_token: *fresh_token,
            }),
            _ => None,
        })
    }

    pub(crate) fn creates(&mut self) -> Vec<CreateRequest> {
        self.take(|action| match action {
            Action::Send { request: Request::Create(create), .. } if !create.is_probe() => {
                Some(create.clone())
            }
            _ => None,
        })
    }

    /// The ids that streams are asked to create watches for nobody with.
    pub(crate) fn probes(&mut self) -> Vec<i64> {
        self.probed().into_iter().map(|(_, id)| id).collect()
    }

    /// The streams that are asked to create watches for nobody, and the ids.
    pub(crate) fn probed(&mut self) -> Vec<(StreamKey, i64)> {
        self.take(|action| match action {
            Action::Send { stream, request: Request::Create(create), creates } if create.is_probe() => {
                assert!(creates.is_none() && create.filters.no_put && create.filters.no_delete);
                Some((*stream, create.watch_id))
            }
            _ => None,
        })
    }

    /// Answers the one probe that is under way, whose watch is then cancelled.
    pub(crate) fn answer_probe(&mut self, stream: StreamKey, revision: i64) {
        let probes = self.probes();
        assert_eq!(probes.len(), 1, "one probe: {probes:?}");
        self.frame(stream, created_at(probes[0], revision));
        assert_eq!(self.cancels(), probes);
        self.frame(stream, Frame { header: header(revision), ..canceled(probes[0], "") });
    }

    pub(crate) fn cancels(&mut self) -> Vec<i64> {
        self.take(|action| match action {
            Action::Send { request: Request::Cancel { watch_id }, .. } => Some(*watch_id),
            _ => None,
        })
    }

    pub(crate) fn progress_requests(&mut self) -> usize {
        self.take(|action| matches!(action, Action::Send { request: Request::Progress, .. }).then_some(()))
            .len()
    }

    pub(crate) fn closes(&mut self) -> Vec<(StreamKey, StreamEnd)> {
        self.take(|action| match action {
            Action::Close { stream, reason } => Some((*stream, reason.clone())),
            _ => None,
        })
    }

    pub(crate) fn delivers(&mut self) -> Vec<WatchKey> {
        self.take(|action| match action {
            Action::Deliver { watch } => Some(*watch),
            _ => None,
        })
    }

    pub(crate) fn overflows(&mut self) -> Vec<Action> {
        self.take(|action| matches!(action, Action::Overflowed { .. }).then(|| action.clone()))
    }

    pub(crate) fn stats(&self) -> Stats {
        self.watcher.stats()
    }

    pub(crate) fn watch(&mut self, request: WatchRequest) -> WatchKey {
        let watch = self.watcher.watch(self.now, request).expect("a valid request");
        self.collect();
        watch
    }

    /// Several watches in one go, before the driver looks at any action.
    pub(crate) fn watch_together(
        &mut self,
        requests: impl IntoIterator<Item = WatchRequest>,
    ) -> Vec<WatchKey> {
        let now = self.now;
        let watches =
            requests.into_iter().map(|r| self.watcher.watch(now, r).expect("a valid request")).collect();
        self.collect();
        watches
    }

    pub(crate) fn cancel(&mut self, watch: WatchKey) {
        self.watcher.cancel(self.now, watch).expect("an open watch");
        self.collect();
    }

    pub(crate) fn request_progress(&mut self, watch: WatchKey) {
        self.watcher.request_progress(self.now, watch).expect("an open watch");
        self.collect();
    }

    /// Opens the one stream that is to be opened.
    pub(crate) fn open(&mut self, opened: Opened) -> StreamKey {
        let opens = self.opens();
        assert_eq!(opens.len(), 1, "one stream to open: {opens:?}");
        self.opened(opens[0].stream, opened);
        opens[0].stream
    }

    pub(crate) fn opened(&mut self, stream: StreamKey, opened: Opened) {
        self.open.insert(stream);
        self.watcher.handle_opened(self.now, stream, opened);
        self.collect();
    }

    pub(crate) fn failed(&mut self, stream: StreamKey, failure: Failure) {
        self.collect();
        self.open.remove(&stream);
        self.watcher.handle_failed(self.now, stream, failure);
        self.collect();
    }

    /// The connection breaks.
    pub(crate) fn cut(&mut self, stream: StreamKey) {
        self.failed(stream, Failure::connection("reset by peer"));
    }

    pub(crate) fn frame(&mut self, stream: StreamKey, frame: Frame) {
        self.bytes(stream, frame.encode_to_vec());
    }

    pub(crate) fn bytes(&mut self, stream: StreamKey, bytes: impl Into<Bytes>) {
        self.watcher.handle_frame(self.now, stream, etcd_watch_core::Frame::decode(bytes.into()));
        self.collect();
    }

    pub(crate) fn range_done(&mut self, range: RangeKey, revision: i64) {
        self.range_found(range, revision, 0);
    }

    /// A key with this revision was found, or none by 0.
    pub(crate) fn range_found(&mut self, range: RangeKey, revision: i64, mod_revision: i64) {
        let done = RangeDone { revision, cluster_id: CLUSTER, mod_revision };
        self.watcher.handle_range_done(self.now, range, Ok(done));
        self.collect();
    }

    pub(crate) fn range_failed(&mut self, range: RangeKey, failure: Failure) {
        self.watcher.handle_range_done(self.now, range, Err(failure));
        self.collect();
    }

    /// Time passes, in one go.
    pub(crate) fn sleep(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.watcher.handle_timeout(self.now);
        self.collect();
    }

    /// Goes to the next timeout; says how long that took.
    pub(crate) fn sleep_to_timeout(&mut self) -> Duration {
        let at = self.watcher.poll_timeout().expect("something to wait for");
        let slept = at.since(self.now);
        self.sleep(slept);
        slept
    }

    /// Waits out the backoff and opens the next stream.
    pub(crate) fn reopen(&mut self, opened: Opened) -> StreamKey {
        let reason = self.watcher.timeout_reason();
        assert_eq!(reason, Some(etcd_watch_core::TimeoutReason::Reconnect));
        self.sleep_to_timeout();
        self.open(opened)
    }

    /// A watch from `start` that runs on a stream of its own or on one that is open.
    pub(crate) fn running(&mut self, request: WatchRequest) -> (WatchKey, StreamKey, i64) {
        let watch = self.watch(request);
        let stream = self.open(TRUSTED);
        let id = self.create_one(stream);
        (watch, stream, id)
    }

    /// Answers the one create that is under way; its id.
    pub(crate) fn create_one(&mut self, stream: StreamKey) -> i64 {
        let creates = self.creates();
        assert_eq!(creates.len(), 1, "one create: {creates:?}");
        self.frame(stream, created(creates[0].watch_id));
        creates[0].watch_id
    }

    /// Takes everything the watch has.
    pub(crate) fn take_all(&mut self, watch: WatchKey) -> Vec<Delivery> {
        let now = self.now;
        let taken = std::iter::from_fn(|| self.watcher.next(now, watch)).collect();
        self.collect();
        self.actions.retain(|action| *action != Action::Deliver { watch });
        taken
    }

    pub(crate) fn take_one(&mut self, watch: WatchKey) -> Option<Delivery> {
        let taken = self.watcher.next(self.now, watch);
        self.collect();
        taken
    }

    pub(crate) fn responses(&mut self, watch: WatchKey) -> Vec<WatchResponse> {
        let responses = self.take_all(watch).into_iter().map(|delivery| match delivery {
            Delivery::Response(response) => response,
            other => panic!("a response was expected: {other:?}"),
        });
        responses.collect()
    }

    /// The revisions of the events the watch has, and nothing but events.
    pub(crate) fn revisions(&mut self, watch: WatchKey) -> Vec<i64> {
        revisions_of(&self.responses(watch))
    }

    /// The resume revisions of the progress notifications the watch has, and nothing else.
    pub(crate) fn progress(&mut self, watch: WatchKey) -> Vec<i64> {
        let responses = self.responses(watch);
        assert!(responses.iter().all(|r| r.kind() == ResponseKind::Progress), "{responses:?}");
        responses.iter().map(WatchResponse::resume_revision).collect()
    }

    /// The watch has nothing left but its end.
    pub(crate) fn closed(&mut self, watch: WatchKey) -> CloseReason {
        let mut taken = self.take_all(watch);
        assert_eq!(taken.len(), 1, "{taken:?}");
        match taken.remove(0) {
            Delivery::Closed(reason) => reason,
            other => panic!("an end was expected: {other:?}"),
        }
    }
}

pub(crate) fn revisions_of(responses: &[WatchResponse]) -> Vec<i64> {
    responses.iter().flat_map(|response| response.events().map(|event| event.mod_revision())).collect()
}

/// A watch on every key, from `revision`.
pub(crate) fn all_from(revision: i64) -> WatchRequest {
    WatchRequest::new(KeyRange::all()).start_revision(revision)
}

pub(crate) fn from_now(key: &'static str) -> WatchRequest {
    WatchRequest::new(KeyRange::key(key))
}

pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { cluster_id: CLUSTER, member_id: 1, revision, raft_term: 2 })
}

/// The watch has been created, on a store at revision 100.
pub(crate) fn created(id: i64) -> Frame {
    created_at(id, 100)
}

pub(crate) fn created_at(id: i64, revision: i64) -> Frame {
    Frame { header: header(revision), watch_id: id, created: true, ..Frame::default() }
}

pub(crate) fn refused(id: i64, reason: &str) -> Frame {
    Frame { canceled: true, cancel_reason: reason.into(), ..created(id) }
}

pub(crate) fn canceled(id: i64, reason: &str) -> Frame {
    let header = header(100);
    Frame { header, watch_id: id, canceled: true, cancel_reason: reason.into(), ..Frame::default() }
}

pub(crate) fn compacted(id: i64, compact_revision: i64) -> Frame {
    Frame { compact_revision, ..canceled(id, "") }
}

pub(crate) fn progress(id: i64, revision: i64) -> Frame {
    Frame { header: header(revision), watch_id: id, ..Frame::default() }
}

/// A reply to a manual request: for the stream as a whole.
pub(crate) fn manual_progress(revision: i64) -> Frame {
    progress(-1, revision)
}

pub(crate) fn put(revision: i64, key: &str) -> Event {
    put_value(revision, key, b"value".to_vec())
}

pub(crate) fn put_value(revision: i64, key: &str, value: Vec<u8>) -> Event {
    let kv = KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 0,
    };
    Event { kv: Some(kv), ..Event::default() }
}

pub(crate) fn batch(id: i64, events: Vec<Event>) -> Frame {
    Frame { header: header(100), watch_id: id, events, ..Frame::default() }
}

/// One put of `k` at each revision.
pub(crate) fn events(id: i64, revisions: &[i64]) -> Frame {
    batch(id, revisions.iter().map(|&revision| put(revision, "k")).collect())
}

/// The same with more to come.
pub(crate) fn fragment(id: i64, events: Vec<Event>) -> Frame {
    Frame { fragment: true, ..batch(id, events) }
}

/// One put of `bytes` bytes.
pub(crate) fn big(id: i64, revision: i64, bytes: usize) -> Frame {
    batch(id, vec![put_value(revision, "k", vec![b'x'; bytes])])
}
