//! What a watch delivers: a [`WatchResponse`] is received buffers with an index over them.

use alloc::{boxed::Box, vec, vec::Vec};
use bytes::Bytes;
use core::fmt;

use super::event::Event;
use crate::{
    Checkpoint, CloseReason, Frame, Header,
    wire::index::{EventIndex, Events, KvIndex, NO_PREV, Prevs},
};

/// Events, and the one buffer that their keys and values are in.
#[derive(Clone)]
pub(crate) struct Chunk {
    frame: Bytes,
    events: Events,
    prevs: Prevs,
}

/// What the index itself takes, per event, in the accounts of what waits for a consumer.
pub(crate) const INDEX_BYTES: usize = size_of::<EventIndex>();

/// A frame shorter than this may be a small part of the buffer it was received in, and is copied out of it: to copy
/// it costs less than to look up who else holds the buffer.
const COPIED_BELOW: usize = 64 << 10;

/// What a buffer and the index over it hold in memory, in bytes.
fn held(buffer: &Bytes, events: &Events, prevs: &Prevs) -> usize {
    buffer.len() + (events.capacity() + prevs.capacity()) * INDEX_BYTES
}

impl Chunk {
    /// Events of any number of frames, with the buffer that they are in.
    pub(crate) fn new(frame: Bytes, events: Vec<EventIndex>) -> Self {
        Self { frame, events: Events::Many(events), prevs: Prevs::default() }
    }

    /// Takes the events of a frame. Its bytes are copied unless they are many; a large frame is to have a buffer of its
    /// own.
    pub(crate) fn take(frame: &mut Frame) -> Self {
        let bytes = &mut frame.bytes;
        let is_small = bytes.len() < COPIED_BELOW;
        let bytes = if is_small { Bytes::copy_from_slice(bytes) } else { core::mem::take(bytes) };
        let (events, prevs) = (core::mem::take(&mut frame.events), core::mem::take(&mut frame.prevs));
        Self { frame: bytes, events, prevs }
    }

    /// What the chunk that [takes](Self::take) the events of the frame will hold in memory, in bytes.
    pub(crate) fn cost_of(frame: &Frame) -> usize {
        held(&frame.bytes, &frame.events, &frame.prevs)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// What the chunk holds in memory, in bytes. Each part of a frame keeps the whole frame alive, so it counts for
    /// each.
    pub(crate) fn bytes(&self) -> usize {
        held(&self.frame, &self.events, &self.prevs)
    }

    pub(crate) fn first_revision(&self) -> i64 {
        self.events.first_revision()
    }

    pub(crate) fn drop_first(&mut self, count: usize) {
        self.events.drop_first(count);
    }

    pub(crate) fn last_revision(&self) -> i64 {
        self.events.last_revision()
    }

    /// Cuts off the events of the last revision, if others come before them: `self` keeps those.
    pub(crate) fn split_last_revision(&mut self) -> Option<Self> {
        let last = self.last_revision();
        let at = self.events.partition_point(|event| event.kv.mod_revision < last);
        if at == 0 {
            return None;
        }
        let events = self.events.split_off(at);
        Some(Self { frame: self.frame.clone(), events, prevs: self.prevs.clone() })
    }

    /// Leaves the first bytes of each key out.
    fn cut_keys(&mut self, bytes: usize) {
        let prevs = self.prevs.as_mut_slice();
        self.events.iter_mut().map(|event| &mut event.kv).chain(prevs).for_each(|kv| kv.key.cut(bytes));
    }

    #[inline]
    fn event(&self, index: usize) -> Event<'_> {
        Event::new(self, &self.events[index])
    }

    /// The buffer that all keys and values are in.
    #[inline]
    pub(super) fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The pair before one of its events, if there is one.
    #[inline]
    pub(super) fn prev(&self, event: &EventIndex) -> Option<&KvIndex> {
        (event.prev != NO_PREV).then(|| &self.prevs.as_slice()[event.prev as usize])
    }
}

/// What kind of response it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResponseKind {
    /// It carries events.
    Events,
    /// Everything up to its revision has been delivered.
    Progress,
    /// The watch has been created on a server for the first time.
    Created,
}

/// One or more responses of the server to one watch, in order: all events of a revision that match the
/// watch are in one of these, never in two.
#[derive(Clone)]
pub struct WatchResponse(Box<Body>);

/// What a response has. It is behind a pointer, since a response is moved often on its way to the consumer.
#[derive(Clone)]
struct Body {
    kind: ResponseKind,
    header: Header,
    resume_revision: i64,
    chunks: Chunks,
    events: usize,
    bytes: usize,
}

#[derive(Clone)]
enum Chunks {
    None,
    One(Chunk),
    Many(Vec<Chunk>),
}

