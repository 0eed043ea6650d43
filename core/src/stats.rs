//! Counters.

/// What a [`Watcher`](crate::Watcher) has done so far, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames received on live streams.
    pub frames: u64,
    /// Events accepted for delivery.
    pub events: u64,
    /// Events dropped because they had been delivered before.
    pub stale_events: u64,
    /// Events that came at or below a progress revision already announced. They were delivered; their
    /// stream's progress replies were believed no more.
    pub overtaken_events: u64,
    /// Manual progress replies that were not believed, because of the server's version or its record.
    pub untrusted_progress: u64,
    /// Create requests sent.
    pub creates: u64,
    /// Of these, the ones that resumed a watch that had been created before.
    pub recreates: u64,
    /// Streams opened, the first ones included.
    pub opens: u64,
    /// Streams that failed or were replaced after they had been opened.
    pub reconnects: u64,
    /// Times a server broke the protocol.
    pub misbehaved: u64,
    /// Times a watch's buffer was full and its policy applied.
    pub overflows: u64,
    /// Watches open now.
    pub watches: usize,
    /// Streams now.
    pub streams: usize,
    /// Bytes waiting for consumers now.
    pub queued_bytes: usize,
}
