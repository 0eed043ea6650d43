//! Requests as bytes, decoded by prost, to the model etcd.
//!
//! Input: three bytes for what kind of member it is, then operations: a byte for which one, and the request
//! behind its length. What the model then has is held against a fold of its own history.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCancelRequest,
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse, request_op, watch_request,
};
use etcd_watch_proto::prost::Message;

use super::input::{Input, write_bytes};
use crate::model::{EventKind, ModelConfig, ModelEtcd, ModelStream, ProgressMode, Quirks};

/// Operations in one input beyond which nothing new is found.
const MAX_OPERATIONS: usize = 200;

/// Far more than can be due to so many operations.
const MAX_RESPONSES: usize = 1_000_000;

// What there is to do, by the number that stands for it.
const PUT: u8 = 0;
const RANGE: u8 = 1;
const DELETE: u8 = 2;
const TXN: u8 = 3;
const WATCH: u8 = 4;
const READ: u8 = 5;
const COMPACT: u8 = 6;
const GRANT: u8 = 7;
const REVOKE: u8 = 8;
const KEEP_ALIVE: u8 = 9;
const TIME_TO_LIVE: u8 = 10;
const TIMEOUT: u8 = 11;
const TIME: u8 = 12;
const OPEN: u8 = 13;
const CLOSE: u8 = 14;
const RESTART: u8 = 15;
const DENY: u8 = 16;
const CANCEL: u8 = 17;
const BACKUP: u8 = 18;
const OPERATIONS: u8 = 19;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    for _ in 0..MAX_OPERATIONS {
        if input.is_empty() {
            break;
        }
        let revision = world.etcd.revision();
        let is_back = world.perform(&mut input);
        assert!(is_back || world.etcd.revision() >= revision, "revisions go up");
    }
    world.read_all();
    world.check_state();
}