impl Chunks {
    #[inline]
    fn as_slice(&self) -> &[Chunk] {
        match self {
            Self::None => &[],
            Self::One(chunk) => core::slice::from_ref(chunk),
            Self::Many(chunks) => chunks,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Chunk] {
        match self {
            Self::None => &mut [],
            Self::One(chunk) => core::slice::from_mut(chunk),
            Self::Many(chunks) => chunks,
        }
    }

    fn push(&mut self, chunk: Chunk) {
        *self = match core::mem::replace(self, Self::None) {
            Self::None => Self::One(chunk),
            Self::One(first) => Self::Many(vec![first, chunk]),
            Self::Many(mut chunks) => {
                chunks.push(chunk);
                Self::Many(chunks)
            }
        };
    }
}

impl WatchResponse {
    /// What a response takes beside its buffers and their index, in bytes.
    pub(crate) const OWN_BYTES: usize = size_of::<Body>();

    pub(crate) fn notice(kind: ResponseKind, header: Header, resume_revision: i64) -> Self {
        let chunks = Chunks::None;
        Self(Box::new(Body { kind, header, resume_revision, chunks, events: 0, bytes: 0 }))
    }

    pub(crate) fn events_of(chunk: Chunk, header: Header) -> Self {
        let bytes = chunk.bytes();
        Self::holding(chunk, header, bytes)
    }

    /// Events that hold so many bytes in memory.
    pub(crate) fn holding(chunk: Chunk, header: Header, bytes: usize) -> Self {
        let (resume_revision, events) = (chunk.last_revision() + 1, chunk.len());
        Self(Box::new(Body {
            kind: ResponseKind::Events,
            header,
            resume_revision,
            chunks: Chunks::One(chunk),
            events,
            bytes,
        }))
    }

    /// Adds events that follow.
    pub(crate) fn extend(&mut self, chunk: Chunk, header: Header) {
        self.0.resume_revision = chunk.last_revision() + 1;
        self.0.events += chunk.len();
        self.0.bytes += chunk.bytes();
        self.0.header = header;
        self.0.chunks.push(chunk);
    }

    /// Adds a whole response that follows.
    pub(crate) fn append(&mut self, next: Self) {
        self.0.resume_revision = next.0.resume_revision;
        self.0.events += next.0.events;
        self.0.bytes += next.0.bytes;
        self.0.header = next.0.header;
        match next.0.chunks {
            Chunks::None => {}
            Chunks::One(chunk) => self.0.chunks.push(chunk),
            Chunks::Many(chunks) => chunks.into_iter().for_each(|chunk| self.0.chunks.push(chunk)),
        }
    }

    /// The same with the first `bytes` of each key left out: for views on the keys under a prefix. A shorter
    /// key is left empty.
    #[must_use]
    pub fn without_key_prefix(mut self, bytes: usize) -> Self {
        self.0.chunks.as_mut_slice().iter_mut().for_each(|chunk| chunk.cut_keys(bytes));
        self
    }

    /// What it holds in memory, in bytes: the received buffers and their index.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.0.bytes
    }

    /// Events, progress, or created.
    #[must_use]
    pub fn kind(&self) -> ResponseKind {
        self.0.kind
    }

    /// The header of the (last) response received. Its revision is the store's when the response was
    /// made, which may be ahead of the events: to resume, use [`resume_revision`](Self::resume_revision).
    #[must_use]
    pub fn header(&self) -> Header {
        self.0.header
    }

    /// Where to go on after this response: store it with what you made of the events, and start the next
    /// watch there; nothing is missed and nothing comes twice.
    #[must_use]
    pub fn resume_revision(&self) -> i64 {
        self.0.resume_revision
    }

    /// [`resume_revision`](Self::resume_revision) with the cluster whose revision that is: store it with what you made of
    /// the events, and begin there after a restart with [`WatchRequest::resume`](crate::WatchRequest::resume).
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::new(self.0.resume_revision, self.0.header.cluster_id)
    }

    /// Everything up to this revision, and nothing after it, has been delivered with this response.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.0.resume_revision - 1
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.events
    }

    /// Whether there are no events: true of progress and created responses.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.events == 0
    }

    /// The events, by ascending revision; within a revision, as the transaction made them.
    #[inline]
    pub fn events(&self) -> impl DoubleEndedIterator<Item = Event<'_>> + Clone {
        self.0.chunks.as_slice().iter().flat_map(|chunk| (0..chunk.len()).map(|index| chunk.event(index)))
    }
}

impl fmt::Debug for WatchResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchResponse")
            .field("kind", &self.0.kind)
            .field("header", &self.0.header)
            .field("resume_revision", &self.0.resume_revision)
            .field("events", &self.events().collect::<Vec<_>>())
            .finish()
    }
}

impl PartialEq for WatchResponse {
    /// By what is delivered; how it was received doesn't matter.
    fn eq(&self, other: &Self) -> bool {
        (self.0.kind, self.0.header, self.0.resume_revision)
            == (other.0.kind, other.0.header, other.0.resume_revision)
            && self.events().eq(other.events())
    }
}

/// What [`Watcher::next`](crate::Watcher::next) hands out.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Delivery {
    /// Events, progress or created.
    Response(WatchResponse),
    /// The end; exactly once, and last.
    Closed(CloseReason),
}

#[cfg(test)]
pub(crate) mod tests;
