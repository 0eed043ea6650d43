//! What happens because time has passed.

use core::time::Duration;

use super::Watcher;
use crate::{
    CloseReason, Instant, Remedy, ServerMisbehaved, StreamEnd, StreamId, TimeoutReason, WatchKey,
    deadlines::Owner,
    stream::{hearing::Listened, lag::Waited},
    time::millis,
};

/// How many timeouts of one stream are handled in one call: more than can lawfully be due together. At the end of
/// time every deadline is due for ever.
const TIMEOUTS_AT_ONCE: usize = 16;

impl Watcher {
    /// Does what is due at `now`; nothing, if it is early. It costs in proportion to what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        for owner in self.deadlines.passed(now) {
            match owner {
                Owner::Stream(id) => self.stream_timeouts(now, id),
                Owner::Read(id, purpose) => self.read_timeout(now, id, purpose),
            }
            self.settle();
        }
    }

    fn stream_timeouts(&mut self, now: Instant, id: StreamId) {
        for _ in 0..TIMEOUTS_AT_ONCE {
            let due = self.streams.get(id).and_then(|stream| stream.due(&self.config));
            let Some((_, reason)) = due.filter(|&(at, _)| at <= now) else { break };
            self.stream_timeout(now, id, reason);
        }
    }

    /// One timeout of a stream. Each moves or clears its own deadline, so that it isn't due again now.
    fn stream_timeout(&mut self, now: Instant, id: StreamId, reason: TimeoutReason) {
        let unresponsive = |after: Duration| ServerMisbehaved::Unresponsive { millis: millis(after) };
        match reason {
            TimeoutReason::Reconnect => self.open(now, id),
            TimeoutReason::Linger => self.remove_stream(id, StreamEnd::Idle),
            TimeoutReason::AnswerDue => self.misbehaved(now, id, unresponsive(self.config.answer_timeout)),
            TimeoutReason::ProbeDue => self.misbehaved(now, id, unresponsive(self.config.probe_timeout)),
            TimeoutReason::Probe => {
                let due = now + self.config.probe_timeout;
                if let Some(connection) = self.streams.get_mut(id).and_then(|stream| stream.connection_mut())
                {
                    connection.expect_sign_of_life(due);
                }
                self.probe(now, id);
            }
            TimeoutReason::Progress => self.progress_timeout(now, id),
            TimeoutReason::Listen => self.listen_timeout(now, id),
            TimeoutReason::Create => {
                let watches = &self.watches;
                let is_queued = |key| watches.get(key).is_some_and(|watch| watch.is_queued());
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.line_up_more(now, &self.config, is_queued);
                }
                self.send_creates(id);
            }
            TimeoutReason::Lagging => self.lag_timeout(now, id),
            TimeoutReason::GiveUp => {
                self.give_up_if_due(now, id);
                // Whatever happens next is a new attempt.
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.attempts_mut().stop_clock();
                }
            }
            TimeoutReason::RetryRange | TimeoutReason::RetryList => {
                debug_assert!(false, "{reason:?} is no stream's");
            }
        }
    }

    fn progress_timeout(&mut self, now: Instant, id: StreamId) {
        let Some(stream) = self.streams.known_mut(id) else { return };
        let key = stream.key();
        let connection = stream.connection_mut();
        if connection.is_some_and(|connection| connection.progress_mut().take_turn(now)) {
            self.send_progress_request(key);
        }
    }

    /// A watch behind a proxy is looked at: ask the store whether there is more for it, and in the end replace what it
    /// travels on.
    fn listen_timeout(&mut self, now: Instant, id: StreamId) {
        let watches = &self.watches;
        let Some(stream) = self.streams.known_mut(id) else { return };
        match stream.listened(now, &self.config, |key, progress| watches.get(key)?.spot(progress)) {
            Listened::Nothing => {}
            Listened::Ask { watch, next_revision } => self.ask_for_missed(now, id, watch, next_revision),
            Listened::Deaf { watch, revision } => self.replace_deaf(now, id, watch, revision),
        }
    }

    /// A member has been behind for a while: ask it again, try another, and in the end believe it.
    fn lag_timeout(&mut self, now: Instant, id: StreamId) {
        let watches = &self.watches;
        let is_here = |key: WatchKey| watches.get(key).is_some_and(|watch| watch.live_id().is_some());
        let Some(stream) = self.streams.known_mut(id) else { return };
        match stream.lag_mut().waited(now, &self.config, is_here) {
            Waited::Over => {}
            Waited::Ask => self.probe(now, id),
            Waited::TryAnother { revision, known } => {
                let end = StreamEnd::Lagging { revision, known };
                self.replace(now, id, Remedy::RetryElsewhere, Some(end));
            }
            Waited::WentBack { revision, watches } => {
                stream.forget_shown();
                for (known, key) in watches {
                    self.close(key, CloseReason::StoreRegressed { known, revision });
                }
            }
        }
    }
}
