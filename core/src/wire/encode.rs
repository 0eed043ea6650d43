//! Requests as etcd's protobuf messages.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    call::Method,
    messages::{PREFIX_BYTES, prefix},
};
use crate::{CreateRequest, KeyRange, ListRequest, Request};
use sealed::{Fields, Sink};

/// A request that can be put on the wire: etcd's message of that name, byte for byte as a protobuf library
/// encodes it.
///
/// Implemented by [`Request`] (`WatchRequest`), [`ListRequest`], [`ListStreamRequest`] and [`RevisionRequest`]
/// (`RangeRequest`), and [`StatusRequest`]; nothing else can implement it.
///
/// ```
/// use etcd_watch_core::{Request, wire::Encode};
///
/// assert_eq!(Request::Progress.to_bytes(), &b"\x1a\0"[..]);
/// assert_eq!(Request::Progress.to_frame(), &b"\0\0\0\0\x02\x1a\0"[..]);
/// ```
pub trait Encode: Fields {
    /// The call it is sent by.
    const METHOD: Method;

    /// The message's size in bytes, without gRPC's prefix.
    fn encoded_len(&self) -> usize {
        let mut length = Length(0);
        self.fields(&mut length);
        length.0
    }

    /// Appends the message, without gRPC's prefix.
    ///
    /// # Panics
    /// As [`BufMut`] does, where `to` can't grow and has less room than [`encoded_len`](Self::encoded_len).
    fn encode(&self, to: &mut impl BufMut) {
        self.fields(&mut To(to));
    }

    /// Appends the message with gRPC's prefix: several requests can go into one buffer, and so into one DATA
    /// frame.
    ///
    /// # Panics
    /// As [`encode`](Self::encode) does.
    fn encode_frame(&self, to: &mut impl BufMut) {
        to.put_slice(&prefix(self.encoded_len()));
        self.encode(to);
    }

    /// The message, without gRPC's prefix.
    #[must_use]
    fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut bytes);
        bytes.freeze()
    }

    /// The message with gRPC's prefix, as it goes into a DATA frame.
    #[must_use]
    fn to_frame(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + self.encoded_len());
        self.encode_frame(&mut bytes);
        bytes.freeze()
    }
}

/// The read that [`Action::Range`](crate::Action::Range) asks for, linearizable and of limit 1. Either it only counts,
/// since the answer's header alone matters; or it is for one key, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionRequest {
    /// The keys that the user must be allowed to read.
    pub keys: KeyRange,
    /// 0 to count them. Otherwise one of those is asked for that were put at this revision or later, without its value.
    pub min_mod_revision: i64,
}

/// A list read by a stream (`KV.RangeStream` of etcd 3.7): all that is left of the range, whatever the page's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListStreamRequest<'a>(pub &'a ListRequest);

/// Maintenance `Status`: asks a member for its version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusRequest;

impl Encode for Request {
    const METHOD: Method = Method::Watch;
}

impl Encode for ListRequest {
    const METHOD: Method = Method::Range;
}

impl Encode for ListStreamRequest<'_> {
    const METHOD: Method = Method::RangeStream;
}

impl Encode for RevisionRequest {
    const METHOD: Method = Method::Range;
}

impl Encode for StatusRequest {
    const METHOD: Method = Method::Status;
}

/// Sealed, so that a message's fields are listed once, for its length and its bytes.
#[expect(unnameable_types, reason = "the traits are sealed")]
mod sealed {
    use crate::wire::reader::{bytes_tag, varint_tag};

    /// A message, as the list of its fields.
    pub trait Fields {
        /// Hands every field over, in the order of their numbers.
        fn fields(&self, to: &mut impl Sink);
    }

    /// What fields are handed to. A field at its default is left out, as proto3 has it.
    pub trait Sink {
        fn slice(&mut self, bytes: &[u8]);

        fn varint(&mut self, mut value: u64) {
            let mut bytes = [0; 10];
            let mut length = 0;
            loop {
                bytes[length] = value as u8 & 0x7f;
                value >>= 7;
                length += 1;
                if value == 0 {
                    break;
                }
                bytes[length - 1] |= 0x80;
            }
            self.slice(&bytes[..length]);
        }

        fn int64(&mut self, field: u32, value: i64) {
            if value != 0 {
                self.varint(varint_tag(field).into());
                // Two's complement on the wire.
                self.varint(value as u64);
            }
        }

