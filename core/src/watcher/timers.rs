//! What happens because time has passed.

use core::time::Duration;

use super::Watcher;
use crate::{
    Action, CloseReason, Instant, Remedy, Request, ServerMisbehaved, StreamEnd, TimeoutReason, WatchKey,
    reads::Shown, time::millis, watch::SharedOptions,
};

/// How often a member that lags is asked for its revision, as a part of the deadline.
const LAG_QUESTIONS: u32 = 8;

/// How many timeouts of one lane are handled in one call: more than can lawfully be due together.
const TIMEOUTS_AT_ONCE: usize = 16;

impl Watcher {
    /// Does what is due at `now`; nothing, if it is early.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        for number in self.lane_numbers() {
            // A stream that is replaced on the way has other timeouts than the list says.
            // At the end of time every deadline is due for ever: hence the limit.
            for _ in 0..TIMEOUTS_AT_ONCE {
                let Some(lane) = self.lanes.get(&number) else { break };
                let due = lane.timeouts(&self.config).filter(|&(at, _)| at <= now).min();
                let Some((_, reason)) = due else { break };
                self.lane_timeout(now, number, reason);
            }
        }
        let due = |(options, group): (&SharedOptions, &crate::reads::Group)| {
            group.timeouts(&self.config).any(|(at, _)| at <= now).then(|| options.clone())
        };
        let groups: alloc::vec::Vec<SharedOptions> = self.groups.iter().filter_map(due).collect();
        for options in groups {
            self.group_timeout(now, &options);
        }
    }

    /// One timeout of a lane. Each moves or clears its own deadline, so that it isn't due again now.
    fn lane_timeout(&mut self, now: Instant, number: u32, reason: TimeoutReason) {
        let answer_timeout = self.config.answer_timeout;
        let probe_timeout = self.config.probe_timeout;
        let unresponsive = |after: Duration| ServerMisbehaved::Unresponsive { millis: millis(after) };
        match reason {
            TimeoutReason::Reconnect => self.open_lane(now, number),
            TimeoutReason::Linger => self.remove_lane(number, StreamEnd::Idle),
            TimeoutReason::AnswerDue => self.misbehaved(now, number, unresponsive(answer_timeout)),
            TimeoutReason::ProbeDue => self.misbehaved(now, number, unresponsive(probe_timeout)),
            TimeoutReason::Probe => {
                if let Some(stream) = self.open_stream(number) {
                    stream.probe_due = Some(now + probe_timeout);
                    self.probe(now, number);
                }
            }
            TimeoutReason::Progress => self.request_stream_progress(now, number),
            TimeoutReason::Lagging => self.lag_timeout(now, number),
            TimeoutReason::GiveUp => {
                self.give_up_if_due(now, number);
                // Whatever happens next is a new attempt.
                if let Some(lane) = self.lanes.get_mut(&number) {
                    lane.patience.proved();
                }
            }
            TimeoutReason::RetryRange | TimeoutReason::RetryList => {}
        }
    }

    /// Sends a progress request on a lane's stream, unless too many are unanswered.
    pub(super) fn request_stream_progress(&mut self, now: Instant, number: u32) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        let key = lane.key();
        let Some(stream) = lane.stream() else { return };
        if stream.take_progress_turn(now) {
            self.actions.push_back(Action::Send { stream: key, request: Request::Progress, creates: None });
        }
    }

    /// A watch wants to know how far it is.
    pub(super) fn want_progress(&mut self, now: Instant, number: u32, watch: WatchKey) {
        if let Some(stream) = self.open_stream(number) {
            stream.wanting.insert(watch);
            self.request_stream_progress(now, number);
        }
    }

    /// A member has been behind for a while: ask it again, try another, and in the end believe it.
    fn lag_timeout(&mut self, now: Instant, number: u32) {
        let deadline = self.config.lag_deadline;
        let Some(lag) = self.lanes.get_mut(&number).and_then(|lane| lane.lag.as_mut()) else { return };
        if now < lag.since + deadline {
            lag.ask_at = now + (deadline / LAG_QUESTIONS).max(Duration::from_nanos(1));
            self.probe(now, number);
            return;
        }
        let revision = lag.revision;
        let watches: alloc::vec::Vec<WatchKey> = lag.watches.iter().copied().collect();
        let known = |watch: &WatchKey| self.watches.get(watch).map_or(0, |watch| watch.known);
        if lag.moved {
            for watch in watches {
                let known = self.watches.get(&watch).map_or(0, |watch| watch.known);
                self.close_watch(watch, CloseReason::StoreRegressed { known, revision });
            }
            if let Some(lane) = self.lanes.get_mut(&number) {
                lane.lag = None;
                // What it has shown is history of a store that is gone.
                lane.shown = Shown::default();
            }
        } else {
            let known = watches.iter().map(known).max().unwrap_or(0);
            lag.moved = true;
            lag.since = now;
            self.replace_stream(
                now,
                number,
                Remedy::RetryElsewhere,
                Some(StreamEnd::Lagging { revision, known }),
            );
        }
    }
}
