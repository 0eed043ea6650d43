//! The readers of answers against prost.

use alloc::{format, vec, vec::Vec};

use etcd_watch_proto::{
    etcdserverpb::{RangeResponse, RangeStreamResponse, ResponseHeader, StatusResponse},
    mvccpb::KeyValue,
};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::{Code, Failure};

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(-1), 1..300_i64, any::<i64>()]
}

fn blob() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..10),
        1 => prop::collection::vec(any::<u8>(), 120..135),
    ]
    .prop_map(Bytes::from)
}

fn header() -> impl Strategy<Value = ResponseHeader> {
    (any::<u64>(), any::<u64>(), number(), any::<u64>()).prop_map(
        |(cluster_id, member_id, revision, raft_term)| ResponseHeader {
            cluster_id,
            member_id,
            revision,
            raft_term,
        },
    )
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

fn response() -> impl Strategy<Value = RangeResponse> {
    (prop::option::of(header()), prop::collection::vec(kv(), 0..5), any::<bool>(), number())
        .prop_map(|(header, kvs, more, count)| RangeResponse { header, kvs, more, count })
}

/// Bytes that are nearly a message: one or two in a row, with bytes changed, cut out or put in.
fn nearly(message: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Bytes> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 0..4);
    (prop::collection::vec(message, 1..3), edits).prop_map(|(messages, edits)| {
        let mut bytes = messages.concat();
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len() + 1);
            match edit {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes.into()
    })
}

/// A page as prost would have it.
fn expand(page: &Page) -> RangeResponse {
    let kv = |kv: crate::KeyValue<'_>| KeyValue {
        key: kv.key_bytes(),
        value: kv.value_bytes(),
        create_revision: kv.create_revision(),
        mod_revision: kv.mod_revision(),
        version: kv.version(),
        lease: kv.lease(),
    };
    let header =
        ResponseHeader { revision: page.revision, cluster_id: page.cluster_id, ..Default::default() };
    RangeResponse {
        header: Some(header),
        kvs: page.kvs.iter().map(kv).collect(),
        more: page.more,
        count: page.count,
    }
}

/// Holds both readers against prost; whether the bytes were accepted.
fn same_as_prost(bytes: &Bytes) -> bool {
    match (Page::decode(bytes), RangeResponse::decode(&bytes[..])) {
        (Ok(page), Ok(mut theirs)) => {
            let header = theirs.header.get_or_insert_default();
            (header.member_id, header.raft_term) = (0, 0);
            let mod_revision = theirs.kvs.iter().map(|kv| kv.mod_revision).max().unwrap_or(0).max(0);
            let done = RangeDone { revision: header.revision, cluster_id: header.cluster_id, mod_revision };
            assert_eq!(expand(&page), theirs, "{bytes:02x?}");
            assert_eq!(RangeDone::decode(bytes), Ok(done), "{bytes:02x?}");
            true
        }
        (Err(_), Err(_)) => false,
        (ours, theirs) => panic!("ours {ours:?}\nprost {theirs:?}\nof {bytes:02x?}"),
    }
}

/// Holds the reader of a stream's messages against prost.
fn same_chunk_as_prost(bytes: &Bytes) {
    match (Page::decode_chunk(bytes), RangeStreamResponse::decode(&bytes[..])) {
        (Ok(chunk), Ok(theirs)) => {
            let mut theirs = theirs.range_response.unwrap_or_default();
            let header = theirs.header.get_or_insert_default();
            (header.member_id, header.raft_term) = (0, 0);
            assert_eq!(expand(&chunk), theirs, "{bytes:02x?}");
        }
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("ours {ours:?}\nprost {theirs:?}\nof {bytes:02x?}"),
    }
}

