//! What can be asked of the machine, without changing it.

use super::Watcher;
use crate::{
    Instant, KeyRange, Stats, StreamKey, WatchKey, WatchState, WatchStats,
    stream::{Lane, LaneState},
    watch::{State, Substream},
};

impl Watcher {
    /// Whether [`poll_action`](Self::poll_action) may have something to say. `false` is certain, and cheap:
    /// who has just called [`next`](Self::next) needn't drain the actions then. `true` can turn out to be
    /// nothing, such as a cancel for a stream that is gone.
    #[must_use]
    pub fn has_actions(&self) -> bool {
        self.reads_due || !self.actions.is_empty() || !self.cancels.is_empty()
    }

    /// Whether to read more from the stream. False while a slow consumer with
    /// [`Overflow::Pause`](crate::Overflow::Pause) is behind, and for a stream that is gone.
    #[must_use]
    pub fn wants_frame(&self, stream: StreamKey) -> bool {
        self.lanes.get(&stream.lane).is_some_and(|lane| {
            lane.incarnation == stream.incarnation
                && lane.holds == 0
                && matches!(lane.state, LaneState::Open(_))
        })
    }

    /// The revision at which the watch would go on if its stream broke now: 0 while a watch "from now"
    /// does not know its now, `None` for a watch that has ended.
    #[must_use]
    pub fn resume_revision(&self, watch: WatchKey) -> Option<i64> {
        self.watches.get(&watch).map(|watch| watch.next_revision())
    }

    /// The keys that are watched; `None` for a watch that has ended.
    #[must_use]
    pub fn range(&self, watch: WatchKey) -> Option<&KeyRange> {
        self.watches.get(&watch).map(|watch| &watch.range)
    }

    /// What has been done so far, and what is held now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            watches: self.lanes.values().map(|lane| lane.watches.len()).sum(),
            streams: self.lanes.len(),
            queued_bytes: self.queued_bytes,
            ..self.stats
        }
    }

    /// How one watch is doing; `None` when its `Closed` has been taken. Counts what waits, so it takes
    /// longer the more that is.
    #[must_use]
    pub fn watch_stats(&self, watch: WatchKey) -> Option<WatchStats> {
        self.watches.get(&watch).map(|watch| self.stats_of(watch))
    }

    /// How every watch is doing, in the order in which they were opened.
    pub fn all_watch_stats(&self) -> impl Iterator<Item = (WatchKey, WatchStats)> + '_ {
        self.watches.iter().map(|(&key, watch)| (key, self.stats_of(watch)))
    }

    /// When a stream that has failed is opened again, for the log: ask after
    /// [`handle_failed`](Self::handle_failed) or [`Action::Close`](crate::Action::Close), with the key of the
    /// stream that ended. `None` when nothing waits to replace it: because it was not needed any more, or
    /// because its successor is being opened already.
    #[must_use]
    pub fn reopens_at(&self, stream: StreamKey) -> Option<Instant> {
        let lane = self.lanes.get(&stream.lane)?;
        match lane.state {
            LaneState::Backoff { until } if lane.incarnation == stream.incarnation.wrapping_add(1) => {
                Some(until)
            }
            _ => None,
        }
    }

    /// How many times in a row the stream has failed, through all its incarnations: 0 once one has proved
    /// itself by a frame. (Breaches of the protocol count for longer.)
    #[must_use]
    pub fn failures_in_a_row(&self, stream: StreamKey) -> u32 {
        self.lanes.get(&stream.lane).map_or(0, |lane| lane.backoff.failures())
    }

    fn stats_of(&self, watch: &Substream) -> WatchStats {
        let state = match watch.state {
            State::AwaitingRevision => WatchState::AwaitingRevision,
            State::Waiting | State::Denied(_) => WatchState::Waiting,
            State::Creating => WatchState::Creating,
            State::Active(_) => WatchState::Active,
            State::Overflowed => WatchState::Overflowed,
            State::Closed => WatchState::Closed,
        };
        let lane = self.lanes.get(&watch.lane).filter(|_| !watch.is_closed());
        let waiting = watch.queue.responses();
        let before_first = watch.resume.map_or(0, |point| point.start().saturating_sub(1));
        let newest = waiting.back().map(|response| response.resume_revision().saturating_sub(1));
        let taken = watch.counts.taken.max(before_first);
        WatchStats {
            state,
            stream: lane.map(Lane::key),
            resume_revision: watch.next_revision(),
            accepted_revision: watch.resume.map_or(0, |point| point.accepted()),
            taken_revision: watch.counts.taken,
            lag: newest.map_or(0, |newest| u64::try_from(newest.saturating_sub(taken)).unwrap_or(0)),
            queued_responses: waiting.len(),
            queued_events: waiting.iter().map(|response| response.len()).sum(),
            queued_bytes: watch.queue.bytes(),
            buffer_limit: watch.queue.limit(),
            events: watch.counts.events,
            recreates: watch.counts.recreates,
            overflows: watch.counts.overflows,
            stale_events: watch.counts.stale_events,
        }
    }
}
