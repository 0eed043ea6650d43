//! What can be asked of responses, against the messages that they were received as.

use alloc::{format, vec};

use etcd_watch_proto::{etcdserverpb, mvccpb};
use prost::Message;

use super::*;
use crate::{EventKind, KeyValue};

/// A pair of key and value, with numbers that are all different.
pub(crate) fn pair(key: &'static str, value: &'static str, mod_revision: i64) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: key.into(),
        value: value.into(),
        create_revision: mod_revision - 1,
        mod_revision,
        version: 2,
        lease: 77,
    }
}

pub(crate) fn put(kv: mvccpb::KeyValue) -> mvccpb::Event {
    mvccpb::Event { kv: Some(kv), ..mvccpb::Event::default() }
}

/// The events as one frame brings them.
pub(crate) fn chunk(events: Vec<mvccpb::Event>) -> Chunk {
    let message = etcdserverpb::WatchResponse { events, ..Default::default() };
    Chunk::take(&mut Frame::decode(message.encode_to_vec().into()).unwrap())
}

fn response(events: Vec<mvccpb::Event>) -> WatchResponse {
    WatchResponse::events_of(chunk(events), Header::default())
}

/// Puts of keys in one frame, at these revisions.
fn at<const N: usize>(revisions: [i64; N]) -> Chunk {
    chunk(revisions.map(|revision| put(pair("key", "value", revision))).into())
}

fn assert_is(ours: KeyValue<'_>, theirs: &mvccpb::KeyValue) {
    assert_eq!((ours.key(), ours.value()), (&theirs.key[..], &theirs.value[..]));
    assert_eq!((ours.key_bytes(), ours.value_bytes()), (theirs.key.clone(), theirs.value.clone()));
    let numbers = [ours.create_revision(), ours.mod_revision(), ours.version(), ours.lease()];
    assert_eq!(numbers, [theirs.create_revision, theirs.mod_revision, theirs.version, theirs.lease]);
}

