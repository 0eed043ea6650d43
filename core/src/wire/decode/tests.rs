//! The decoder against prost.

use alloc::{string::String, vec, vec::Vec};

use bytes::Bytes;
use etcd_watch_proto::{
    etcdserverpb::{ResponseHeader, WatchResponse},
    mvccpb::{Event, KeyValue},
};
use proptest::prelude::*;
use prost::Message;

use super::*;

fn decode(bytes: &[u8]) -> Result<Frame, DecodeError> {
    Frame::decode(Bytes::copy_from_slice(bytes))
}

extern crate std;

mod forms;
mod room;

/// The frame as prost would have it.
fn expand(frame: &Frame, bytes: &[u8], has_header: bool) -> WatchResponse {
    let kv = |kv: &KvIndex| KeyValue {
        key: Bytes::copy_from_slice(kv.key.of(bytes)),
        value: Bytes::copy_from_slice(kv.value.of(bytes)),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    };
    let event = |event: &EventIndex| Event {
        r#type: event.kind,
        kv: Some(kv(&event.kv)),
        prev_kv: frame.prevs.as_slice().get(event.prev as usize).map(kv),
    };
    let Header { cluster_id, member_id, revision, raft_term } = frame.header;
    WatchResponse {
        header: has_header.then_some(ResponseHeader { cluster_id, member_id, revision, raft_term }),
        watch_id: frame.watch_id,
        created: frame.created,
        canceled: frame.canceled,
        compact_revision: frame.compact_revision,
        cancel_reason: String::from_utf8(frame.cancel_reason.of(bytes).to_vec()).unwrap(),
        fragment: frame.fragment,
        events: frame.events.iter().map(event).collect(),
    }
}

/// Holds the decoder against prost; whether the bytes were accepted.
fn same_as_prost(bytes: &[u8]) -> bool {
    match (decode(bytes), WatchResponse::decode(bytes)) {
        (Ok(ours), Ok(mut theirs)) => {
            // The index doesn't tell a pair that is missing from one that is empty.
            for event in &mut theirs.events {
                event.kv.get_or_insert_default();
            }
            assert_eq!(expand(&ours, bytes, theirs.header.is_some()), theirs, "{bytes:02x?}");
            assert!(ours.prevs.as_slice().len() <= ours.events.len());
            true
        }
        (Err(_), Err(_)) => false,
        (ours, theirs) => panic!("ours {ours:?}\nprost {theirs:?}\nof {bytes:02x?}"),
    }
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(-1), 1..300_i64, any::<i64>()]
}

fn blob() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::collection::vec(any::<u8>(), 120..140),
    ]
    .prop_map(Bytes::from)
}