struct World {
    etcd: ModelEtcd,
    backup: ModelEtcd,
    streams: Vec<ModelStream>,
    now: Duration,
    responses: usize,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let etcd = ModelEtcd::new(configuration(input));
        let mut world =
            Self { backup: etcd.clone(), etcd, streams: Vec::new(), now: Duration::ZERO, responses: 0 };
        world.streams.push(world.etcd.open_watch_stream());
        world
    }

    /// Whether it went back to a backup.
    fn perform(&mut self, input: &mut Input<'_>) -> bool {
        let operation = input.byte() % OPERATIONS;
        match operation {
            PUT => with(input, |request: PutRequest| self.etcd.put(&request).is_ok()),
            RANGE => with(input, |request: RangeRequest| self.range(&request)),
            DELETE => with(input, |request: DeleteRangeRequest| self.etcd.delete_range(&request).is_ok()),
            TXN => with(input, |request: TxnRequest| self.etcd.txn(&request).is_ok()),
            WATCH => {
                let Some(stream) = input.pick_from_end(&self.streams) else { return false };
                with(input, |request: WatchRequest| {
                    self.etcd.handle_watch_request(stream, request);
                    true
                });
            }
            READ => self.read(1 + input.below(8)),
            COMPACT => with(input, |request: CompactionRequest| self.etcd.compact(&request).is_ok()),
            GRANT => {
                with(input, |request: LeaseGrantRequest| self.etcd.lease_grant(&request, self.now).is_ok())
            }
            REVOKE => with(input, |request: LeaseRevokeRequest| self.etcd.lease_revoke(&request).is_ok()),
            KEEP_ALIVE => with(input, |request: LeaseKeepAliveRequest| {
                self.etcd.lease_keep_alive(&request, self.now).ttl > 0
            }),
            TIME_TO_LIVE => with(input, |request: LeaseTimeToLiveRequest| {
                self.etcd.lease_time_to_live(&request, self.now).ttl >= 0
            }),
            TIMEOUT => self.sleep_until(self.etcd.poll_timeout().unwrap_or(self.now)),
            TIME => {
                let time = match input.byte() {
                    0xff => Duration::MAX,
                    0xfe => Duration::from_nanos(input.u64()),
                    0xfd => self.now.saturating_add(Duration::from_secs(input.u64())),
                    tenths => self.now.saturating_add(Duration::from_millis(u64::from(tenths) * 100)),
                };
                self.sleep_until(time);
            }
            OPEN => self.streams.push(self.etcd.open_watch_stream()),
            CLOSE => {
                if let Some(stream) = input.pick_from_end(&self.streams) {
                    self.etcd.close_watch_stream(stream);
                    assert!(!self.etcd.has_watch_stream(stream));
                }
            }
            RESTART => self.etcd.restart(self.now),
            DENY => match input.byte() {
                0 => self.etcd.allow_watches(),
                _ => self.etcd.deny_watches(input.bytes().to_vec(), input.bytes().to_vec(), "denied"),
            },
            CANCEL => {
                let Some(stream) = input.pick_from_end(&self.streams) else { return false };
                self.etcd.cancel_watch(stream, input.number(), "cancelled");
            }
            _ if input.flag() => self.backup = self.etcd.clone(),
            _ => self.etcd = self.backup.clone(),
        }
        operation == BACKUP
    }

    fn range(&self, request: &RangeRequest) -> bool {
        let Ok(response) = self.etcd.range(request) else { return false };
        assert!(i64::try_from(response.kvs.len()).is_ok_and(|len| len <= response.count));
        assert!(response.kvs.iter().all(|kv| kv.mod_revision <= self.etcd.revision()));
        true
    }

    fn sleep_until(&mut self, at: Duration) {
        self.now = self.now.max(at);
        self.etcd.handle_timeout(at);
        // At the end of time everything is due for ever.
        let due = self.etcd.poll_timeout().filter(|&due| due <= at && at < Duration::MAX / 2);
        assert_eq!(due, None, "it does not stop being due");
    }

    /// Reads so many responses of every stream that has some.
    fn read(&mut self, most: usize) {
        while let Some(stream) = self.etcd.poll_ready() {
            for _ in 0..most {
                let Some(response) = self.etcd.poll_watch_response(stream) else { break };
                self.responses += 1;
                assert!(self.responses < MAX_RESPONSES, "no end of responses");
                self.check_response(&response);
            }
        }
    }

    fn read_all(&mut self) {
        self.read(usize::MAX);
        for stream in self.etcd.watch_streams() {
            while let Some(response) = self.etcd.poll_watch_response(stream) {
                self.responses += 1;
                assert!(self.responses < MAX_RESPONSES, "no end of responses");
                self.check_response(&response);
            }
        }
    }

    fn check_response(&self, response: &WatchResponse) {
        assert!(!response.created || response.events.is_empty());
        let revisions = response.events.iter().map(|event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision));
        assert!(revisions.clone().is_sorted() && revisions.clone().all(|revision| revision > 1));
        assert!(revisions.last().is_none_or(|last| last <= self.etcd.revision()));
    }

    /// The keys there are must be what history comes to.
    fn check_state(&self) {
        let mut fold: BTreeMap<Bytes, (i64, i64, Bytes)> = BTreeMap::new();
        let mut last = (1, 0);
        for event in self.etcd.history() {
            let place = (event.revision, event.sub_revision);
            assert!(place > last && event.revision <= self.etcd.revision(), "{place:?} after {last:?}");
            last = place;
            match event.kind {
                EventKind::Put => {
                    fold.insert(event.key.clone(), (event.revision, event.version, event.value.clone()));
                }
                EventKind::Delete => assert!(fold.remove(&event.key).is_some(), "{event:?}"),
            }
        }
        assert!(self.etcd.compact_revision().is_none_or(|revision| revision <= self.etcd.revision()));
        let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
        let kvs = self.etcd.range(&all).expect("a valid request").kvs;
        let kvs = kvs.into_iter().map(|kv| (kv.key, (kv.mod_revision, kv.version, kv.value)));
        assert!(kvs.eq(fold), "the keys are what history comes to");
    }
}

/// Decodes a request, if it is one, and has it handled.
fn with<M: Message + Default>(input: &mut Input<'_>, handle: impl FnOnce(M) -> bool) {
    if let Ok(request) = M::decode(input.bytes()) {
        handle(request);
    }
}

