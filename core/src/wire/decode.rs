//! The decoder for `WatchResponse` frames: an index over the received bytes, nothing copied.
//!
//! It accepts and refuses what a protobuf decoder generated from etcd's `rpc.proto` does, field numbers
//! and merging rules included (a property test holds it against prost).

use alloc::vec::Vec;

use bytes::Bytes;

use super::{
    index::{EventIndex, Events, KvIndex, NO_PREV, Prevs, Span},
    reader::{END, Reader, bytes_tag, varint_tag},
};

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
    /// The same of the pairs of a list.
    #[error("far more pairs than the response has room for")]
    EmptyPairs,
    /// The frame is 4 GiB or more.
    #[error("the frame is 4 GiB or more")]
    TooLong,
}

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

impl Header {
    /// Whether the server sent one. etcd always does; a proxy may leave it out.
    #[must_use]
    pub fn is_present(&self) -> bool {
        *self != Self::default()
    }

    /// Whether a store may be at this revision; 0 says nothing. At the largest number there is it could have no other
    /// change: whoever believed it would wait for ever.
    pub(crate) fn may_be_revision(revision: i64) -> bool {
        (0..i64::MAX).contains(&revision)
    }

    /// Whether two ids may be of one cluster. An id of 0 says nothing.
    pub(crate) fn may_be_same_cluster(one: u64, other: u64) -> bool {
        one == 0 || other == 0 || one == other
    }
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
    cancel_reason: Span,
    pub(crate) fragment: bool,
    pub(crate) events: Events,
    pub(crate) prevs: Prevs,
}

/// The least an event takes on the wire: a key of one byte and a revision, in their three messages.
const SMALLEST_EVENT: usize = 8;

/// How many events beyond what the frame has room for are still indexed, to be refused one by one.
const EVENTS_SLACK: usize = 1024;

/// The unused room that the index may keep: for this many events or pairs, or for an eighth of those it has
/// if that is more.
const SPARE: usize = 4;