fn kv() -> impl Strategy<Value = KeyValue> {
    (blob(), blob(), number(), number(), number(), number()).prop_map(
        |(key, value, create_revision, mod_revision, version, lease)| KeyValue {
            key,
            create_revision,
            mod_revision,
            version,
            value,
            lease,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![4 => 0..2, 1 => any::<i32>()];
    (kind, prop::option::weighted(0.9, kv()), prop::option::of(kv())).prop_map(|(kind, kv, prev_kv)| Event {
        r#type: kind,
        kv,
        prev_kv,
    })
}

fn response() -> impl Strategy<Value = WatchResponse> {
    let header = (any::<u64>(), any::<u64>(), number(), any::<u64>()).prop_map(
        |(cluster_id, member_id, revision, raft_term)| ResponseHeader {
            cluster_id,
            member_id,
            revision,
            raft_term,
        },
    );
    let flags = any::<[bool; 3]>();
    let reason = prop_oneof![Just(String::new()), ".{0,12}"];
    let events = prop::collection::vec(event(), 0..6);
    (prop::option::of(header), number(), flags, number(), reason, events).prop_map(
        |(header, watch_id, [created, canceled, fragment], compact_revision, cancel_reason, events)| {
            WatchResponse {
                header,
                watch_id,
                created,
                canceled,
                compact_revision,
                cancel_reason,
                fragment,
                events,
            }
        },
    )
}

/// Bytes that look like protobuf: tags that are known and not, of every wire type, nested.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![8 => 0..12_u32, 1 => Just(20), 1 => any::<u32>().prop_map(|n| n >> 3)];
    let leaf =
        (field, 0..8_u8, prop::collection::vec(any::<u8>(), 0..12)).prop_map(|(field, wire, payload)| {
            let mut bytes = Vec::new();
            prost::encoding::encode_varint(u64::from(field << 3) | u64::from(wire), &mut bytes);
            match wire {
                0 => prost::encoding::encode_varint(payload.len() as u64 * 77, &mut bytes),
                1 => bytes.extend([1; 8]),
                2 => {
                    prost::encoding::encode_varint(payload.len() as u64, &mut bytes);
                    bytes.extend(payload);
                }
                5 => bytes.extend([2; 4]),
                _ => {}
            }
            bytes
        });
    let fields = prop::collection::vec(leaf, 0..5).prop_map(|parts| parts.concat());
    fields.prop_recursive(4, 32, 4, |inner| {
        prop::collection::vec((prop_oneof![Just(1), Just(2), Just(3), Just(11), Just(20)], inner), 0..4)
            .prop_map(|parts: Vec<(u32, Vec<u8>)>| {
                let mut bytes = Vec::new();
                for (field, inner) in parts {
                    if field == 20 {
                        let tag = |wire: u64, bytes: &mut Vec<u8>| {
                            prost::encoding::encode_varint(20 << 3 | wire, bytes);
                        };
                        tag(3, &mut bytes);
                        bytes.extend(inner);
                        tag(4, &mut bytes);
                    } else {
                        prost::encoding::encode_varint(u64::from(field << 3 | 2), &mut bytes);
                        prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
                        bytes.extend(inner);
                    }
                }
                bytes
            })
    })
}

#[derive(Clone, Debug)]
enum Damage {
    Truncate(prop::sample::Index),
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index),
    Append(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    let bytes = || prop::collection::vec(any::<u8>(), 1..12);
    prop_oneof![
        index().prop_map(Damage::Truncate),
        (index(), 1..=255_u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        (index(), bytes()).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        index().prop_map(Damage::Remove),
        bytes().prop_map(Damage::Append),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: Damage) {
    match damage {
        Damage::Truncate(at) => bytes.truncate(at.index(bytes.len() + 1)),
        Damage::Insert(at, new) => {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, new);
        }
        Damage::Append(new) => bytes.extend(new),
        Damage::Flip(..) | Damage::Remove(_) if bytes.is_empty() => {}
        Damage::Flip(at, bits) => {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        Damage::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
    }
}

/// The same cases in every run; `PROPTEST_RNG_SEED` chooses others.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) };
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = proptest::test_runner::RngSeed::Fixed(7);
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_prost_encodes_decodes_to_the_same(response in response()) {
        prop_assert!(same_as_prost(&response.encode_to_vec()));
    }

    #[test]
    fn two_messages_in_a_row_merge_as_in_prost(first in response(), second in response()) {
        prop_assert!(same_as_prost(&[first.encode_to_vec(), second.encode_to_vec()].concat()));
    }

    #[test]
    fn damaged_frames_are_accepted_or_refused_as_by_prost(
        response in response(),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let mut bytes = response.encode_to_vec();
        for damage in damages {
            apply(&mut bytes, damage);
        }
        same_as_prost(&bytes);
    }

    #[test]
    fn protobuf_of_no_schema_is_accepted_or_refused_as_by_prost(bytes in soup()) {
        same_as_prost(&bytes);
    }

    #[test]
    fn random_bytes_are_accepted_or_refused_as_by_prost(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        same_as_prost(&bytes);
    }
}

/// `levels` unknown groups in each other, with a varint in the innermost if asked for.
fn groups(levels: usize, with_field: bool) -> Vec<u8> {
    let open = vec![0x7b; levels]; // Field 15, start of a group.
    let field: &[u8] = if with_field { &[0x78, 1] } else { &[] };
    [open, field.to_vec(), vec![0x7c; levels]].concat()
}

/// `inner` as field `tag >> 3` of a message.
fn nest(tag: u8, inner: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
    [bytes, inner.to_vec()].concat()
}

#[test]
fn a_frame_has_room_for_one_event_and_a_response_is_a_pointer() {
    // A response is moved often. A frame is not; with one event it allocates nothing.
    let event = size_of::<EventIndex>();
    assert!(size_of::<Frame>() <= 112 + event, "{} bytes", size_of::<Frame>());
    assert_eq!(size_of::<crate::WatchResponse>(), size_of::<usize>());
}

#[test]
fn unknown_groups_may_nest_as_deep_as_in_prost_and_no_deeper() {
    let mut accepted = 0;
    for levels in 96..104 {
        for with_field in [false, true] {
            let groups = groups(levels, with_field);
            let in_header = nest(0x0a, &groups);
            let in_event = nest(0x5a, &groups);
            let in_kv = nest(0x5a, &nest(0x12, &groups));
            let in_prev = nest(0x5a, &nest(0x1a, &groups));
            for bytes in [&groups, &in_header, &in_event, &in_kv, &in_prev] {
                accepted += usize::from(same_as_prost(bytes));
            }
        }
    }
    assert!(accepted > 0 && accepted < 80, "{accepted} of 80: both sides of the limit are covered");
}

#[test]
fn a_varint_may_have_ten_bytes_and_64_bits() {
    let varint = |last: u8| [&[0x10][..], &[0xff; 9], &[last]].concat();
    assert!(same_as_prost(&varint(1)));
    assert!(!same_as_prost(&varint(2)), "65 bits");
    assert!(!same_as_prost(&varint(0x80)), "eleven bytes");
    assert!(matches!(decode(&varint(2)), Err(DecodeError::Varint { at: 1 })));
    assert!(matches!(decode(&[0x10, 0x80]), Err(DecodeError::Truncated { at: 2 })));
    let endless = |bytes: usize| [vec![0x10], vec![0x80; bytes]].concat();
    assert_eq!(decode(&endless(9)), Err(DecodeError::Truncated { at: 10 }), "the tenth may still come");
    assert_eq!(decode(&endless(10)), Err(DecodeError::Varint { at: 1 }));
}

#[test]
fn a_span_that_is_cut_begins_later_and_may_be_cut_to_nothing() {
    let frame = b"namespace/key";
    let mut span = Span { start: 0, len: frame.len() as u32 };
    span.cut(10);
    assert_eq!(span.of(frame), b"key");
    span.cut(1);
    assert_eq!(span.of(frame), b"ey");
    span.cut(usize::MAX);
    assert!(span.is_empty() && span.of(frame).is_empty());
}

#[test]
fn unknown_fields_are_passed_over_whatever_their_type() {
    let unknown: [&[u8]; 4] =
        [&[0x78, 0x81, 0x01], &[0x79, 1, 2, 3, 4, 5, 6, 7, 8], &[0x7a, 2, 1, 2], &[0x7d, 1, 2, 3, 4]];
    for unknown in unknown {
        let bytes = [unknown, &[0x10, 5]].concat();
        assert!(same_as_prost(&bytes), "{bytes:02x?}");
        assert_eq!(decode(&bytes).unwrap().watch_id, 5, "{bytes:02x?}");
    }
    // A group that ends as another one.
    assert!(!same_as_prost(&[0x7b, 0x74]));
}

#[test]
fn errors_say_what_is_wrong() {
    assert_eq!(decode(&[0x5a, 5, 0]), Err(DecodeError::Truncated { at: 3 }));
    assert_eq!(decode(&[0x12, 0]), Err(DecodeError::WireType { field: 2, at: 1 }));
    assert_eq!(decode(&[0x32, 1, 0xff]), Err(DecodeError::Utf8));
    assert_eq!(decode(&[0x00]), Err(DecodeError::Tag { at: 0 }));
    assert_eq!(decode(&[0x02, 0]), Err(DecodeError::Tag { at: 0 }), "there is no field 0 of any type");
}

#[test]
fn the_index_has_the_size_that_the_first_event_suggests() {
    let event = |value: &'static [u8]| Event {
        kv: Some(KeyValue { key: "key".into(), value: value.into(), ..KeyValue::default() }),
        ..Event::default()
    };
    let index_of = |events: Vec<Event>| {
        let frame = decode(&WatchResponse { events, ..WatchResponse::default() }.encode_to_vec()).unwrap();
        (frame.events.len(), frame.events.capacity())
    };
    assert_eq!(index_of(vec![event(&[1; 60]); 100]), (100, 100));
    // A guess that is a little too high stays, one that is much too high doesn't.
    assert_eq!(index_of([vec![event(&[1; 60])], vec![event(&[1; 140]); 4]].concat()), (5, 9));
    assert_eq!(index_of([vec![event(&[1; 60])], vec![event(&[1; 2000]); 4]].concat()), (5, 5));
    // Neither does one that was too low.
    assert_eq!(index_of([vec![event(&[1; 2000])], vec![event(&[1; 60]); 99]].concat()), (100, 100));
}

#[test]
fn a_frame_keeps_the_received_buffer() {
    let bytes = Bytes::from([&[0x32, 3][..], b"why", &[0x20, 1]].concat());
    let frame = Frame::decode(bytes.clone()).unwrap();
    assert_eq!((frame.bytes.as_ptr(), frame.bytes.len()), (bytes.as_ptr(), 7));
    assert_eq!(frame.cancel_reason(), "why");
    assert_eq!(decode(&[0x20, 1]).unwrap().cancel_reason(), "");
}

#[test]
fn a_frame_of_empty_events_is_refused_before_it_is_indexed() {
    let empty = [0x5a, 0x00];
    assert_eq!(decode(&empty.repeat(1000)).unwrap().events.len(), 1000);
    assert_eq!(decode(&empty.repeat(1_000_000)), Err(DecodeError::EmptyEvents));
    // Of two bytes each: as many as there is room for, and the slack.
    let most = EVENTS_SLACK * SMALLEST_EVENT / (SMALLEST_EVENT - 2);
    assert_eq!(decode(&empty.repeat(most)).unwrap().events.len(), most);
    assert_eq!(decode(&empty.repeat(most + 1)), Err(DecodeError::EmptyEvents));
    let event = Event {
        kv: Some(KeyValue { key: "k".into(), mod_revision: 1, ..KeyValue::default() }),
        ..Event::default()
    };
    let smallest = WatchResponse { events: vec![event; 100_000], ..WatchResponse::default() };
    assert_eq!(decode(&smallest.encode_to_vec()).unwrap().events.len(), 100_000);
}
