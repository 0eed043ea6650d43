//! The core's decoder against prost's: what one accepts the other does, with the same fields.
//!
//! The core's is private, so its verdict is read off a machine with one running watch, which shows all a frame
//! has: where the stream or the watch ends, why, and what is delivered. Input: one frame. The id of the watch
//! follows it, so that most inputs are for that watch.

use std::sync::OnceLock;

use bytes::Bytes;
use etcd_watch_core::{
    Action, CloseReason, DecodeError, Delivery, EventKind, Header, Instant, KeyRange, KeyValue, Opened,
    Request, ResponseKind, ServerMisbehaved, ServerVersion, StreamEnd, StreamKey, WatchConfig, WatchKey,
    WatchRequest, Watcher,
};
use etcd_watch_proto::etcdserverpb::{ResponseHeader, WatchResponse as Frame};
use etcd_watch_proto::mvccpb::{self, Event};
use etcd_watch_proto::prost::{self, Message};

/// What the core says of a frame in which there are more events than its size has room for, unlike prost.
const EVENTS_SLACK: usize = 1024;
const SMALLEST_EVENT: usize = 8;

/// What a frame came to.
#[derive(Debug)]
enum Outcome {
    /// The stream was given up.
    Misbehaved(ServerMisbehaved),
    /// So it was, for what the server said of itself.
    Stream(StreamEnd),
    Delivered(Delivery),
    /// The watch is created again.
    Again,
    Nothing,
}

pub(super) fn run(data: &[u8]) {
    both(data);
    both(&[data, &for_watch(watch_id())].concat());
}

fn both(bytes: &[u8]) {
    let (outcome, id) = outcome_of(bytes);
    match Frame::decode(bytes) {
        Err(_) => {
            let is_refused = matches!(outcome, Outcome::Misbehaved(ServerMisbehaved::Undecodable(_)));
            assert!(is_refused, "prost refuses it, ours comes to {outcome:?}");
        }
        Ok(frame) if frame.events.len() > EVENTS_SLACK + bytes.len() / SMALLEST_EVENT => {
            let empty = ServerMisbehaved::Undecodable(DecodeError::EmptyEvents);
            assert!(matches!(&outcome, Outcome::Misbehaved(what) if *what == empty), "{outcome:?}");
        }
        Ok(frame) => check(&frame, id, &outcome),
    }
}

/// Holds what a frame came to against what its fields, by prost, have to come to.
fn check(frame: &Frame, id: i64, outcome: &Outcome) {
    let watch_id = frame.watch_id;
    let header = frame.header.unwrap_or_default();
    let is_made_up = frame.created && header.cluster_id == 0 && header.revision == i64::MAX;
    let revisions = [if is_made_up { 0 } else { header.revision }, frame.compact_revision];
    if let Some(revision) = revisions.into_iter().find(|revision| !(0..i64::MAX).contains(revision)) {
        return assert_misbehaved(outcome, &ServerMisbehaved::InvalidRevision { revision });
    }
    if frame.fragment && frame.events.is_empty() {
        return assert_misbehaved(outcome, &ServerMisbehaved::EmptyFragment);
    }
    if frame.created {
        return assert_misbehaved(outcome, &ServerMisbehaved::UnexpectedCreated { watch_id });
    }
    let is_for_stream = watch_id == -1 && !frame.canceled && frame.events.is_empty();
    if watch_id != id && !is_for_stream {
        return assert_misbehaved(outcome, &ServerMisbehaved::UnknownWatchId { watch_id });
    }
    if frame.canceled {
        return check_end(frame, outcome);
    }
    if frame.events.is_empty() {
        if header.revision > 0 {
            let Outcome::Delivered(Delivery::Response(response)) = outcome else { panic!("{outcome:?}") };
            assert_eq!(response.kind(), ResponseKind::Progress);
            assert_header(response.header(), header);
            return;
        }
        return assert!(matches!(outcome, Outcome::Nothing), "{outcome:?} of {frame:?}");
    }
    match flaw_of(&frame.events) {
        Some(what) => assert_misbehaved(outcome, &what),
        None => check_events(frame, header, outcome),
    }
}

fn check_end(frame: &Frame, outcome: &Outcome) {
    let text = match outcome {
        Outcome::Delivered(Delivery::Closed(CloseReason::Compacted { compact_revision, .. })) => {
            return assert_eq!(*compact_revision, frame.compact_revision);
        }
        Outcome::Again | Outcome::Stream(StreamEnd::TokenExpired) => return,
        Outcome::Stream(StreamEnd::Unavailable { message })
        | Outcome::Delivered(Delivery::Closed(
            CloseReason::CancelledByServer { message }
            | CloseReason::PermissionDenied { message }
            | CloseReason::AuthenticationFailed { message },
        )) => message,
        other => panic!("{other:?} of {frame:?}"),
    };
    assert_eq!(frame.compact_revision, 0);
    assert_eq!(*text, frame.cancel_reason);
}