        fn bool(&mut self, field: u32, value: bool) {
            self.int64(field, value.into());
        }

        fn bytes(&mut self, field: u32, value: &[u8]) {
            if !value.is_empty() {
                self.varint(bytes_tag(field).into());
                self.varint(value.len() as u64);
                self.slice(value);
            }
        }

        /// A message within the message: written even where it is empty, since that it is there says something.
        fn message(&mut self, field: u32, message: &impl Fields)
        where
            Self: Sized,
        {
            let mut length = super::Length(0);
            message.fields(&mut length);
            self.varint(bytes_tag(field).into());
            self.varint(length.0 as u64);
            message.fields(self);
        }
    }
}

/// Counts.
struct Length(usize);

impl Sink for Length {
    fn slice(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// Writes.
struct To<'a, B>(&'a mut B);

impl<B: BufMut> Sink for To<'_, B> {
    fn slice(&mut self, bytes: &[u8]) {
        self.0.put_slice(bytes);
    }
}

impl Fields for Request {
    fn fields(&self, to: &mut impl Sink) {
        match self {
            Self::Create(create) => to.message(1, create),
            &Self::Cancel { watch_id } => to.message(2, &Cancel { watch_id }),
            Self::Progress => to.message(3, &Progress),
        }
    }
}

/// etcd's `FilterType`.
const NO_PUT: u8 = 0;
const NO_DELETE: u8 = 1;

impl Fields for CreateRequest {
    fn fields(&self, to: &mut impl Sink) {
        to.bytes(1, self.range.start());
        to.bytes(2, self.range.end());
        to.int64(3, self.start_revision);
        to.bool(4, self.progress_notify);
        let filters: &[u8] = match (self.filters.no_put, self.filters.no_delete) {
            (true, true) => &[NO_PUT, NO_DELETE],
            (true, false) => &[NO_PUT],
            (false, true) => &[NO_DELETE],
            (false, false) => &[],
        };
        // A packed list of numbers below 128 is on the wire as these bytes are.
        to.bytes(5, filters);
        to.bool(6, self.prev_kv);
        to.int64(7, self.watch_id);
        to.bool(8, self.fragment);
    }
}

/// etcd's `WatchCancelRequest`.
struct Cancel {
    watch_id: i64,
}

impl Fields for Cancel {
    fn fields(&self, to: &mut impl Sink) {
        to.int64(1, self.watch_id);
    }
}

/// etcd's `WatchProgressRequest`.
struct Progress;

impl Fields for Progress {
    fn fields(&self, _: &mut impl Sink) {}
}

impl Fields for RevisionRequest {
    fn fields(&self, to: &mut impl Sink) {
        to.bytes(1, self.keys.start());
        to.bytes(2, self.keys.end());
        to.int64(3, 1);
        to.bool(8, self.min_mod_revision != 0);
        to.bool(9, self.min_mod_revision == 0);
        to.int64(10, self.min_mod_revision);
    }
}

impl Fields for ListRequest {
    /// Without an order: that is ascending by key, as etcd stores them, and spares the server the sorting.
    fn fields(&self, to: &mut impl Sink) {
        list(self, self.limit, to);
    }
}

impl Fields for ListStreamRequest<'_> {
    fn fields(&self, to: &mut impl Sink) {
        list(self.0, 0, to);
    }
}

fn list(request: &ListRequest, limit: usize, to: &mut impl Sink) {
    to.bytes(1, request.range.start());
    to.bytes(2, request.range.end());
    to.int64(3, i64::try_from(limit).unwrap_or(i64::MAX));
    to.int64(4, request.revision);
    to.bool(8, request.keys_only);
}

impl Fields for StatusRequest {
    fn fields(&self, _: &mut impl Sink) {}
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use etcd_watch_proto::etcdserverpb::{
        self as pb, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
        watch_create_request::FilterType, watch_request::RequestUnion,
    };
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::{EndpointHint, Filters};

    /// Holds the bytes against prost's, in every form they come in.
    fn same_as_prost(ours: &impl Encode, theirs: &impl Message) {
        let expected = theirs.encode_to_vec();
        assert_eq!(ours.to_bytes(), expected);
        assert_eq!(ours.encoded_len(), expected.len());
        assert_eq!(ours.to_frame(), super::super::frame(&expected));
        let mut appended = Vec::from(&b"before"[..]);
        ours.encode(&mut appended);
        ours.encode_frame(&mut appended);
        assert_eq!(appended, [b"before", &expected[..], &ours.to_frame()].concat());
    }