fn configuration(input: &mut Input<'_>) -> ModelConfig {
    let (sizes, quirks, more) = (input.byte(), input.byte(), input.byte());
    let is_set = |bit: u8| quirks >> bit & 1 == 1;
    ModelConfig {
        watch_queue: [1, 2, 5, 128][usize::from(sizes & 3)],
        control_queue: 1 + usize::from(sizes >> 2 & 3),
        watch_batch_revisions: [0, 1, 2, 1000][usize::from(sizes >> 4 & 3)],
        watchers_per_sync: [0, 1, 2, 512][usize::from(sizes >> 6)],
        fragment_bytes: [0, 20, 100, 2 << 20][usize::from(more & 3)],
        max_txn_ops: [0, 1, 3, 128][usize::from(more >> 2 & 3)],
        sync_interval: Duration::from_millis(u64::from(more >> 4 & 1) * 100),
        progress: if more & 0x20 == 0 { ProgressMode::Fixed } else { ProgressMode::Overtaking },
        progress_interval: if more & 0x40 == 0 { Duration::ZERO } else { Duration::from_secs(5) },
        interleave_seed: (more & 0x80 != 0).then_some(7),
        quirks: Quirks {
            assign_ids: is_set(0),
            synthetic_created: is_set(1),
            reorder_created: is_set(2),
            ignore_fragment: is_set(3),
            ignore_progress_requests: is_set(4),
            progress_before_start: is_set(5),
            omit_headers: is_set(6),
            negative_start: is_set(7),
            lose_deletes: false,
            bare_keys: false,
            interleave_fragments: false,
        },
        ..ModelConfig::default()
    }
}