fn check_events(frame: &Frame, header: ResponseHeader, outcome: &Outcome) {
    let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
    let last = frame.events.last().map_or(0, revision);
    // Of a fragment the last revision is held back.
    let is_complete = |event: &&Event| !frame.fragment || revision(event) < last;
    let expected: Vec<&Event> = frame.events.iter().filter(is_complete).collect();
    let response = match outcome {
        Outcome::Delivered(Delivery::Response(response)) => response,
        Outcome::Nothing if expected.is_empty() => return,
        other => panic!("{other:?} of {frame:?}"),
    };
    assert_header(response.header(), header);
    assert_eq!(response.len(), expected.len());
    for (ours, theirs) in response.events().zip(expected) {
        let is_delete = theirs.r#type == mvccpb::event::EventType::Delete as i32;
        assert_eq!(ours.kind() == EventKind::Delete, is_delete, "{theirs:?}");
        assert_pair(Some(ours.kv()), Some(&theirs.kv.clone().unwrap_or_default()));
        assert_pair(ours.prev(), theirs.prev_kv.as_ref());
    }
}

fn assert_misbehaved(outcome: &Outcome, what: &ServerMisbehaved) {
    assert!(matches!(outcome, Outcome::Misbehaved(ours) if ours == what), "{outcome:?} rather than {what:?}");
}

fn assert_header(ours: Header, theirs: ResponseHeader) {
    let ResponseHeader { cluster_id, member_id, revision, raft_term } = theirs;
    assert_eq!(
        (ours.cluster_id, ours.member_id, ours.revision, ours.raft_term),
        (cluster_id, member_id, revision, raft_term)
    );
}

fn assert_pair(ours: Option<KeyValue<'_>>, theirs: Option<&mvccpb::KeyValue>) {
    let ours = ours.map(|kv| mvccpb::KeyValue {
        key: kv.key_bytes(),
        value: kv.value_bytes(),
        create_revision: kv.create_revision(),
        mod_revision: kv.mod_revision(),
        version: kv.version(),
        lease: kv.lease(),
    });
    assert_eq!(ours.as_ref(), theirs);
}

/// Why events can't be delivered to a watch of all keys, from revision 1 on.
fn flaw_of(events: &[Event]) -> Option<ServerMisbehaved> {
    let mut previous = 0;
    for event in events {
        let Some(kv) = &event.kv else { return Some(ServerMisbehaved::InvalidEvent) };
        let next = kv.mod_revision;
        let is_of_put = kv.version >= 0 && (1..=next).contains(&kv.create_revision);
        let is_lawful = match event.r#type {
            0 => is_of_put,
            1 => true,
            _ => false,
        };
        if kv.key.is_empty() || !(1..i64::MAX).contains(&next) || !is_lawful {
            return Some(ServerMisbehaved::InvalidEvent);
        }
        if next < previous {
            return Some(ServerMisbehaved::RevisionsBackwards { previous, next });
        }
        previous = next;
    }
    None
}

/// A machine with one running watch of all keys, from revision 1 on; its stream and the id on it.
fn running() -> (Watcher, StreamKey, i64, WatchKey) {
    let now = Instant::ZERO;
    let config = WatchConfig::default().progress_interval(None);
    let mut watcher = Watcher::new(config, 1).expect("a valid configuration");
    let request = WatchRequest::new(KeyRange::all()).start_revision(1).progress_notify(true);
    let watch = watcher.watch(now, request).expect("a valid request");
    let Some(Action::Open { stream, .. }) = watcher.poll_action() else { panic!("it wants a stream") };
    let version = Some(ServerVersion::new(3, 5, 30));
    watcher.handle_opened(now, stream, Opened { version, authenticated: false });
    let Some(Action::Send { request: Request::Create(create), .. }) = watcher.poll_action() else {
        panic!("it creates the watch")
    };
    let created = Frame { watch_id: create.watch_id, created: true, ..Frame::default() };
    watcher.handle_frame(now, stream, etcd_watch_core::Frame::decode(created.encode_to_vec().into()));
    assert_eq!(watcher.poll_action(), None);
    (watcher, stream, create.watch_id, watch)
}

/// The id of the watch that [`running`] makes, which is always the same.
fn watch_id() -> i64 {
    static ID: OnceLock<i64> = OnceLock::new();
    *ID.get_or_init(|| running().2)
}

/// What has to follow a message for it to be events or progress of a watch.
fn for_watch(id: i64) -> Vec<u8> {
    let mut suffix = Vec::new();
    prost::encoding::int64::encode(2, &id, &mut suffix);
    suffix.extend([0x18, 0, 0x20, 0]);
    suffix
}