    fn keys() -> impl Strategy<Value = KeyRange> {
        let key = || {
            prop_oneof![
                4 => prop::collection::vec(any::<u8>(), 0..10),
                1 => prop::collection::vec(any::<u8>(), 120..135),
            ]
        };
        (0..4, key(), key()).prop_map(|(kind, a, b)| match kind {
            0 => KeyRange::key(a),
            1 => KeyRange::prefix(a),
            2 => KeyRange::from_key(a),
            _ => KeyRange::range(a, b).unwrap_or_else(|_| KeyRange::all()),
        })
    }

    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![Just(0), Just(1), 100..300_i64, any::<i64>()]
    }

    fn create() -> impl Strategy<Value = CreateRequest> {
        (keys(), number(), number(), any::<[bool; 5]>()).prop_map(|(range, start_revision, watch_id, on)| {
            let [progress_notify, no_put, no_delete, prev_kv, fragment] = on;
            let filters = Filters { no_put, no_delete };
            CreateRequest { range, start_revision, progress_notify, filters, prev_kv, watch_id, fragment }
        })
    }

    fn prost_create(create: &CreateRequest) -> WatchCreateRequest {
        let no_put = create.filters.no_put.then_some(FilterType::Noput.into());
        let no_delete = create.filters.no_delete.then_some(FilterType::Nodelete.into());
        WatchCreateRequest {
            key: create.range.start().clone(),
            range_end: create.range.end().clone(),
            start_revision: create.start_revision,
            progress_notify: create.progress_notify,
            filters: no_put.into_iter().chain(no_delete).collect(),
            prev_kv: create.prev_kv,
            watch_id: create.watch_id,
            fragment: create.fragment,
        }
    }

    fn union(request: RequestUnion) -> WatchRequest {
        WatchRequest { request_union: Some(request) }
    }

    #[test]
    fn a_request_without_fields_is_still_that_request() {
        let cancel = Request::Cancel { watch_id: 0 };
        same_as_prost(&cancel, &union(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 })));
        same_as_prost(&Request::Progress, &union(RequestUnion::ProgressRequest(WatchProgressRequest {})));
        same_as_prost(&StatusRequest, &pb::StatusRequest {});
        assert_eq!(StatusRequest.to_frame(), &[0; PREFIX_BYTES][..]);
    }

    proptest! {
        #[test]
        fn creates_are_what_prost_makes_of_them(create in create()) {
            let theirs = union(RequestUnion::CreateRequest(prost_create(&create)));
            same_as_prost(&Request::Create(create), &theirs);
        }

        #[test]
        fn cancels_are_what_prost_makes_of_them(watch_id in number()) {
            let theirs = union(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
            same_as_prost(&Request::Cancel { watch_id }, &theirs);
        }

        #[test]
        fn reads_of_the_revision_are_what_prost_makes_of_them(
            keys in keys(), min_mod_revision in prop_oneof![Just(0), number()],
        ) {
            let theirs = pb::RangeRequest {
                key: keys.start().clone(),
                range_end: keys.end().clone(),
                limit: 1,
                keys_only: min_mod_revision != 0,
                count_only: min_mod_revision == 0,
                min_mod_revision,
                ..Default::default()
            };
            same_as_prost(&RevisionRequest { keys, min_mod_revision }, &theirs);
        }

        #[test]
        fn lists_are_what_prost_makes_of_them(
            range in keys(), revision in number(), limit in any::<usize>(), keys_only in any::<bool>(),
        ) {
            let theirs = pb::RangeRequest {
                key: range.start().clone(),
                range_end: range.end().clone(),
                limit: i64::try_from(limit).unwrap_or(i64::MAX),
                revision,
                keys_only,
                ..Default::default()
            };
            let ours = ListRequest {
                range,
                revision,
                limit,
                max_bytes: 9,
                keys_only,
                may_stream: true,
                options: Default::default(),
                endpoint: EndpointHint::Any,
                fresh_token: false,
            };
            same_as_prost(&ours, &theirs);
            same_as_prost(&ListStreamRequest(&ours), &pb::RangeRequest { limit: 0, ..theirs });
        }
    }
}
