//! Watch responses, encoded and framed once, and rewritten where they differ.

use bytes::BufMut;
use etcd_watch_bench::PREFIX;

use crate::frame::{self, HEAD, MAX_PAYLOAD};

/// The first revision that is sent, and the one after the last that can be: a varint of every one between has
/// [`REVISION_WIDTH`] bytes.
pub(crate) const FIRST_REVISION: i64 = 1 << 21;
pub(crate) const END_REVISION: i64 = 1 << 28;
const REVISION_WIDTH: usize = 4;

/// The ids that etcd gives a cluster of one; like most, they take ten bytes each.
pub(crate) const CLUSTER_ID: u64 = 0xcdf8_1819_4e3a_8c32;
pub(crate) const MEMBER_ID: u64 = 0x8e9e_05c5_2164_694d;
pub(crate) const RAFT_TERM: u64 = 7;

/// gRPC's bytes before a message: whether it is compressed, and its length.
const GRPC_HEAD: usize = 5;

/// The bytes of a value that carry the time of sending, as a little-endian count of nanoseconds since 1970.
pub(crate) const STAMP: usize = 8;

/// What the responses are like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Events of a response.
    pub(crate) events: usize,
    /// Events of a revision; all of them are in one response.
    pub(crate) events_per_revision: usize,
    /// Bytes of a value.
    pub(crate) value: usize,
    /// Whether values carry the time of sending.
    pub(crate) stamped: bool,
}

impl Shape {
    /// Revisions of a response.
    pub(crate) fn revisions(&self) -> usize {
        self.events.div_ceil(self.events_per_revision)
    }
}

/// Where a part of a message is in its frames, byte by byte: a frame may end within it.
type Place<const N: usize> = [u32; N];

/// One response in its frames, and where it has to be rewritten.
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    /// Where each frame begins.
    pub(crate) frames: Vec<usize>,
    shape: Shape,
    watch_id: Vec<u32>,
    header_revision: Place<REVISION_WIDTH>,
    mod_revisions: Vec<Place<REVISION_WIDTH>>,
    stamps: Vec<Place<STAMP>>,
}

/// What differs from response to response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Post {
    pub(crate) stream: u32,
    pub(crate) watch_id: i64,
    /// That of the first event.
    pub(crate) revision: i64,
    /// The time of sending, in nanoseconds since 1970.
    pub(crate) stamp: u64,
}

impl Message {
    /// A response whose watch id takes `id_width` bytes.
    pub(crate) fn new(shape: Shape, id_width: usize) -> Self {
        let mut body = Vec::new();
        let mut header = Vec::new();
        put_varint(&mut header, 1, CLUSTER_ID);
        put_varint(&mut header, 2, MEMBER_ID);
        put_varint(&mut header, 3, FIRST_REVISION.unsigned_abs());
        let header_revision = header.len() - REVISION_WIDTH;
        put_varint(&mut header, 4, RAFT_TERM);
        let header_revision = put_bytes(&mut body, 1, &header) + header_revision;
        let mut watch_id = 0..0;
        if id_width > 0 {
            // The longest varint of that many bytes begins with a bit for each seven that they hold.
            put_varint(&mut body, 2, 1_u64.checked_shl(7 * (id_width as u32 - 1)).unwrap_or(u64::MAX));
            watch_id = body.len() - id_width..body.len();
        }
        let mut mod_revisions = Vec::with_capacity(shape.events);
        let mut stamps = Vec::new();
        for index in 0..shape.events {
            let mut kv = Vec::new();
            put_bytes(&mut kv, 1, format!("{PREFIX}{index:08}").as_bytes());
            put_varint(&mut kv, 2, FIRST_REVISION.unsigned_abs());
            put_varint(&mut kv, 3, FIRST_REVISION.unsigned_abs());
            let mod_revision = kv.len() - REVISION_WIDTH;
            put_varint(&mut kv, 4, 3);
            let value = put_bytes(&mut kv, 5, &vec![b'v'; shape.value]);
            let mut event = Vec::new();
            let kv_at = put_bytes(&mut event, 2, &kv);
            let at = put_bytes(&mut body, 11, &event) + kv_at;
            mod_revisions.push(at + mod_revision);
            if shape.stamped {
                stamps.push(at + value);
            }
        }
        let mut message = vec![0];
        message.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
        message.extend_from_slice(&body);
        let (bytes, frames) = framed(&message, 0);
        Self {
            bytes,
            frames,
            shape,
            watch_id: watch_id.map(framed_at).collect(),
            header_revision: place(header_revision),
            mod_revisions: mod_revisions.into_iter().map(place).collect(),
            stamps: stamps.into_iter().map(place).collect(),
        }
    }

    /// Rewrites a copy of this message. Returns the revision of its last event.
    pub(crate) fn rewrite(&self, copy: &mut [u8], post: &Post) -> i64 {
        for &at in &self.frames {
            copy[at + HEAD - 4..at + HEAD].copy_from_slice(&post.stream.to_be_bytes());
        }
        let mut id = post.watch_id.cast_unsigned();
        for (nth, &at) in self.watch_id.iter().enumerate() {
            let more = if nth + 1 < self.watch_id.len() { 0x80 } else { 0 };
            copy[at as usize] = (id & 0x7f) as u8 | more;
            id >>= 7;
        }
        let mut revision = post.revision;
        let mut varint = revision_varint(revision);
        let mut of_revision = 0;
        for place in &self.mod_revisions {
            if of_revision == self.shape.events_per_revision {
                of_revision = 0;
                revision += 1;
                varint = revision_varint(revision);
            }
            of_revision += 1;
            write(copy, place, varint);
        }
        write(copy, &self.header_revision, varint);
        for place in &self.stamps {
            write(copy, place, post.stamp.to_le_bytes());
        }
        revision
    }
}

