//! The decoder for `WatchResponse` frames: an index over the received bytes, nothing copied.
//!
//! It accepts and refuses what a protobuf decoder generated from etcd's `rpc.proto` does, field numbers
//! and merging rules included (a property test holds it against prost).

use alloc::vec::Vec;

use bytes::Bytes;

/// The bytes are no protobuf message of the expected form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame ends in the middle of a field.
    #[error("truncated at byte {at}")]
    Truncated {
        /// Where.
        at: usize,
    },
    /// A number has more than ten bytes or more than 64 bits.
    #[error("invalid varint at byte {at}")]
    Varint {
        /// Where.
        at: usize,
    },
    /// A field number of 0, or above what protobuf allows.
    #[error("invalid field tag at byte {at}")]
    Tag {
        /// Where.
        at: usize,
    },
    /// A field that is known has another type.
    #[error("field {field} has the wrong wire type at byte {at}")]
    WireType {
        /// The field's number.
        field: u32,
        /// Where.
        at: usize,
    },
    /// The cancel reason is not UTF-8.
    #[error("cancel_reason is not UTF-8")]
    Utf8,
    /// Unknown groups nested too deeply.
    #[error("groups nested too deeply at byte {at}")]
    Nesting {
        /// Where.
        at: usize,
    },
    /// So many events for its size that most must be empty: no server sends those, and their index would
    /// be many times the frame's size.
    #[error("far more events than the frame has room for")]
    EmptyEvents,
    /// The frame is 4 GiB or more.
    #[error("the frame is 4 GiB or more")]
    TooLong,
}

/// A stretch of the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    pub(crate) fn range(self) -> core::ops::Range<usize> {
        let start = self.start as usize;
        start..start + self.len as usize
    }

    pub(crate) fn of(self, frame: &[u8]) -> &[u8] {
        &frame[self.range()]
    }

    pub(crate) fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Leaves the first bytes out.
    pub(crate) fn cut(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.len);
        self.start += bytes;
        self.len -= bytes;
    }
}

/// etcd's `KeyValue`, as an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KvIndex {
    pub(crate) key: Span,
    pub(crate) value: Span,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

/// etcd's `Event`, as an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventIndex {
    pub(crate) kv: KvIndex,
    /// The wire's number: 0 put, 1 delete, others are for a later etcd.
    pub(crate) kind: i32,
    /// Where in the frame's list of previous pairs, `NO_PREV` for none.
    pub(crate) prev: u32,
}

pub(crate) const NO_PREV: u32 = u32::MAX;

/// etcd's `ResponseHeader`. Proxies leave fields out; 0 stands for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The cluster that answered.
    pub cluster_id: u64,
    /// The member that answered.
    pub member_id: u64,
    /// The store's revision when the response was made.
    pub revision: i64,
    /// The raft term when the response was made.
    pub raft_term: u64,
}

/// One received `WatchResponse` of etcd: the received bytes, and an index over them.
///
/// Keys and values stay where they are in the bytes; nothing is copied.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub(crate) bytes: Bytes,
    pub(crate) header: Header,
    pub(crate) watch_id: i64,
    pub(crate) created: bool,
    pub(crate) canceled: bool,
    pub(crate) compact_revision: i64,
    pub(crate) cancel_reason: Span,
    pub(crate) fragment: bool,
    pub(crate) events: Vec<EventIndex>,
    pub(crate) prevs: Vec<KvIndex>,
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const GROUP: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// The least an event takes on the wire: a key of one byte and a revision, in their three messages.
const SMALLEST_EVENT: usize = 8;

/// How many events beyond what the frame has room for are still indexed, to be refused one by one.
const EVENTS_SLACK: usize = 1024;

/// As prost: how deep messages and unknown groups may nest.
const MAX_NESTING: u32 = 100;

impl Frame {
    /// Decodes one message as received, without gRPC's five-byte prefix.
    ///
    /// # Errors
    /// The bytes are no `WatchResponse` of etcd's `rpc.proto`, or are one that no server sends
    /// ([`DecodeError::EmptyEvents`], [`DecodeError::TooLong`]).
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        Ok(Self { bytes: bytes.clone(), ..decode(&bytes)? })
    }
}