impl Frame {
    /// Decodes one message as received, without gRPC's five-byte prefix.
    ///
    /// The index of events of usual sizes takes less memory than the bytes do; whatever the bytes are, it
    /// takes at most about 13 times their memory, and 104 KiB.
    ///
    /// # Errors
    /// The bytes are no `WatchResponse` of etcd's `rpc.proto`, or are one that no server sends
    /// ([`DecodeError::EmptyEvents`], [`DecodeError::TooLong`]).
    // Inlined: the caller's compiler can leave out some moves.
    #[inline]
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut decoded = Ok(Self {
            bytes,
            header: Header::default(),
            watch_id: 0,
            created: false,
            canceled: false,
            compact_revision: 0,
            cancel_reason: Span::default(),
            fragment: false,
            events: Events::default(),
            prevs: Prevs::default(),
        });
        // It is read into where it is returned: that saves a move.
        if let Ok(frame) = &mut decoded
            && let Err(error) = frame.read()
        {
            decoded = Err(error);
        }
        decoded
    }

    /// Why the server ended the watch; empty if it doesn't say.
    pub(crate) fn cancel_reason(&self) -> &str {
        core::str::from_utf8(self.cancel_reason.of(&self.bytes)).unwrap_or_default()
    }

    /// Tries the fields in the order in which etcd encodes a response with events. Other orders are lawful
    /// too, and take longer.
    #[inline(never)]
    fn read(&mut self) -> Result<(), DecodeError> {
        const TAGS: &[u32] = &[
            bytes_tag(1),
            varint_tag(2),
            varint_tag(3),
            varint_tag(4),
            varint_tag(5),
            bytes_tag(6),
            varint_tag(7),
            bytes_tag(11),
        ];
        let bytes = &self.bytes[..];
        if u32::try_from(bytes.len()).is_err() {
            return Err(DecodeError::TooLong);
        }
        let mut reader = Reader::new(bytes);
        let mut tag = reader.tag();
        let mut events = Vec::new();
        loop {
            if tag == bytes_tag(1) {
                read_header(reader.message()?, &mut self.header)?;
                tag = reader.tag();
            }
            if tag == varint_tag(2) {
                self.watch_id = reader.int64()?;
                tag = reader.tag();
            }
            while tag == bytes_tag(11) {
                let start = reader.at();
                let message = reader.message()?;
                if events.len() == events.capacity() {
                    if events.is_empty() && reader.at() == bytes.len() {
                        let mut only = EventIndex::default();
                        read_event(message, &mut only, &mut self.prevs, 1)?;
                        self.events = Events::One(only);
                        return Ok(());
                    }
                    make_room(&mut events, bytes.len(), start, reader.at())?;
                }
                let room = events.capacity() - events.len();
                events.push(EventIndex::default());
                if let Some(event) = events.last_mut() {
                    read_event(message, event, &mut self.prevs, room)?;
                }
                tag = reader.tag();
            }
            if tag == END {
                let has_room = events.capacity() > events.len() + SPARE;
                self.events = Events::Many(events);
                if has_room || self.prevs.is_some() {
                    self.shrink();
                }
                return Ok(());
            }
            if tag == varint_tag(3) {
                self.created = reader.bool()?;
                tag = reader.tag();
            }
            if tag == varint_tag(4) {
                self.canceled = reader.bool()?;
                tag = reader.tag();
            }
            if tag == varint_tag(5) {
                self.compact_revision = reader.int64()?;
                tag = reader.tag();
            }
            if tag == bytes_tag(6) {
                self.cancel_reason = reader.span()?;
                core::str::from_utf8(self.cancel_reason.of(bytes)).map_err(|_| DecodeError::Utf8)?;
                tag = reader.tag();
            }
            if tag == varint_tag(7) {
                self.fragment = reader.bool()?;
                tag = reader.tag();
            }
            if tag != bytes_tag(11) && tag != END {
                tag = reader.other(TAGS, 0)?;
            }
        }
    }

    /// Gives back the room that was reserved on a wrong guess, unless it is little.
    #[cold]
    #[inline(never)]
    fn shrink(&mut self) {
        if let Events::Many(events) = &mut self.events
            && events.capacity() > events.len() + SPARE.max(events.len() / 8)
        {
            events.shrink_to_fit();
        }
        if self.prevs.is_some() {
            let prevs = self.prevs.list();
            if prevs.capacity() > prevs.len() + SPARE.max(prevs.len() / 8) {
                prevs.shrink_to_fit();
            }
        }
    }
}

/// Makes room in the index for the event from `start` to `end`, and for as many events of its size as can
/// follow: most frames have events of one size, so that the index is allocated once.
#[inline(always)]
fn make_room(
    events: &mut Vec<EventIndex>,
    frame_len: usize,
    start: usize,
    end: usize,
) -> Result<(), DecodeError> {
    if events.capacity() > 0 {
        return make_more_room(events, frame_len, end);
    }
    // A small event before large ones must not cost more memory than the frame does.
    let size = (end - start + 1).max(size_of::<EventIndex>());
    #[allow(clippy::cast_possible_truncation)] // A frame is below 4 GiB, and a short division is quicker.
    let follow = (frame_len - end) as u32 / size as u32;
    *events = Vec::with_capacity(1 + follow as usize);
    Ok(())
}

/// Makes room in an index that is full because later events are smaller than the first.
#[cold]
#[inline(never)]
fn make_more_room(events: &mut Vec<EventIndex>, frame_len: usize, end: usize) -> Result<(), DecodeError> {
    let most = EVENTS_SLACK + frame_len / SMALLEST_EVENT;
    let len = events.len();
    if len >= most {
        return Err(DecodeError::EmptyEvents);
    }
    let mean = (end / (len + 1)).max(SMALLEST_EVENT);
    let follow = (frame_len - end) / mean;
    // At least half as many again, so that the number of allocations stays small whatever the sizes are.
    events.reserve_exact((1 + follow).max(len / 2).min(most - len));
    Ok(())
}

