//! Messages in forms that etcd doesn't use and protobuf allows: other orders of fields, tags and numbers longer than
//! they have to be, numbers right before a message's end.

use super::*;

/// `value` as a varint of at least `len` bytes.
fn varint(value: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(value, &mut bytes);
    while bytes.len() < len {
        if let Some(last) = bytes.last_mut() {
            *last |= 0x80;
        }
        bytes.push(0);
    }
    bytes
}

/// Tags that lead into a message.
type Path = &'static [u8];

/// The messages of a frame, and the fields that each has.
const MESSAGES: [(Path, &[u8]); 5] = [
    (&[], &[0x0a, 0x10, 0x18, 0x20, 0x28, 0x32, 0x38, 0x5a]),
    (&[0x0a], &[0x08, 0x10, 0x18, 0x20]),
    (&[0x5a], &[0x08, 0x12, 0x1a]),
    (&[0x5a, 0x12], &[0x0a, 0x10, 0x18, 0x20, 0x2a, 0x30]),
    (&[0x5a, 0x1a], &[0x0a, 0x10, 0x18, 0x20, 0x2a, 0x30]),
];

/// A frame with `inner` in the message at `path`, and with more behind that message.
fn framed(path: Path, inner: &[u8]) -> Vec<u8> {
    let message = path.iter().rev().fold(inner.to_vec(), |inner, &tag| nest(tag, &inner));
    let after: &[u8] = if path.is_empty() { &[] } else { &[0x10, 0x85, 0x01, 0x38, 1] };
    [&message, after].concat()
}

/// Every field with a number, with a tag of one byte: known ones and the unknown field 15.
fn number_fields() -> impl Iterator<Item = (Path, u8)> {
    let is_number = |tag: &u8| tag & 7 == 0;
    MESSAGES.into_iter().flat_map(move |(path, tags)| {
        tags.iter().copied().filter(is_number).chain([0x78]).map(move |tag| (path, tag))
    })
}

#[test]
fn numbers_of_every_length_are_read_at_every_distance_from_the_end() {
    for (path, tag) in number_fields() {
        for len in 1..=10 {
            let lowest = 1 << (7 * (len - 1));
            let highest = if len == 10 { u64::MAX } else { (1 << (7 * len)) - 1 };
            for value in [0, 1, lowest, highest] {
                for fields_after in 0..6 {
                    let after = [0x78, 1].repeat(fields_after);
                    let inner = [vec![tag], varint(value, len), after].concat();
                    let bytes = framed(path, &inner);
                    assert!(same_as_prost(&bytes), "{bytes:02x?}");
                }
            }
        }
    }
}

#[test]
fn a_number_that_its_message_cuts_off_is_refused_whatever_follows() {
    for (path, tag) in number_fields() {
        for len in 1..=10 {
            let inner = [vec![tag], vec![0xff; len]].concat();
            let bytes = framed(path, &inner);
            assert!(!same_as_prost(&bytes), "{bytes:02x?}");
            // Within a message the number's rest is there, but the message has ended.
            for rest in 1..=10 {
                let mut bytes = framed(path, &inner);
                bytes.extend(vec![1; rest]);
                assert!(!same_as_prost(&bytes) || path.is_empty(), "{bytes:02x?}");
            }
        }
    }
}

#[test]
fn lengths_may_be_longer_than_they_have_to_be() {
    for (path, tags) in MESSAGES {
        for &tag in tags.iter().filter(|tag| **tag & 7 == 2).chain(&[0x7a]) {
            for content in [0, 3, 127, 128, 129, 200, 16_383, 16_384, 16_387].map(unknown_fields) {
                for len in 1..=10 {
                    let inner = [vec![tag], varint(content.len() as u64, len), content.clone()].concat();
                    assert!(same_as_prost(&framed(path, &inner)), "{path:02x?} {tag:02x} {len}");
                    let shorter = &inner[..inner.len() - 1];
                    assert!(!same_as_prost(&framed(path, shorter)), "{path:02x?} {tag:02x} {len}");
                }
            }
        }
    }
}

/// Unknown fields of so many bytes, which are text as well; not of one byte.
fn unknown_fields(len: usize) -> Vec<u8> {
    let odd: &[u8] = if len % 2 == 1 { &[0x7a, 1, b'x'] } else { &[] };
    [odd, &[0x78, 1].repeat((len - odd.len()) / 2)].concat()
}

#[test]
fn lengths_beyond_all_bounds_are_refused() {
    let lengths = [1, 127, 128, 16_384, u32::MAX.into(), 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX];
    for (path, tags) in MESSAGES {
        for &tag in tags.iter().filter(|tag| **tag & 7 == 2).chain(&[0x7a]) {
            for length in lengths {
                let inner = [vec![tag], varint(length, 1)].concat();
                assert!(!same_as_prost(&framed(path, &inner)), "{path:02x?} {tag:02x} {length}");
            }
        }
    }
    assert_eq!(decode(&[0x5a, 0x80, 0x80, 0x80]), Err(DecodeError::Truncated { at: 4 }));
    assert_eq!(decode(&[&[0x5a][..], &[0xff; 10]].concat()), Err(DecodeError::Varint { at: 1 }));
    assert_eq!(decode(&[&[0x5a][..], &[0xff; 9], &[1]].concat()), Err(DecodeError::Truncated { at: 11 }));
}

