//! Events of small frames that wait for their consumer together.

use alloc::vec::Vec;

use super::response::{Chunk, INDEX_BYTES, WatchResponse};
use crate::{Frame, Header, wire::index::EventIndex};

/// How many bytes of frames are gathered at most. The buffer doubles as it grows, so this also bounds what is copied for
/// that.
const MAX_BYTES: usize = 64 << 10;

/// Events of small frames that came one after the other, in one buffer with one index. A response for each frame would
/// cost several allocations a frame, and be merged with the others when the consumer takes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gathered {
    header: Header,
    buffer: Vec<u8>,
    events: Vec<EventIndex>,
}

impl Gathered {
    /// Whether the frame's events can be added. Those with previous pairs are not: few watches ask for them.
    pub(crate) fn has_room(&self, frame: &Frame) -> bool {
        self.buffer.len() + frame.bytes.len() <= MAX_BYTES && frame.prevs.as_slice().is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// What it holds in memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.buffer.capacity() + self.events.capacity() * INDEX_BYTES
    }

    /// By how much that grows with the frame's events, in bytes.
    pub(crate) fn growth(&self, frame: &Frame) -> usize {
        let (bytes, events) = self.room_with(frame);
        (bytes - self.buffer.capacity()) + (events - self.events.capacity()) * INDEX_BYTES
    }

    /// Adds the frame's events.
    pub(crate) fn add(&mut self, frame: &Frame) {
        let (bytes, events) = self.room_with(frame);
        self.buffer.reserve_exact(bytes - self.buffer.len());
        self.events.reserve_exact(events - self.events.len());
        // The buffer is far shorter than 4 GiB.
        let offset = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
        self.buffer.extend_from_slice(&frame.bytes);
        self.events.extend(frame.events.iter().map(|event| event.moved(offset)));
        self.header = frame.header;
    }

    /// The revision of the last event.
    pub(crate) fn revision(&self) -> Option<i64> {
        self.events.last().map(|event| event.kv.mod_revision)
    }

    /// The response that the consumer gets.
    pub(crate) fn seal(self) -> WatchResponse {
        let bytes = self.bytes();
        WatchResponse::holding(Chunk::new(self.buffer.into(), self.events), self.header, bytes)
    }

    /// The capacities of buffer and index that the frame needs, in bytes and in events.
    fn room_with(&self, frame: &Frame) -> (usize, usize) {
        // Exactly enough at first: most often no other frame follows before the consumer comes.
        let grown = |capacity: usize, needed: usize| {
            if needed <= capacity { capacity } else { needed.max(2 * capacity) }
        };
        (
            grown(self.buffer.capacity(), self.buffer.len() + frame.bytes.len()),
            grown(self.events.capacity(), self.events.len() + frame.events.len()),
        )
    }
}
