//! The effects of verdicts: the one place that changes several of watches, streams and reads at once, and that makes
//! actions. Here: what becomes of one watch. `delivery.rs` is between watches and consumers, `streams.rs` opens and
//! replaces connections, `reads.rs` asks for reads.

mod delivery;
mod reads;
mod streams;

use super::Watcher;
use crate::{
    Action, CloseReason, Code, Failure, Header, Instant, Remedy, StreamEnd, StreamId, WatchKey,
    attempts::Backoff,
    key::Purpose,
    watch::{Verdict, Watch},
};

/// How many watches of a stream are looked at to find out how its member serves them.
const SAMPLE: usize = 64;

impl Watcher {
    /// Does what was found to be right for a watch, or because of it.
    pub(super) fn apply(&mut self, now: Instant, key: WatchKey, verdict: Verdict) {
        let Some(id) = self.watches.known_mut(key).map(|watch| watch.stream()) else { return };
        match verdict {
            Verdict::End(reason) => self.close(key, reason),
            Verdict::Recreate { before } => self.recreate(now, key, before),
            Verdict::TryElsewhere { before, .. } if self.serves_another_well(now, id, key) => {
                self.recreate(now, key, before);
            }
            Verdict::TryElsewhere { end, .. } => {
                self.leave_member(now, id, Remedy::RetryElsewhere, end);
            }
            Verdict::LookInto { message } => {
                let Some(stream) = self.streams.known_mut(id) else { return };
                let (connection, group) = (stream.key().connection, stream.group());
                self.take_off(key, |watch| watch.deny(connection, message));
                self.wait_for_read(group, Purpose::Denial, key);
            }
            Verdict::TokenRefused { message } => {
                self.token_refused(now, id, message, Some(StreamEnd::TokenExpired));
            }
            Verdict::Replace { remedy, end } => self.leave_member(now, id, remedy, end),
        }
    }

    /// Replaces the connection to a member that is of no use.
    fn leave_member(&mut self, now: Instant, id: StreamId, remedy: Remedy, end: StreamEnd) {
        if let (Some(stream), StreamEnd::Unavailable { message }) = (self.streams.get_mut(id), &end) {
            let failure = Failure::status(Code::Unavailable, message.clone());
            stream.attempts_mut().failed(now, &failure, remedy);
        }
        self.replace(now, id, remedy, Some(end));
        self.give_up_if_due(now, id);
    }

    /// Whether the connection of a stream serves another watch than this one well: it is left in peace then. A few
    /// others stand for all.
    fn serves_another_well(&self, now: Instant, id: StreamId, key: WatchKey) -> bool {
        let is_well = |other| {
            self.watches
                .get(other)
                .is_some_and(|watch| watch.is_served_well(now, self.config.backoff_ceiling))
        };
        let watches = self.streams.get(id).into_iter().flat_map(|stream| stream.watches().iter());
        watches.filter(|&other| other != key).take(SAMPLE).any(is_well)
    }

    /// Has a watch created again: at once, or after a pause that grows with the number of times in a row that it was
    /// sent away before.
    fn recreate(&mut self, now: Instant, key: WatchKey, before: u32) {
        let Some(id) = self.watches.known_mut(key).map(|watch| watch.stream()) else { return };
        self.take_off(key, Watch::queue_again);
        if before == 0 {
            self.line_up(id, key);
            return;
        }
        let pause = Backoff::after(before - 1).next(&self.config, &mut self.rng);
        if let Some(connection) = self.streams.get_mut(id).and_then(|stream| stream.connection_mut()) {
            connection.creates().enqueue_at(now + pause, key);
        }
    }

    /// Takes a watch off its server, if it is there, and puts it into another state. Its stream keeps it.
    fn take_off(&mut self, key: WatchKey, change: impl FnOnce(&mut Watch)) {
        let Some(watch) = self.watches.known_mut(key) else { return };
        let stream = self.streams.get_mut(watch.stream());
        let (server_id, is_holding) = (watch.live_id(), watch.is_holding());
        if let Some(connection) = stream.as_ref().and_then(|stream| stream.connection()) {
            watch.settle(connection.progress());
        }
        if server_id.is_some() {
            watch.is_away_since(self.now);
        }
        change(watch);
        self.stats.state_changes += 1;
        self.held_bytes = self.held_bytes.saturating_add_signed(watch.recount());
        let (Some(stream), Some(server_id)) = (stream, server_id) else { return };
        let stream_key = stream.key();
        if is_holding {
            stream.release(self.now);
        }
        if stream.connection_mut().is_some_and(|connection| connection.depart(server_id, key)) {
            self.cancels.push_back((stream_key, server_id));
        }
    }

    /// Ends a watch for good: takes it off its stream and leaves its `Closed` behind what waits.
    pub(super) fn close(&mut self, key: WatchKey, reason: CloseReason) {
        let Some(watch) = self.watches.get(key).filter(|watch| !watch.is_closed()) else { return };
        let (id, known) = (watch.stream(), watch.place().shown());
        self.take_off(key, |watch| watch.close(reason));
        self.stats.watches -= 1;
        self.list_again(key);
        self.tell(key);
        let Some(stream) = self.streams.known_mut(id) else { return };
        let before = stream.watches().len();
        stream.remove(self.now, key, known);
        let (group, is_own, is_left) = (stream.group(), stream.is_own(), stream.watches().is_empty());
        let is_waiting = stream.backoff_until().is_some();
        if let Some(group) = self.groups.get_untouched(group).filter(|_| !is_own) {
            group.count_watches(id, before, before - 1, &self.config);
        }
        // No other watch may join a stream that was one watch's own.
        if is_left && (is_waiting || is_own) {
            self.remove_stream(id, StreamEnd::Idle);
        }
    }

    /// A watch that has ended: what waits for its consumer is kept now, or was thrown away.
    fn list_again(&mut self, key: WatchKey) {
        let Some(watch) = self.watches.get(key) else { return };
        let order = (!watch.queue().is_empty()).then(|| watch.order());
        match order {
            None => self.watches.unlist(key),
            Some(order) if self.watches.order(key) != Some(order) => self.watches.list_last(key, order),
            Some(_) => {}
        }
    }

    /// Has the consumer told that there is something, once per edge.
    fn tell(&mut self, key: WatchKey) {
        if self.watches.get_mut(key).is_some_and(Watch::notify) {
            self.actions.push_back(Action::Deliver { watch: key });
        }
    }

    pub(super) fn close_all(&mut self, id: StreamId, reason: &CloseReason) {
        let watches = self.streams.get(id).map(|stream| stream.watches().iter());
        let watches: alloc::vec::Vec<WatchKey> = watches.into_iter().flatten().collect();
        watches.into_iter().for_each(|key| self.close(key, reason.clone()));
    }

    /// Whether another cluster speaks than the watch's; the watch ends if so.
    pub(super) fn check_cluster(&mut self, key: WatchKey, header: Header) -> bool {
        let Some(watch) = self.watches.known_mut(key) else { return true };
        let reason = watch.place_mut().check_cluster(header);
        let is_other = reason.is_some();
        if let Some(reason) = reason {
            self.close(key, reason);
        }
        is_other
    }
}
