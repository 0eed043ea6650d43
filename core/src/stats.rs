//! Counters, for the client as a whole and for each watch.

use crate::{Instant, StreamKey};

/// What a [`Watcher`](crate::Watcher) has done so far, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames received on live streams.
    pub frames: u64,
    /// Bytes in these frames.
    pub frame_bytes: u64,
    /// Events accepted for delivery.
    pub events: u64,
    /// Events dropped because they had been delivered before.
    pub stale_events: u64,
    /// Events that came at or below a progress revision already announced. They were delivered; their
    /// stream's progress replies were believed no more.
    pub overtaken_events: u64,
    /// Manual progress replies that were not believed, because of the server's version or its record.
    pub untrusted_progress: u64,
    /// Progress notifications received, periodic ones and replies to manual requests, believed or not.
    pub progress_notifications: u64,
    /// Responses handed to consumers; what waited together counts as one.
    pub responses: u64,
    /// Create requests sent.
    pub creates: u64,
    /// Of these, the ones that resumed a watch that had been created before.
    pub recreates: u64,
    /// Cancel requests sent.
    pub cancels: u64,
    /// Streams opened, the first ones included.
    pub opens: u64,
    /// Streams that failed or were replaced after they had been opened.
    pub reconnects: u64,
    /// Streams given up because the driver wanted them elsewhere; not among the reconnects.
    pub moves: u64,
    /// Times a server broke the protocol.
    pub misbehaved: u64,
    /// Times a watch was found to hear nothing any more, because a proxy had lost it. Its stream was replaced, with all
    /// others through a proxy on which the same keys were watched.
    pub deaf: u64,
    /// Times a watch's buffer was full and its policy applied.
    pub overflows: u64,
    /// Times that a watch or a stream changed its state: opened, created, away from its server, ended.
    pub state_changes: u64,
    /// Watches open now.
    pub watches: usize,
    /// Streams now.
    pub streams: usize,
    /// Of these, the ones that are open: the others are being opened, or wait before they are opened again.
    pub open_streams: usize,
    /// Bytes held for consumers now: what waits for them, and what has come of revisions that are not complete.
    pub queued_bytes: usize,
}

/// Where a watch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WatchState {
    /// It starts "now", and the store's current revision is being read.
    AwaitingRevision,
    /// It waits for its stream to open, for its turn on it, or for word whether a denial stands.
    Waiting,
    /// Its create request is on its way.
    Creating,
    /// It runs on the server.
    Active,
    /// Its buffer was full, or all buffers together were: it is off the server until its consumer has found the buffer
    /// empty.
    Overflowed,
    /// It has ended; what waits can still be taken.
    Closed,
}

/// One watch: where it is, what waits for its consumer, and what has happened to it.
///
/// Three revisions say how far it is, in this order: what the consumer has taken, what has been accepted
/// for it, and where it would resume. Counters of 32 bits stay at their largest value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchStats {
    /// Where it stands.
    pub state: WatchState,
    /// Since when it runs on the server, if it does; else since when it doesn't: since it left the server, or since it
    /// was opened if it has not been there. A watch that ends without being on the server keeps that time.
    pub since: Instant,
    /// Since when its consumer has lacked changes that the store may have had: since it left the server, or was opened,
    /// and until its consumer has taken everything up to [`missed_through`](Self::missed_through). Leaving the server
    /// again before that does not begin it anew. Once it has caught up it says nothing.
    pub behind_since: Instant,
    /// While it runs on the server: up to which revision there may be changes that it had missed when the server created
    /// it there, which was the store's revision then. 0 where it had missed none, and where nothing would tell that it
    /// has caught up: without [`progress_notify`](crate::WatchRequest::progress_notify), on servers before 3.4.31 and
    /// 3.5.13, whose answers about progress can't be believed or may not come, and through gRPC proxies.
    pub missed_through: i64,
    /// The stream it travels on, or will when that is open; `None` once it has ended.
    pub stream: Option<StreamKey>,
    /// The revision at which it would go on if its stream broke now; 0 while "now" is not known.
    pub resume_revision: i64,
    /// The last revision whose events have all been accepted; before the first, the one before the start; 0
    /// while "now" is not known.
    pub accepted_revision: i64,
    /// The consumer has taken everything up to this revision; 0 before it has taken anything.
    pub taken_revision: i64,
    /// How many revisions of the store lie between what the consumer has taken and the newest that waits for
    /// it, those without events for this watch included; 0 when nothing waits.
    pub lag: u64,
    /// Responses that wait, before they are merged.
    pub queued_responses: usize,
    /// Events that wait.
    pub queued_events: usize,
    /// Bytes held for its consumer: what waits, and what has come of a revision that is not complete.
    pub queued_bytes: usize,
    /// How many bytes may wait now: between the configured floor and the watch's budget.
    pub buffer_limit: usize,
    /// Events handed to the consumer.
    pub events: u64,
    /// Times it was created anew after it had run before.
    pub recreates: u32,
    /// Times its buffer was full and its policy applied.
    pub overflows: u32,
    /// Events dropped because they had been delivered before.
    pub stale_events: u32,
}
