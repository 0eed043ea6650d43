//! Handles: what the driver and the machine call a watch, a stream, a read.

use core::fmt;

/// One watch of a [`Watcher`](crate::Watcher), from `watch` to its `Closed`. Never reused, and not the
/// id the server knows it by: that changes with every stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchKey(pub(crate) u64);

impl fmt::Debug for WatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watch {}", self.0)
    }
}

/// One incarnation of one gRPC stream. After a reconnect the stream has a new key, so whatever a dead
/// stream still says under its old one is ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    pub(crate) lane: u32,
    pub(crate) incarnation: u32,
}

impl StreamKey {
    /// Which of the client's streams this is; the number stays when the stream is replaced. A driver
    /// can remember by it which endpoint the last incarnation ran on.
    #[must_use]
    pub const fn lane(self) -> u32 {
        self.lane
    }

    /// How many times the stream has been opened before, counted from 0.
    #[must_use]
    pub const fn incarnation(self) -> u32 {
        self.incarnation
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}.{}", self.lane, self.incarnation)
    }
}

/// One read of the current revision that the machine asked the driver for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeKey(pub(crate) u64);

impl fmt::Debug for RangeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "range {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn keys_tell_what_they_are_of() {
        let stream = StreamKey { lane: 7, incarnation: 5 };
        assert_eq!((stream.lane(), stream.incarnation()), (7, 5));
        let shown = format!("{stream:?}, {:?}, {:?}", WatchKey(3), RangeKey(4));
        assert_eq!(shown, "stream 7.5, watch 3, range 4");
    }
}