proptest! {
    #[test]
    fn messages_of_a_stream_are_read_as_by_prost(
        range_response in prop::option::of(response()), bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        same_chunk_as_prost(&RangeStreamResponse { range_response }.encode_to_vec().into());
        same_chunk_as_prost(&bytes.into());
    }

    #[test]
    fn damaged_messages_of_a_stream_are_taken_and_refused_as_by_prost(
        bytes in nearly(response().prop_map(|response| {
            RangeStreamResponse { range_response: Some(response) }.encode_to_vec()
        })),
    ) {
        same_chunk_as_prost(&bytes);
    }

    #[test]
    fn range_responses_are_read_as_by_prost(response in response()) {
        prop_assert!(same_as_prost(&response.encode_to_vec().into()));
    }

    #[test]
    fn damaged_range_responses_are_taken_and_refused_as_by_prost(
        bytes in nearly(response().prop_map(|response| response.encode_to_vec())),
    ) {
        same_as_prost(&bytes);
    }

    #[test]
    fn any_bytes_are_taken_and_refused_as_by_prost(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        same_as_prost(&bytes.into());
    }

    /// Only the version is looked at, so more is taken than prost takes; what prost takes is read the same.
    #[test]
    fn the_version_is_read_as_by_prost(
        bytes in nearly(
            (prop::option::of(header()), "3\\.[0-9]{1,2}\\.[0-9]{1,2}|[a-z]{0,3}", number()).prop_map(
                |(header, version, db_size)| {
                    StatusResponse { header, version, db_size, ..Default::default() }.encode_to_vec()
                },
            ),
        ),
    ) {
        let ours = decode_version(&bytes);
        if let Ok(theirs) = StatusResponse::decode(&bytes[..]) {
            prop_assert_eq!(ours, Ok(theirs.version.parse().ok()));
        }
    }
}

#[test]
fn keys_and_values_are_slices_of_the_message() {
    let kv = KeyValue { key: "key".into(), value: "value".into(), ..Default::default() };
    let bytes = Bytes::from(RangeResponse { kvs: vec![kv], ..Default::default() }.encode_to_vec());
    let page = Page::decode(&bytes).unwrap();
    let within = bytes.as_ptr_range();
    let kv = page.kvs.first().unwrap();
    for slice in [kv.key(), kv.value()] {
        assert!(within.contains(&slice.as_ptr()));
    }
}

#[test]
fn the_edges_of_protobuf() {
    let deep = |groups: usize| Bytes::from([vec![0x7b; groups], vec![0x7c; groups]].concat());
    for (bytes, accepted) in [
        (Bytes::new(), true),
        // A field that comes twice: headers are merged, of a flag the last counts.
        (Bytes::from_static(b"\x0a\x02\x08\x05\x0a\x02\x18\x07\x18\x01\x18\x00"), true),
        // Unknown fields of every wire type.
        (Bytes::from_static(b"\x78\x01\x79\0\0\0\0\0\0\0\0\x7a\x01x\x7d\0\0\0\0\x7b\x78\x01\x7c"), true),
        // A group that ends under another number, or never, or was never begun.
        (Bytes::from_static(b"\x7b\x74"), false),
        (Bytes::from_static(b"\x7b"), false),
        (Bytes::from_static(b"\x7c"), false),
        // Numbers of ten bytes: 64 bits, and more.
        (Bytes::from_static(b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), true),
        (Bytes::from_static(b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), false),
        // Field number 0, a tag of more than 32 bits, a wire type that protobuf doesn't have.
        (Bytes::from_static(b"\x00\x01"), false),
        (Bytes::from_static(b"\xf8\xff\xff\xff\xff\x01\x01"), false),
        (Bytes::from_static(b"\x26"), false),
        // A known field of another type, a length that goes beyond the end or beyond what there can be.
        (Bytes::from_static(b"\x22\x00"), false),
        (Bytes::from_static(b"\x12\x05\x0a\x01k"), false),
        (Bytes::from_static(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), false),
        (deep(100), true),
        (deep(101), false),
    ] {
        assert_eq!(same_as_prost(&bytes), accepted, "{bytes:02x?}");
    }
}

#[test]
fn a_response_of_empty_pairs_is_refused() {
    let pairs = |count: usize| Page::decode(&b"\x12\0".repeat(count).into());
    assert_eq!(pairs(1024).map(|page| page.kvs.len()), Ok(1024));
    // What a response of that size has room for grows with it.
    assert_eq!(pairs(1365).map(|page| page.kvs.len()), Ok(1365));
    assert_eq!(pairs(1366), Err(DecodeError::EmptyPairs));
}

#[test]
fn a_version_that_is_none_is_not_known() {
    assert_eq!(decode_version(b""), Ok(None));
    assert_eq!(decode_version(b"\x12\x02\xff\xff"), Ok(None));
    assert_eq!(decode_version(b"\x12\x063.5.30\x12\x053.6.0"), Ok(Some(ServerVersion::new(3, 6, 0))));
    assert_eq!(decode_version(b"\x10\x01"), Err(DecodeError::WireType { field: 2, at: 1 }));
}

#[test]
fn a_response_that_cannot_be_decoded_is_a_failure() {
    let failure = Failure::from(RangeDone::decode(b"\x0a").unwrap_err());
    assert!(matches!(failure, Failure::Status { code: Code::Internal, .. }), "{failure:?}");
    assert_eq!(format!("{failure}"), "Internal: the response can't be decoded: truncated at byte 1");
}