/// Decodes one frame.
pub(crate) fn decode(bytes: &[u8]) -> Result<Frame, DecodeError> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(DecodeError::TooLong);
    }
    let mut frame = Frame::default();
    let mut reader = Reader { bytes, at: 0, end: bytes.len() };
    while let Some((field, wire)) = reader.tag()? {
        match field {
            1 => {
                let mut header = reader.message(field, wire)?;
                decode_header(&mut header, &mut frame.header)?;
            }
            2 => frame.watch_id = reader.int64(field, wire)?,
            3 => frame.created = reader.bool(field, wire)?,
            4 => frame.canceled = reader.bool(field, wire)?,
            5 => frame.compact_revision = reader.int64(field, wire)?,
            6 => {
                frame.cancel_reason = reader.span(field, wire)?;
                core::str::from_utf8(frame.cancel_reason.of(bytes)).map_err(|_| DecodeError::Utf8)?;
            }
            7 => frame.fragment = reader.bool(field, wire)?,
            11 => {
                if frame.events.capacity() == 0 {
                    // Counted ahead, so that the list is allocated once and at its size.
                    let count = 1 + count_events(&reader, wire);
                    if count > EVENTS_SLACK + bytes.len() / SMALLEST_EVENT {
                        return Err(DecodeError::EmptyEvents);
                    }
                    frame.events.reserve_exact(count);
                }
                let mut event = reader.message(field, wire)?;
                let event = decode_event(&mut event, &mut frame.prevs)?;
                frame.events.push(event);
            }
            _ => reader.skip(field, wire, 0)?,
        }
    }
    Ok(frame)
}

/// How many events follow the one the reader stands at. Stops at whatever is not lawful; the decoder
/// will find it again.
fn count_events(reader: &Reader<'_>, wire: u8) -> usize {
    let mut ahead = reader.clone();
    if ahead.skip(11, wire, 0).is_err() {
        return 0;
    }
    let mut count = 0;
    while let Ok(Some((field, wire))) = ahead.tag() {
        if ahead.skip(field, wire, 0).is_err() {
            break;
        }
        count += usize::from(field == 11);
    }
    count
}

fn decode_header(reader: &mut Reader<'_>, header: &mut Header) -> Result<(), DecodeError> {
    while let Some((field, wire)) = reader.tag()? {
        match field {
            1 => header.cluster_id = reader.uint64(field, wire)?,
            2 => header.member_id = reader.uint64(field, wire)?,
            3 => header.revision = reader.int64(field, wire)?,
            4 => header.raft_term = reader.uint64(field, wire)?,
            _ => reader.skip(field, wire, 1)?,
        }
    }
    Ok(())
}

fn decode_event(reader: &mut Reader<'_>, prevs: &mut Vec<KvIndex>) -> Result<EventIndex, DecodeError> {
    let mut event = EventIndex { kv: KvIndex::default(), kind: 0, prev: NO_PREV };
    while let Some((field, wire)) = reader.tag()? {
        match field {
            #[allow(clippy::cast_possible_truncation)] // An enum is the low 32 bits of its varint.
            1 => event.kind = reader.uint64(field, wire)? as i32,
            2 => {
                let mut kv = reader.message(field, wire)?;
                decode_kv(&mut kv, &mut event.kv)?;
            }
            3 => {
                if event.prev == NO_PREV {
                    #[allow(clippy::cast_possible_truncation)] // A frame of 4 GiB has fewer.
                    let index = prevs.len() as u32;
                    event.prev = index;
                    prevs.push(KvIndex::default());
                }
                let mut kv = reader.message(field, wire)?;
                decode_kv(&mut kv, &mut prevs[event.prev as usize])?;
            }
            _ => reader.skip(field, wire, 1)?,
        }
    }
    Ok(event)
}

fn decode_kv(reader: &mut Reader<'_>, kv: &mut KvIndex) -> Result<(), DecodeError> {
    while let Some((field, wire)) = reader.tag()? {
        match field {
            1 => kv.key = reader.span(field, wire)?,
            2 => kv.create_revision = reader.int64(field, wire)?,
            3 => kv.mod_revision = reader.int64(field, wire)?,
            4 => kv.version = reader.int64(field, wire)?,
            5 => kv.value = reader.span(field, wire)?,
            6 => kv.lease = reader.int64(field, wire)?,
            _ => reader.skip(field, wire, 2)?,
        }
    }
    Ok(())
}

