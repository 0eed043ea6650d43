//! Handles: the names by which the driver and the machine speak of a watch, a stream and a read.

use core::fmt;

/// One watch of a [`Watcher`](crate::Watcher), from `watch` to its `Closed`. Never reused, and not the
/// id the server knows it by: that changes with every connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
// Without padding: every watch has its key in several tables.
#[repr(Rust, packed(4))]
pub struct WatchKey {
    /// Counted up, so that watches are in the order in which they were opened.
    pub(crate) number: u64,
    /// The place in the machine's table of watches.
    pub(crate) index: u32,
}

impl WatchKey {
    /// A small number that no other watch of the machine has until this one's `Closed` has been taken: for a driver that
    /// keeps what it knows of watches in a list.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.index as usize
    }
}

impl fmt::Debug for WatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watch {}", { self.number })
    }
}

/// One of a client's gRPC streams, through all its reconnects. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u32);

impl StreamId {
    /// The stream's number, for logs: streams are counted from 0.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}", self.0)
    }
}

/// One connection of one stream. After a reconnect the stream has a new key, so a late word of a
/// connection that is gone is recognised by its old key and ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    pub(crate) stream: StreamId,
    pub(crate) connection: u32,
}

impl StreamKey {
    /// The stream, which stays the same through all its connections. A driver can remember by it which
    /// endpoint the last connection went to.
    #[must_use]
    pub const fn stream(self) -> StreamId {
        self.stream
    }

    /// The number of the connection: how many the stream has had before.
    #[must_use]
    pub const fn connection(self) -> u32 {
        self.connection
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}.{}", self.stream.0, self.connection)
    }
}

/// The watches with equal stream options, and their reads and streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupId(pub(crate) u32);

/// Who asks for a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Asker {
    /// A group, for watches that wait for the answer.
    Group(GroupId, Purpose),
    /// A connection, to learn whether a watch on it has missed something.
    Stream(StreamKey),
}

/// What a group's read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Purpose {
    /// To learn the current revision, for watches from now.
    Now,
    /// To learn whether the user may have the keys, for watches that were denied.
    Denial,
}

/// One read that the machine asked the driver for by [`Action::Range`](crate::Action::Range).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeKey {
    pub(crate) number: u64,
    pub(crate) asker: Asker,
}

impl fmt::Debug for RangeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "range {}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn keys_tell_what_they_are_of() {
        let stream = StreamKey { stream: StreamId(7), connection: 5 };
        assert_eq!((stream.stream().number(), stream.connection()), (7, 5));
        let watch = WatchKey { number: 3, index: 1 };
        let range = RangeKey { number: 4, asker: Asker::Stream(stream) };
        let shown = format!("{stream:?}, {:?}, {watch:?}, {range:?}", stream.stream());
        assert_eq!(shown, "stream 7.5, stream 7, watch 3, range 4");
    }
}