#[test]
fn an_event_tells_what_its_message_had() {
    let (before, after) = (pair("key", "before", 5), pair("key", "after", 9));
    let change = mvccpb::Event { prev_kv: Some(before.clone()), ..put(after.clone()) };
    let response = response(vec![change, put(pair("other", "", 9))]);
    let [change, other] = [0, 1].map(|index| response.events().nth(index).unwrap());
    assert_is(change.kv(), &after);
    assert_is(change.prev().unwrap(), &before);
    assert_eq!((change.key(), change.value()), (&b"key"[..], &b"after"[..]));
    let numbers = [change.create_revision(), change.mod_revision(), change.version(), change.lease()];
    assert_eq!(numbers, [8, 9, 2, 77]);
    assert_eq!((other.key(), other.prev()), (&b"other"[..], None));
    let text = format!("{response:?}");
    assert!(text.contains(r#"Put "key"@9 (5 bytes) was "key"@5 (6 bytes)"#), "{text}");
}

#[test]
fn a_put_of_a_key_that_was_not_there_is_a_create_and_nothing_else_is() {
    let created = mvccpb::KeyValue { create_revision: 9, ..pair("key", "value", 9) };
    let changed = pair("key", "value", 9);
    let deleted = mvccpb::KeyValue { create_revision: 0, ..created.clone() };
    let delete = |kv| mvccpb::Event { r#type: 1, ..put(kv) };
    let events = vec![put(created.clone()), put(changed), delete(deleted), delete(created)];
    let response = response(events);
    assert!(response.events().map(|event| event.is_create()).eq([true, false, false, false]));
    let kinds = [EventKind::Put, EventKind::Put, EventKind::Delete, EventKind::Delete];
    assert!(response.events().map(|event| event.kind()).eq(kinds));
}

#[test]
fn responses_are_the_same_if_they_deliver_the_same_however_it_was_received() {
    let (one, two) = (put(pair("a", "1", 5)), put(pair("b", "2", 6)));
    let whole = response(vec![one.clone(), two.clone()]);
    let mut parts = response(vec![one.clone()]);
    parts.append(response(vec![two.clone()]));
    assert_eq!(whole, parts);

    let kv = pair("b", "2", 6);
    let before = mvccpb::Event { prev_kv: Some(kv.clone()), ..two.clone() };
    let others = [
        put(mvccpb::KeyValue { key: "c".into(), ..kv.clone() }),
        put(mvccpb::KeyValue { value: "3".into(), ..kv.clone() }),
        put(mvccpb::KeyValue { create_revision: 1, ..kv.clone() }),
        put(mvccpb::KeyValue { version: 1, ..kv.clone() }),
        put(mvccpb::KeyValue { lease: 1, ..kv }),
        mvccpb::Event { r#type: 1, ..two },
        before,
    ];
    for other in others {
        assert_ne!(whole, response(vec![one.clone(), other.clone()]), "{other:?}");
    }
    assert_ne!(whole, response(vec![one]));

    let notice = |kind, member_id, resume_revision| {
        WatchResponse::notice(kind, Header { member_id, ..Header::default() }, resume_revision)
    };
    let progress = notice(ResponseKind::Progress, 1, 5);
    assert_eq!(progress, notice(ResponseKind::Progress, 1, 5));
    assert_ne!(progress, notice(ResponseKind::Created, 1, 5));
    assert_ne!(progress, notice(ResponseKind::Progress, 2, 5));
    assert_ne!(progress, notice(ResponseKind::Progress, 1, 6));
}

#[test]
fn responses_add_up() {
    let header = |revision| Header { revision, ..Header::default() };
    let parts = [at([5, 5]), at([6]), at([7, 8, 8]), at([9])];
    let bytes: usize = parts.iter().map(Chunk::bytes).sum();
    let [first, second, third, fourth] = parts;
    let mut front = WatchResponse::events_of(first, header(20));
    assert_eq!((front.len(), front.revision(), front.resume_revision()), (2, 5, 6));
    front.extend(second, header(21));
    assert_eq!((front.len(), front.revision(), front.header().revision), (3, 6, 21));
    let mut back = WatchResponse::events_of(third, header(22));
    back.extend(fourth, header(23));
    front.append(back);
    assert_eq!((front.len(), front.revision(), front.header().revision), (7, 9, 23));
    assert_eq!(front.memory_bytes(), bytes);
    assert!(front.events().map(|event| event.mod_revision()).eq([5, 5, 6, 7, 8, 8, 9]));
    front.append(WatchResponse::notice(ResponseKind::Progress, header(30), 26));
    assert_eq!((front.len(), front.revision(), front.header().revision), (7, 25, 30));
    assert!(!front.is_empty() && front.kind() == ResponseKind::Events);

    let notice = WatchResponse::notice(ResponseKind::Progress, header(30), 26);
    assert_eq!((notice.is_empty(), notice.len(), notice.memory_bytes()), (true, 0, 0));
    assert_eq!(notice.kind(), ResponseKind::Progress);
}

#[test]
fn a_chunk_counts_its_frame_and_its_index() {
    let before = |event: mvccpb::Event| mvccpb::Event { prev_kv: event.kv.clone(), ..event };
    let event = put(pair("key", "value", 5));
    let (without, with) = (chunk(vec![event.clone(); 3]), chunk(vec![before(event); 3]));
    let room = |chunk: &Chunk| chunk.events.capacity() + chunk.prevs.capacity();
    assert!(room(&without) >= 3 && room(&with) >= 6);
    for chunk in [&without, &with] {
        assert_eq!(chunk.bytes(), chunk.frame.len() + room(chunk) * INDEX_BYTES);
    }
    assert_eq!(without.events[0].kv.value.of(&without.frame), b"value");
}

#[test]
fn the_last_revision_is_split_off_and_both_parts_count_the_frame_that_they_hold() {
    let mut chunk = at([5, 6, 6, 7, 7, 7, 7]);
    assert_eq!((chunk.first_revision(), chunk.last_revision()), (5, 7));
    let whole = chunk.bytes();
    let last = chunk.split_last_revision().unwrap();
    assert_eq!((last.len(), last.first_revision()), (4, 7));
    assert_eq!(last.bytes(), chunk.frame.len() + last.events.capacity() * INDEX_BYTES);
    assert_eq!((chunk.len(), chunk.last_revision(), chunk.bytes()), (3, 6, whole));
    chunk.drop_first(1);
    assert_eq!((chunk.len(), chunk.first_revision()), (2, 6));
    assert!(chunk.split_last_revision().is_none());
}

#[test]
fn a_small_frame_is_copied_out_of_its_buffer_and_a_large_one_keeps_it() {
    for (len, is_copied) in [(COPIED_BELOW - 1, true), (COPIED_BELOW, false)] {
        let buffer = Bytes::from(vec![0; 2 * COPIED_BELOW]);
        let mut frame = Frame::default();
        frame.bytes = buffer.slice(..len);
        let chunk = Chunk::take(&mut frame);
        assert_eq!(chunk.frame.as_ptr() != buffer.as_ptr(), is_copied, "{len} bytes");
        assert_eq!((chunk.bytes(), chunk.frame), (len, buffer.slice(..len)));
    }
}

#[test]
fn a_prefix_is_left_out_of_keys_and_of_those_before_the_change() {
    let change = mvccpb::Event { prev_kv: Some(pair("n/a", "1", 4)), ..put(pair("n/a", "2", 5)) };
    let mut whole = response(vec![change, put(pair("n/bc", "3", 5))]);
    whole.append(response(vec![put(pair("n/d", "4", 6)), put(pair("n", "5", 6))]));
    let cut = whole.without_key_prefix(2);
    assert!(cut.events().map(|event| event.key()).eq([&b"a"[..], b"bc", b"d", b""]));
    assert!(cut.events().map(|event| event.value()).eq([&b"2"[..], b"3", b"4", b"5"]));
    assert_eq!(cut.events().next().unwrap().prev().map(|kv| kv.key()), Some(&b"a"[..]));
}