/// Requests of every kind to begin from.
pub(super) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let request = |operation: u8, message: Vec<u8>| {
        let mut bytes = vec![operation];
        write_bytes(&mut bytes, &message);
        bytes
    };
    let put_of = |key: &'static str, lease| PutRequest {
        key: key.into(),
        value: "v".into(),
        lease,
        ..PutRequest::default()
    };
    let put = |key: &'static str, lease| request(PUT, put_of(key, lease).encode_to_vec());
    let delete_of = DeleteRangeRequest { key: "a".into(), range_end: "\0".into(), prev_kv: true };
    let delete = request(DELETE, delete_of.encode_to_vec());
    let watch = |union: watch_request::RequestUnion| {
        let message = WatchRequest { request_union: Some(union) }.encode_to_vec();
        let mut bytes = vec![WATCH, 0];
        write_bytes(&mut bytes, &message);
        bytes
    };
    let create = |start_revision, watch_id| {
        watch(watch_request::RequestUnion::CreateRequest(WatchCreateRequest {
            key: "a".into(),
            range_end: "\0".into(),
            start_revision,
            watch_id,
            prev_kv: true,
            progress_notify: true,
            fragment: true,
            ..WatchCreateRequest::default()
        }))
    };
    let cancel = watch(watch_request::RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 7 }));
    let progress = watch(watch_request::RequestUnion::ProgressRequest(WatchProgressRequest {}));
    let compact =
        |revision| request(COMPACT, CompactionRequest { revision, physical: false }.encode_to_vec());
    let grant = |id, ttl| request(GRANT, LeaseGrantRequest { id, ttl }.encode_to_vec());
    let operation = |request| RequestOp { request: Some(request) };
    let inner = TxnRequest {
        success: vec![operation(request_op::Request::RequestPut(put_of("c", 0)))],
        ..TxnRequest::default()
    };
    let txn_of = TxnRequest {
        success: vec![
            operation(request_op::Request::RequestPut(put_of("b", 0))),
            operation(request_op::Request::RequestTxn(inner)),
            operation(request_op::Request::RequestRange(RangeRequest {
                key: "a".into(),
                ..RangeRequest::default()
            })),
        ],
        ..TxnRequest::default()
    };
    let twice_of = TxnRequest {
        success: vec![
            operation(request_op::Request::RequestPut(put_of("b", 0))),
            operation(request_op::Request::RequestDeleteRange(delete_of)),
        ],
        ..TxnRequest::default()
    };
    let (txn, twice) = (request(TXN, txn_of.encode_to_vec()), request(TXN, twice_of.encode_to_vec()));
    let range_of =
        RangeRequest { key: "a".into(), range_end: "\0".into(), limit: 1, ..RangeRequest::default() };
    let sorted_of = RangeRequest { sort_order: 2, sort_target: 3, revision: 2, ..range_of.clone() };
    let (range, sorted) =
        (request(RANGE, range_of.encode_to_vec()), request(RANGE, sorted_of.encode_to_vec()));
    let (read, some, ring) = (vec![READ, 7], vec![READ, 0], vec![TIMEOUT]);
    // Roomy queues; small ones; small ones by time, in any order.
    let (roomy, tight, timed) = ([0xff, 0, 0x4f], [0x50, 0, 0x0d], [0x51, 0, 0x9d]);
    let story = |settings: [u8; 3], requests: &[&Vec<u8>]| {
        let mut bytes = settings.to_vec();
        requests.iter().for_each(|request| bytes.extend(*request));
        bytes
    };
    let (a, b) = (put("a", 0), put("b", 0));
    vec![
        ("puts", story(roomy, &[&a, &b, &a, &range, &sorted, &delete, &a, &range])),
        ("watch", story(roomy, &[&create(0, 0), &a, &read, &b, &delete, &read])),
        ("watch-the-past", story(roomy, &[&a, &b, &a, &create(2, 7), &read, &cancel, &read])),
        ("watch-the-future", story(roomy, &[&create(4, 7), &progress, &a, &b, &a, &read, &ring, &read])),
        ("slow-reader", story(tight, &[&create(1, 7), &a, &b, &a, &txn, &some, &a, &b, &some, &some, &read])),
        ("slow-reader-by-time", story(timed, &[&create(1, 7), &a, &b, &a, &ring, &some, &txn, &ring, &read])),
        (
            "compacted",
            story(roomy, &[&a, &b, &a, &compact(3), &create(2, 7), &read, &sorted, &cancel, &read]),
        ),
        (
            "compacted-behind",
            story(tight, &[&create(1, 7), &a, &b, &a, &some, &b, &compact(5), &read, &read]),
        ),
        ("progress", story(roomy, &[&create(0, 7), &progress, &read, &ring, &read, &a, &ring, &read])),
        ("transactions", story(roomy, &[&a, &txn, &twice, &create(2, 7), &read, &txn, &read])),
        (
            "leases",
            story(roomy, &[&grant(5, 3), &put("a", 5), &put("b", 5), &create(0, 7), &ring, &ring, &read]),
        ),
        (
            "lease-calls",
            story(
                roomy,
                &[
                    &grant(0, 10),
                    &grant(6, 9_000_000_000),
                    &put("a", 6),
                    &request(KEEP_ALIVE, LeaseKeepAliveRequest { id: 6 }.encode_to_vec()),
                    &request(TIME_TO_LIVE, LeaseTimeToLiveRequest { id: 6, keys: true }.encode_to_vec()),
                    &request(REVOKE, LeaseRevokeRequest { id: 6 }.encode_to_vec()),
                ],
            ),
        ),
        ("restart", story(roomy, &[&create(0, 7), &a, &vec![RESTART], &vec![OPEN], &create(2, 7), &read])),
        ("restore", story(roomy, &[&a, &vec![BACKUP, 1], &b, &vec![BACKUP, 0], &create(2, 7), &a, &read])),
        (
            "denied",
            story(roomy, &[&vec![DENY, 1, 1, b'a', 0], &create(0, 7), &read, &vec![DENY, 0], &create(0, 7)]),
        ),
        ("cancelled", story(roomy, &[&create(0, 7), &vec![CANCEL, 0, 7], &read, &vec![CLOSE, 0], &a, &read])),
        ("same-id", story(roomy, &[&create(1, 7), &create(1, 7), &create(1, 0), &a, &read])),
        (
            "proxy",
            story([0xff, 0x5f, 0x8f], &[&create(1, 7), &create(0, 0), &a, &progress, &read, &a, &read]),
        ),
        (
            "end-of-time",
            story(roomy, &[&grant(5, 3), &create(0, 7), &vec![TIME, 0xff], &grant(6, 3), &a, &ring]),
        ),
    ]
}
