//! All streams of a client.

use alloc::{boxed::Box, vec::Vec};

use super::Stream;
use crate::{StreamId, StreamKey, id_map::IdMap};

/// All streams of a client. Whoever changes one has it looked at when the call is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    /// Boxed, so that a few streams take little room.
    streams: IdMap<Box<Stream>>,
    next: u32,
    touched: Vec<StreamId>,
}

impl Streams {
    /// Adds the stream that is made for the next id.
    pub(crate) fn insert(&mut self, make: impl FnOnce(StreamId) -> Stream) -> StreamId {
        let id = StreamId(self.next);
        // 2^32 streams, one a second, take longer than a century.
        self.next = self.next.wrapping_add(1);
        self.streams.insert(id.0.into(), Box::new(make(id)));
        self.touch(id);
        id
    }

    /// Forgets a stream.
    pub(crate) fn remove(&mut self, id: StreamId) -> Option<Stream> {
        self.touch(id);
        self.streams.remove(id.0.into()).map(|stream| *stream)
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(id.0.into()).map(|stream| &**stream)
    }

    pub(crate) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.touch(id);
        self.streams.get_mut(id.0.into()).map(|stream| &mut **stream)
    }

    /// The stream, if this is its present connection.
    pub(crate) fn current(&self, key: StreamKey) -> Option<&Stream> {
        self.get(key.stream).filter(|stream| stream.key() == key)
    }

    /// A stream, for a change that moves no deadline, or after its [`touch`](Self::touch).
    pub(crate) fn get_untouched(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.streams.get_mut(id.0.into()).map(|stream| &mut **stream)
    }

    /// The stream, if this is its present connection.
    pub(crate) fn current_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.get_mut(key.stream).filter(|stream| stream.key() == key)
    }

    /// A stream that must be there: a watch travels on it, or it has just been found.
    pub(crate) fn known_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        let stream = self.get_mut(id);
        debug_assert!(stream.is_some(), "{id:?} is there");
        stream
    }

    /// All streams' ids, in the order in which they were first opened.
    pub(crate) fn ids(&self) -> Vec<StreamId> {
        self.streams.iter().map(|(_, stream)| stream.key().stream).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// A stream that has been changed since the last time, if one is left.
    pub(crate) fn next_touched(&mut self) -> Option<StreamId> {
        self.touched.pop()
    }

    /// A stream's deadlines are to be looked at.
    pub(crate) fn touch(&mut self, id: StreamId) {
        if self.touched.last() != Some(&id) {
            self.touched.push(id);
        }
    }
}
