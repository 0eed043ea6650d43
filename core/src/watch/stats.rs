//! How one watch is doing.

use super::{State, Watch};
use crate::{Instant, StreamKey, WatchState, WatchStats, stream::progress::Progress};

impl Watch {
    /// How many revisions lie between what the consumer has taken and the newest that waits for it.
    pub(crate) fn lag(&self) -> u64 {
        let Some(newest) = self.queue.newest_revision() else { return 0 };
        let before_first = self.place.point().map_or(0, |point| point.start().saturating_sub(1));
        let taken = self.counts.taken.max(before_first);
        u64::try_from(newest.saturating_sub(taken)).unwrap_or(0)
    }

    /// Since when it has been behind, if it has ended.
    pub(crate) fn ended_behind(&self) -> Option<Instant> {
        self.is_closed().then_some(self.counts.behind)
    }

    /// For statistics. A closed watch is on no stream.
    pub(crate) fn stats(&self, stream: Option<StreamKey>, progress: Option<&Progress>) -> WatchStats {
        let state = match self.state {
            State::AwaitingRevision { .. } => WatchState::AwaitingRevision,
            State::Queued | State::Denied(_) => WatchState::Waiting,
            State::Creating { .. } => WatchState::Creating,
            State::Live(_) => WatchState::Active,
            State::Overflowed => WatchState::Overflowed,
            State::Closed => WatchState::Closed,
        };
        let point = self.place.point();
        let (queued_responses, queued_events) = self.queue.count();
        WatchStats {
            state,
            since: self.counts.since,
            behind_since: self.counts.behind,
            missed_through: self.live().filter(|live| live.has_missed).map_or(0, |live| live.created_at),
            stream: stream.filter(|_| !self.is_closed()),
            resume_revision: self.next_revision(progress),
            accepted_revision: point.map_or(0, |point| point.accepted()),
            taken_revision: self.counts.taken,
            lag: self.lag(),
            queued_responses,
            queued_events,
            queued_bytes: self.held(),
            buffer_limit: self.queue.limit(),
            events: self.counts.events,
            recreates: self.counts.recreates,
            overflows: self.counts.overflows,
            stale_events: self.counts.stale_events,
        }
    }
}