#[test]
fn tags_of_every_field_type_and_length_are_told_apart() {
    let mut accepted = 0;
    for (path, _) in MESSAGES {
        for field in (0..=20).chain([127, 128, 2047, 2048, 1 << 20, (1 << 29) - 1, 1 << 29, 1 << 40]) {
            for wire in 0..8 {
                let payload: &[u8] = match wire {
                    0 => &[7],
                    1 => &[0; 8],
                    3 => &[0x7c], // The end of field 15, a group.
                    5 => &[0; 4],
                    _ => &[0],
                };
                for len in 1..=10 {
                    let inner = [&varint(field << 3 | wire, len), payload].concat();
                    accepted += usize::from(same_as_prost(&framed(path, &inner)));
                }
            }
        }
    }
    assert!(accepted > 1000, "{accepted}");
}

#[test]
fn a_known_field_with_a_longer_tag_is_that_field() {
    for tag in [&[0x10][..], &[0x90, 0], &[0x90, 0x80, 0], &[0x90, 0x80, 0x80, 0x80, 0x80, 0]] {
        let bytes = [tag, &[5]].concat();
        assert_eq!(decode(&bytes).unwrap().watch_id, 5, "{bytes:02x?}");
    }
    let wrong_type = DecodeError::WireType { field: 2, at: 2 };
    assert_eq!(decode(&[0x92, 0, 0]), Err(wrong_type));
    assert_eq!(decode(&[0x80, 0]), Err(DecodeError::Tag { at: 0 }));
    assert_eq!(decode(&[&[0xff; 9][..], &[1]].concat()), Err(DecodeError::Tag { at: 0 }));
    assert_eq!(decode(&[0x90]), Err(DecodeError::Truncated { at: 1 }));
    assert_eq!(decode(&[0xff; 10]), Err(DecodeError::Varint { at: 0 }));
}

/// Some lawful fields of the message at `path`, in any order and form, as often as it comes.
fn fields(path: Path) -> BoxedStrategy<Vec<u8>> {
    let tags = MESSAGES.into_iter().find(|(known, _)| *known == path).map_or(&[][..], |(_, tags)| tags);
    let field = (prop::sample::select(tags).boxed(), 1..4_usize).prop_flat_map(move |(tag, tag_len)| {
        let payload = match (path, tag) {
            (_, tag) if tag & 7 == 0 => {
                (number(), 1..11_usize).prop_map(|(value, len)| varint(value as u64, len)).boxed()
            }
            (&[], 0x0a) => with_length(fields(&[0x0a])),
            (&[], 0x5a) => with_length(fields(&[0x5a])),
            (&[0x5a], 0x12) => with_length(fields(&[0x5a, 0x12])),
            (&[0x5a], 0x1a) => with_length(fields(&[0x5a, 0x1a])),
            // Keys, values, the cancel reason.
            _ => with_length(prop::collection::vec(0..0x80_u8, 0..140).boxed()),
        };
        payload.prop_map(move |payload| [varint(tag.into(), tag_len), payload].concat())
    });
    let unknown = (16..40_u64, 0..300_u64).prop_map(|(field, value)| {
        let tag = varint(field << 3, 1);
        [tag, varint(value, 1)].concat()
    });
    prop::collection::vec(prop_oneof![9 => field, 1 => unknown], 0..9)
        .prop_map(|parts| parts.concat())
        .boxed()
}

fn with_length(content: BoxedStrategy<Vec<u8>>) -> BoxedStrategy<Vec<u8>> {
    (content, 1..5_usize)
        .prop_map(|(content, len)| [varint(content.len() as u64, len), content].concat())
        .boxed()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn fields_in_any_order_and_form_decode_as_by_prost(bytes in fields(&[])) {
        prop_assert!(same_as_prost(&bytes));
    }

    #[test]
    fn damaged_frames_in_any_order_and_form_are_accepted_or_refused_as_by_prost(
        bytes in fields(&[]),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let mut bytes = bytes;
        for damage in damages {
            apply(&mut bytes, damage);
        }
        same_as_prost(&bytes);
    }

    #[test]
    fn the_index_has_little_room_to_spare_whatever_the_sizes(
        sizes in prop::collection::vec((prop_oneof![0..4_usize, 0..3000_usize], any::<bool>()), 0..200),
    ) {
        let event = |&(size, has_prev): &(usize, bool)| {
            let kv = KeyValue { value: vec![b'v'; size].into(), ..KeyValue::default() };
            Event { prev_kv: has_prev.then(|| kv.clone()), kv: Some(kv), ..Event::default() }
        };
        let events: Vec<Event> = sizes.iter().map(event).collect();
        let (count, prevs) = (events.len(), events.iter().filter(|event| event.prev_kv.is_some()).count());
        let bytes = WatchResponse { events, ..WatchResponse::default() }.encode_to_vec();
        prop_assert!(same_as_prost(&bytes));
        let frame = decode(&bytes).unwrap();
        prop_assert_eq!((frame.events.len(), frame.prevs.as_slice().len()), (count, prevs));
        prop_assert!(frame.events.capacity() <= count + SPARE.max(count / 8));
        prop_assert!(frame.prevs.capacity() <= prevs + SPARE.max(prevs / 8));
    }
}