/// How many bytes the varint of a watch's id takes; 0 for id 0, which is left out.
pub(crate) fn id_width(id: i64) -> usize {
    (u64::BITS - id.cast_unsigned().leading_zeros()).div_ceil(7) as usize
}

/// A message of gRPC in its frames: those, and where each begins.
pub(crate) fn framed(message: &[u8], stream: u32) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::with_capacity(message.len() + HEAD * message.len().div_ceil(MAX_PAYLOAD));
    let mut frames = Vec::new();
    for payload in message.chunks(MAX_PAYLOAD) {
        frames.push(bytes.len());
        bytes.extend_from_slice(&frame::data_head(payload.len(), stream));
        bytes.extend_from_slice(payload);
    }
    (bytes, frames)
}

fn write<const N: usize>(copy: &mut [u8], place: &Place<N>, bytes: [u8; N]) {
    for (&at, byte) in place.iter().zip(bytes) {
        copy[at as usize] = byte;
    }
}

/// The varint of a revision between `FIRST_REVISION` and `END_REVISION`.
fn revision_varint(revision: i64) -> [u8; REVISION_WIDTH] {
    let byte = |nth: usize| (revision >> (7 * nth)) as u8 & 0x7f;
    [byte(0) | 0x80, byte(1) | 0x80, byte(2) | 0x80, byte(3)]
}

fn place<const N: usize>(body_at: usize) -> Place<N> {
    std::array::from_fn(|nth| framed_at(body_at + nth))
}

/// Where a byte of a message's body is in its frames.
fn framed_at(body_at: usize) -> u32 {
    let at = GRPC_HEAD + body_at;
    // A message of 4 GiB is none of gRPC's.
    (at + HEAD * (at / MAX_PAYLOAD + 1)) as u32
}

fn put_varint(into: &mut Vec<u8>, field: u8, value: u64) {
    into.push(field << 3);
    push_varint(into, value);
}

/// Returns where the bytes begin.
fn put_bytes(into: &mut Vec<u8>, field: u8, bytes: &[u8]) -> usize {
    into.push(field << 3 | 2);
    push_varint(into, bytes.len() as u64);
    let at = into.len();
    into.extend_from_slice(bytes);
    at
}

fn push_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

#[cfg(test)]
mod tests {
    use etcd_watch_proto::{etcdserverpb::WatchResponse, prost::Message as _};

    use super::*;

    fn decode(mut bytes: &[u8]) -> WatchResponse {
        let mut message = Vec::new();
        while let Some(frame) = frame::Frame::first(bytes) {
            assert_eq!((frame.kind, frame.stream), (frame::DATA, 5));
            assert!(frame.payload().len() <= MAX_PAYLOAD);
            message.extend_from_slice(frame.payload());
            bytes = &bytes[frame.bytes.len()..];
        }
        assert!(bytes.is_empty());
        assert_eq!(message[..5], [&[0][..], &(message.len() as u32 - 5).to_be_bytes()].concat());
        WatchResponse::decode(&message[5..]).expect("a response")
    }

    #[test]
    fn a_rewritten_response_says_what_is_to_be_said() {
        for (id, value) in [(0, 8), (1, 32), (127, 256), (128, 4096), (-2, 65_536), (i64::MAX, 300)] {
            let shape = Shape { events: 100, events_per_revision: 3, value, stamped: true };
            let message = Message::new(shape, id_width(id));
            let mut copy = message.bytes.clone();
            for revision in [FIRST_REVISION, 123_456_789] {
                let post = Post { stream: 5, watch_id: id, revision, stamp: 0x0102_0304_0506_0708 };
                let last = message.rewrite(&mut copy, &post);
                assert_eq!(last, revision + 33);
                let response = decode(&copy);
                assert_eq!(response.watch_id, id);
                assert_eq!(response.header.expect("it is there").revision, last);
                assert_eq!(response.events.len(), 100);
                for (index, event) in (0..).zip(&response.events) {
                    let kv = event.kv.as_ref().expect("a put");
                    assert_eq!(kv.mod_revision, revision + index / 3);
                    assert_eq!(kv.key.len(), 23);
                    assert_eq!(kv.value.len(), value);
                    assert_eq!(kv.value[..STAMP], [8, 7, 6, 5, 4, 3, 2, 1]);
                }
            }
        }
    }

    #[test]
    fn an_id_takes_as_many_bytes_as_prost_gives_it() {
        for id in [0, 1, 127, 128, 16_383, 16_384, 1 << 31, i64::MAX, -1] {
            let response = WatchResponse { watch_id: id, ..WatchResponse::default() };
            assert_eq!(id_width(id), response.encoded_len().saturating_sub(1), "{id}");
        }
    }
}
