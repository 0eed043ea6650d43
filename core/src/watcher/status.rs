//! What can be asked of the machine, without changing it.

use super::Watcher;
use crate::{
    CloseReason, Instant, KeyRange, Stats, StreamId, StreamKey, WatchKey, WatchStats,
    stream::{Stream, open::Connection, progress::Progress},
    watch::{Watch, table::Order},
};

/// At how many watches of each order [`Watcher::max_lag`] looks.
const LAGS: usize = 32;

impl Watcher {
    /// Whether [`poll_action`](Self::poll_action) may have something to say. `false` is certain, and cheap:
    /// who has just called [`next`](Self::next) needn't drain the actions then. `true` can turn out to be
    /// nothing, such as a cancel for a stream that is gone.
    #[must_use]
    pub fn has_actions(&self) -> bool {
        !self.reads_due.is_empty() || !self.actions.is_empty() || !self.cancels.is_empty()
    }

    /// Whether to read more from the stream. False while a slow consumer with
    /// [`Overflow::Pause`](crate::Overflow::Pause) is behind, and for a connection that is gone.
    #[must_use]
    pub fn wants_frame(&self, stream: StreamKey) -> bool {
        let connection = self.streams.current(stream).and_then(Stream::connection);
        connection.is_some_and(Connection::is_read)
    }

    /// The revision at which the watch would go on if its stream broke now: 0 while a watch "from now"
    /// does not know its now, `None` for a watch that has ended.
    #[must_use]
    pub fn resume_revision(&self, watch: WatchKey) -> Option<i64> {
        self.watches.get(watch).map(|watch| watch.next_revision(self.progress_of(watch)))
    }

    /// The manual progress of the connection that a watch is on.
    fn progress_of(&self, watch: &Watch) -> Option<&Progress> {
        self.streams.get(watch.stream()).and_then(Stream::connection).map(Connection::progress)
    }

    /// The keys that are watched; `None` for a watch that has ended.
    #[must_use]
    pub fn range(&self, watch: WatchKey) -> Option<KeyRange> {
        self.watches.get(watch).map(|watch| watch.keys().to_range())
    }

    /// What has been done so far, and what is held now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { streams: self.streams.len(), queued_bytes: self.held_bytes, ..self.stats }
    }

    /// [`Stats::state_changes`] alone: whether anything has changed its state is cheap to find out.
    #[must_use]
    pub fn state_changes(&self) -> u64 {
        self.stats.state_changes
    }

    /// The present connection of a stream, or the one it waits to open; `None` for a stream that is gone.
    #[must_use]
    pub fn stream(&self, stream: StreamId) -> Option<StreamKey> {
        self.streams.get(stream).map(Stream::key)
    }

    /// When the last lawful frame came on a connection; `None` when none has come, or when the connection is gone.
    #[must_use]
    pub fn last_frame(&self, stream: StreamKey) -> Option<Instant> {
        self.streams.current(stream).and_then(Stream::connection).and_then(Connection::heard)
    }

    /// Why a watch has ended, while its `Closed` has not been taken.
    #[must_use]
    pub fn close_reason(&self, watch: WatchKey) -> Option<&CloseReason> {
        self.watches.get(watch).and_then(Watch::close_reason)
    }

    /// [`WatchStats::behind_since`] of a watch that has ended, while its `Closed` has not been taken; `None` for every
    /// other. Cheap, unlike all statistics.
    #[must_use]
    pub fn ended_behind(&self, watch: WatchKey) -> Option<Instant> {
        self.watches.get(watch).and_then(Watch::ended_behind)
    }

    /// How one watch is doing; `None` when its `Closed` has been taken. Counts what waits, so it takes
    /// longer the more that is.
    #[must_use]
    pub fn watch_stats(&self, watch: WatchKey) -> Option<WatchStats> {
        self.watches.get(watch).map(|watch| self.stats_of(watch))
    }

    /// How every watch is doing.
    pub fn all_watch_stats(&self) -> impl Iterator<Item = (WatchKey, WatchStats)> + '_ {
        self.watches.iter().map(|(key, watch)| (key, self.stats_of(watch)))
    }

    /// The largest [`lag`](WatchStats::lag) there is. Looks only at watches for whose consumers something waits, and at
    /// 64 of them at most, whose consumers have taken nothing for longest: 32 whose buffers may be dropped, and 32 whose
    /// buffers are kept ([`Overflow::Pause`](crate::Overflow::Pause), and watches that have ended). With more than that
    /// it is the largest among these.
    #[must_use]
    pub fn max_lag(&self) -> u64 {
        let longest = |order| self.watches.waiting(order).take(LAGS).map(|(_, watch)| watch.lag()).max();
        longest(Order::Droppable).max(longest(Order::Kept)).unwrap_or(0)
    }

    fn stats_of(&self, watch: &Watch) -> WatchStats {
        watch.stats(self.streams.get(watch.stream()).map(Stream::key), self.progress_of(watch))
    }

    /// When a stream that has failed is opened again, for the log: ask after
    /// [`handle_failed`](Self::handle_failed) or [`Action::Close`](crate::Action::Close), with the key of the
    /// connection that ended. `None` when nothing waits to replace it: because it was not needed any more, or
    /// because its successor is being opened already.
    #[must_use]
    pub fn reopens_at(&self, stream: StreamKey) -> Option<Instant> {
        let is_next = |next: &&Stream| next.key().connection == stream.connection.wrapping_add(1);
        self.streams.get(stream.stream).filter(is_next).and_then(Stream::backoff_until)
    }

    /// How many times in a row the stream has failed, through all its connections: 0 once one has proved itself, by
    /// events or by a life as long as the longest backoff. (Breaches of the protocol count for longer.)
    #[must_use]
    pub fn failures_in_a_row(&self, stream: StreamKey) -> u32 {
        self.streams.get(stream.stream).map_or(0, |stream| stream.attempts().failures())
    }
}