// In place, though lists read headers as well: it is a third of a frame with one event.
#[inline(always)]
pub(super) fn read_header(mut reader: Reader<'_>, header: &mut Header) -> Result<(), DecodeError> {
    const TAGS: &[u32] = &[varint_tag(1), varint_tag(2), varint_tag(3), varint_tag(4)];
    let mut tag = reader.tag();
    loop {
        if tag == varint_tag(1) {
            header.cluster_id = reader.id()?;
            tag = reader.tag();
        }
        if tag == varint_tag(2) {
            header.member_id = reader.id()?;
            tag = reader.tag();
        }
        if tag == varint_tag(3) {
            header.revision = reader.revision()?;
            tag = reader.tag();
        }
        if tag == varint_tag(4) {
            header.raft_term = reader.varint()?;
            tag = reader.tag();
        }
        if tag == END {
            return Ok(());
        }
        tag = reader.other(TAGS, 1)?;
    }
}

/// Reads an event. The index has room for `room` events, this one included, and probably as many previous
/// pairs follow.
#[inline(always)]
fn read_event(
    mut reader: Reader<'_>,
    event: &mut EventIndex,
    prevs: &mut Prevs,
    room: usize,
) -> Result<(), DecodeError> {
    const TAGS: &[u32] = &[varint_tag(1), bytes_tag(2), bytes_tag(3)];
    let mut tag = reader.tag();
    loop {
        if tag == varint_tag(1) {
            #[allow(clippy::cast_possible_truncation)] // An enum is the low 32 bits of its varint.
            let kind = reader.varint()? as i32;
            event.kind = kind;
            tag = reader.tag();
        }
        if tag == bytes_tag(2) {
            read_kv(reader.message()?, &mut event.kv)?;
            tag = reader.tag();
        }
        if tag == bytes_tag(3) {
            event.prev = read_prev(reader.message()?, event.prev, prevs, room)?;
            tag = reader.tag();
        }
        if tag == END {
            return Ok(());
        }
        tag = reader.other(TAGS, 1)?;
    }
}

/// Reads a previous pair into the one at `prev`, or into a new one. Returns its place.
#[inline(never)]
fn read_prev(reader: Reader<'_>, prev: u32, prevs: &mut Prevs, room: usize) -> Result<u32, DecodeError> {
    let prevs = prevs.list();
    if prev != NO_PREV {
        read_kv(reader, &mut prevs[prev as usize])?;
        return Ok(prev);
    }
    if prevs.capacity() == 0 {
        prevs.reserve_exact(room);
    }
    #[allow(clippy::cast_possible_truncation)] // A frame of 4 GiB has fewer.
    let place = prevs.len() as u32;
    let mut kv = KvIndex::default();
    read_kv(reader, &mut kv)?;
    prevs.push(kv);
    Ok(place)
}

#[inline(always)]
pub(super) fn read_kv(mut reader: Reader<'_>, kv: &mut KvIndex) -> Result<(), DecodeError> {
    const TAGS: &[u32] =
        &[bytes_tag(1), varint_tag(2), varint_tag(3), varint_tag(4), bytes_tag(5), varint_tag(6)];
    let mut tag = reader.tag();
    loop {
        if tag == bytes_tag(1) {
            kv.key = reader.span()?;
            tag = reader.tag();
        }
        if tag == varint_tag(2) {
            kv.create_revision = reader.revision()?;
            tag = reader.tag();
        }
        if tag == varint_tag(3) {
            kv.mod_revision = reader.revision()?;
            tag = reader.tag();
        }
        if tag == varint_tag(4) {
            kv.version = reader.int64()?;
            tag = reader.tag();
        }
        if tag == bytes_tag(5) {
            kv.value = reader.span()?;
            tag = reader.tag();
        }
        if tag == varint_tag(6) {
            kv.lease = reader.int64()?;
            tag = reader.tag();
        }
        if tag == END {
            return Ok(());
        }
        tag = reader.other(TAGS, 2)?;
    }
}

#[cfg(test)]
mod tests;