/// A message being read: `bytes` is the whole frame, so that spans count from its start.
#[derive(Clone)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let start = self.at;
        let bytes = &self.bytes[..self.end];
        if let Some(&byte) = bytes.get(start)
            && byte < 0x80
        {
            self.at += 1;
            return Ok(u64::from(byte));
        }
        self.long_varint(start)
    }

    fn long_varint(&mut self, start: usize) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for (index, &byte) in self.bytes[start..self.end].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                if index == 9 && byte > 1 {
                    return Err(DecodeError::Varint { at: start });
                }
                self.at = start + index + 1;
                return Ok(value);
            }
        }
        if self.end - start < 10 {
            Err(DecodeError::Truncated { at: self.end })
        } else {
            Err(DecodeError::Varint { at: start })
        }
    }

    /// The next field's number and wire type, or `None` at the message's end.
    #[inline]
    fn tag(&mut self) -> Result<Option<(u32, u8)>, DecodeError> {
        if self.at == self.end {
            return Ok(None);
        }
        let at = self.at;
        let tag = u32::try_from(self.varint()?).map_err(|_| DecodeError::Tag { at })?;
        #[allow(clippy::cast_possible_truncation)]
        let wire = (tag & 7) as u8;
        if tag >> 3 == 0 || wire > FIXED32 {
            return Err(DecodeError::Tag { at });
        }
        Ok(Some((tag >> 3, wire)))
    }

    fn expect(&self, field: u32, wire: u8, wanted: u8) -> Result<(), DecodeError> {
        if wire == wanted { Ok(()) } else { Err(DecodeError::WireType { field, at: self.at }) }
    }

    #[inline]
    fn uint64(&mut self, field: u32, wire: u8) -> Result<u64, DecodeError> {
        self.expect(field, wire, VARINT)?;
        self.varint()
    }

    #[inline]
    #[allow(clippy::cast_possible_wrap)] // int64 is two's complement on the wire.
    fn int64(&mut self, field: u32, wire: u8) -> Result<i64, DecodeError> {
        Ok(self.uint64(field, wire)? as i64)
    }

    fn bool(&mut self, field: u32, wire: u8) -> Result<bool, DecodeError> {
        Ok(self.uint64(field, wire)? != 0)
    }

    #[inline]
    fn span(&mut self, field: u32, wire: u8) -> Result<Span, DecodeError> {
        self.expect(field, wire, BYTES)?;
        let len = self.varint()?;
        if len > (self.end - self.at) as u64 {
            return Err(DecodeError::Truncated { at: self.end });
        }
        #[allow(clippy::cast_possible_truncation)] // Both lie within a frame below 4 GiB.
        let span = Span { start: self.at as u32, len: len as u32 };
        self.at += span.len as usize;
        Ok(span)
    }

    #[inline]
    fn message(&mut self, field: u32, wire: u8) -> Result<Reader<'a>, DecodeError> {
        let range = self.span(field, wire)?.range();
        Ok(Reader { bytes: self.bytes, at: range.start, end: range.end })
    }

    /// Passes over a field that is not known, in a message or group `depth` levels deep.
    fn skip(&mut self, field: u32, wire: u8, depth: u32) -> Result<(), DecodeError> {
        if depth == MAX_NESTING {
            return Err(DecodeError::Nesting { at: self.at });
        }
        match wire {
            VARINT => self.varint().map(drop),
            FIXED64 => self.advance(8),
            BYTES => self.span(field, wire).map(drop),
            FIXED32 => self.advance(4),
            GROUP => loop {
                match self.tag()? {
                    None => return Err(DecodeError::Truncated { at: self.end }),
                    Some((inner, GROUP_END)) if inner == field => return Ok(()),
                    Some((_, GROUP_END)) => return Err(DecodeError::Tag { at: self.at }),
                    Some((inner, wire)) => self.skip(inner, wire, depth + 1)?,
                }
            },
            _ => Err(DecodeError::Tag { at: self.at }),
        }
    }

    fn advance(&mut self, len: usize) -> Result<(), DecodeError> {
        if self.end - self.at < len {
            return Err(DecodeError::Truncated { at: self.end });
        }
        self.at += len;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