fn outcome_of(bytes: &[u8]) -> (Outcome, i64) {
    let (mut watcher, stream, id, watch) = running();
    let now = Instant::ZERO;
    watcher.handle_frame(now, stream, etcd_watch_core::Frame::decode(Bytes::copy_from_slice(bytes)));
    let mut is_delivered = false;
    let mut outcome = Outcome::Nothing;
    while let Some(action) = watcher.poll_action() {
        match action {
            Action::Close { reason: StreamEnd::Misbehaved(what), .. } => outcome = Outcome::Misbehaved(what),
            Action::Close { reason, .. } => outcome = Outcome::Stream(reason),
            Action::Deliver { .. } => is_delivered = true,
            Action::Send { request: Request::Create(_), .. } => outcome = Outcome::Again,
            _ => {}
        }
    }
    if is_delivered {
        assert!(matches!(outcome, Outcome::Nothing), "{outcome:?}, and something is delivered");
        outcome = Outcome::Delivered(watcher.next(now, watch).expect("it was announced"));
    }
    (outcome, id)
}

/// Frames of every form to begin from.
pub(super) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let header = Some(ResponseHeader { cluster_id: 7, member_id: u64::MAX, revision: 300, raft_term: 2 });
    let kv = |key: &'static str, mod_revision| mvccpb::KeyValue {
        key: key.into(),
        value: "value".into(),
        create_revision: 3,
        mod_revision,
        version: 4,
        lease: -5,
    };
    let put = Event { kv: Some(kv("k", 290)), ..Event::default() };
    let delete = Event { r#type: 1, kv: Some(kv("k", 291)), prev_kv: Some(kv("k", 290)) };
    let events = Frame { header, events: vec![put.clone(), delete.clone()], ..Frame::default() };
    let end = Frame { header, watch_id: -1, canceled: true, cancel_reason: "why".into(), ..Frame::default() };
    let id = watch_id();
    let nested = |tags: &[u8], inner: Vec<u8>| {
        tags.iter().rev().fold(inner, |inner, &tag| {
            let mut bytes = vec![tag];
            prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
            [bytes, inner].concat()
        })
    };
    let groups = |levels| [vec![0x7b; levels], vec![0x78, 1], vec![0x7c; levels]].concat();
    vec![
        ("empty", Vec::new()),
        ("events", events.encode_to_vec()),
        ("fragment", Frame { fragment: true, ..events.clone() }.encode_to_vec()),
        ("progress", Frame { header, ..Frame::default() }.encode_to_vec()),
        ("created", Frame { header, created: true, watch_id: id, ..Frame::default() }.encode_to_vec()),
        ("refused", Frame { created: true, ..end.clone() }.encode_to_vec()),
        ("cancelled", Frame { watch_id: id, ..end.clone() }.encode_to_vec()),
        ("compacted", Frame { watch_id: id, compact_revision: 299, ..end }.encode_to_vec()),
        ("merged", [events.encode_to_vec(), Frame { header, ..Frame::default() }.encode_to_vec()].concat()),
        ("no-pair", Frame { events: vec![Event::default(), put], ..Frame::default() }.encode_to_vec()),
        (
            "unheard-of-kind",
            Frame { events: vec![Event { r#type: -7, ..delete }], ..Frame::default() }.encode_to_vec(),
        ),
        ("deep-groups", groups(100)),
        ("too-deep-groups", groups(101)),
        ("groups-in-header", nested(&[0x0a], groups(99))),
        ("groups-in-pair", nested(&[0x5a, 0x12], groups(98))),
        ("groups-in-previous-pair", nested(&[0x5a, 0x1a], groups(98))),
        ("long-varint", [&[0x10][..], &[0xff; 9], &[1]].concat()),
        ("too-long-varint", [&[0x10][..], &[0xff; 10], &[1]].concat()),
        ("varint-of-65-bits", [&[0x10][..], &[0xff; 9], &[2]].concat()),
        ("no-utf8", vec![0x32, 2, 0xff, 0xfe]),
        ("wrong-wire-type", vec![0x15, 1, 2, 3, 4]),
        ("truncated", vec![0x5a, 9, 0x12, 7, 0x0a]),
        (
            "longer-tags-and-lengths",
            vec![0x90, 0x80, 0, 5, 0xda, 0, 0x88, 0, 0x92, 0, 0x83, 0x80, 0, 0x8a, 0, 0],
        ),
        // An event whose pair has its fields backwards, behind the frame's last field but before the header.
        (
            "fields-out-of-order",
            vec![0x38, 1, 0x5a, 9, 0x12, 7, 0x18, 9, 0x10, 8, 0x0a, 1, b'k', 0x0a, 2, 0x18, 9],
        ),
        ("field-zero", vec![0x02, 0]),
        ("empty-events", [0x5a, 0x00].repeat(1500)),
        (
            "all-wire-types",
            vec![0xa0, 1, 5, 0xa1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0xa2, 1, 1, 9, 0xa5, 1, 1, 2, 3, 4],
        ),
    ]
}
