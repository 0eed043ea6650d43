//! Between watches and consumers: what waits, how much may, and what happens when it is too much.
//!
//! | too much | who pays | how, by the watch's policy |
//! |---|---|---|
//! | for one consumer | its watch | `Replay`: it is cancelled on the server, the response that crossed the line is not kept, and etcd is asked for it again when the consumer has drained. `Pause`: its connection isn't read. `Fail`: it ends before the response that crossed the line. |
//! | in all | the watches whose consumers have taken nothing for longest | `Replay`: what waits is dropped and asked for again when the consumer comes. `Fail`: it ends, and what waits is dropped. `Pause`: only when it receives something itself. |
//! | incomplete revisions in all | all but one watch, which goes on | the revision is asked for again after a pause |
//!
//! A response that is the only one that waits for its consumer is always kept, so that every consumer gets on.

use super::Watcher;
use crate::{
    Action, CloseReason, Instant, Overflow, StreamId, WatchKey, WatchResponse, watch::queue::Incoming,
};

/// A watch whose incomplete revision has no room is created again after a pause as long as if it had been sent away
/// this many times.
const SET_BACK: u32 = 4;

impl Watcher {
    /// Puts a notice before the consumer.
    pub(in crate::watcher) fn put_notice(&mut self, now: Instant, key: WatchKey, notice: WatchResponse) {
        let Some(watch) = self.watches.known_mut(key) else { return };
        let (is_first, base) = (watch.queue().is_empty(), watch.place().next_revision());
        self.put(now, key, Incoming::Response(notice), base);
        let is_over = self.watches.get_mut(key).is_some_and(|watch| watch.is_over(now, &self.config));
        if is_over && !is_first {
            self.overflow(key, None);
        }
    }

    /// Puts events before the consumer, if there is room. `base` is the revision to go on at otherwise.
    pub(in crate::watcher) fn put_events(
        &mut self,
        now: Instant,
        key: WatchKey,
        events: Incoming<'_>,
        base: i64,
    ) {
        let Some(watch) = self.watches.known_mut(key) else { return };
        let is_first = watch.queue().is_empty();
        let (bytes, is_over) = watch.weigh(now, &events, &self.config);
        let policy = watch.overflow();
        let can_be_refused = !is_first && policy != Overflow::Pause;
        // A response that its own watch may not keep is given no room at the cost of others.
        let has_room = !(can_be_refused && is_over) && self.make_room(key, bytes);
        if can_be_refused && !has_room {
            self.overflow(key, Some(base));
            return;
        }
        self.stats.events += events.len() as u64;
        self.put(now, key, events, base);
        // A consumer that has only one response to take is not slow; a pause has to come before the next one.
        if policy == Overflow::Pause && (is_over || !has_room) {
            self.overflow(key, None);
        }
    }

    fn put(&mut self, now: Instant, key: WatchKey, incoming: Incoming<'_>, base: i64) {
        let Some(watch) = self.watches.known_mut(key) else { return };
        let is_first = watch.queue().is_empty();
        watch.push(now, incoming, base, &self.config, &mut self.spares);
        self.held_bytes = self.held_bytes.saturating_add_signed(watch.recount());
        let (order, is_to_be_told) = (watch.order(), watch.notify());
        if is_first {
            self.watches.list(key, order);
        }
        if is_to_be_told {
            self.actions.push_back(Action::Deliver { watch: key });
        }
    }

    /// The consumer has taken a response.
    pub(in crate::watcher) fn taken(&mut self, key: WatchKey) {
        let Some(watch) = self.watches.known_mut(key) else { return };
        self.held_bytes = self.held_bytes.saturating_add_signed(watch.recount());
        let order = watch.order();
        if watch.queue().is_empty() {
            self.watches.unlist(key);
        } else {
            self.watches.list_last(key, order);
        }
    }

    /// The consumer of a watch that waits for it has taken something, or has found nothing.
    pub(in crate::watcher) fn go_on(&mut self, now: Instant, key: WatchKey) {
        let Some(watch) = self.watches.known_mut(key) else { return };
        let id = watch.stream();
        let is_empty = watch.queue().is_empty();
        let is_released = watch.is_holding() && watch.queue().has_room();
        if is_released {
            watch.set_holding(false);
        }
        // Once the queue is empty rather than once it is found empty: the server needs a moment.
        let is_caught_up = watch.is_overflowed() && is_empty;
        if is_caught_up {
            watch.queue_again();
        }
        if is_released && let Some(stream) = self.streams.get_mut(id) {
            stream.release(now);
        }
        if is_caught_up {
            self.line_up(id, key);
        }
    }

    /// Makes room for so many bytes of a watch, at the cost of those whose consumers have taken nothing for longer.
    /// False if there is not enough.
    fn make_room(&mut self, key: WatchKey, bytes: usize) -> bool {
        while self.held_bytes.saturating_add(bytes) > self.config.total_buffer_bytes {
            match self.watches.first_to_drop() {
                Some(first) if first != key => self.drop_waiting(first),
                _ => return false,
            }
        }
        true
    }

    /// Drops what waits for a consumer that has taken nothing for longer than any other.
    fn drop_waiting(&mut self, key: WatchKey) {
        self.watches.unlist(key);
        let Some(watch) = self.watches.known_mut(key) else { return };
        let queued_bytes = watch.queue().bytes();
        if watch.is_closed() {
            watch.drop_queue();
            self.held_bytes = self.held_bytes.saturating_add_signed(watch.recount());
            return;
        }
        let (policy, was_overflowed) = (watch.overflow(), watch.is_overflowed());
        self.take_off(key, |watch| {
            watch.overflow_from(None);
            watch.drop_queue();
        });
        if !was_overflowed {
            self.say_overflowed(key, queued_bytes);
        }
        if policy == Overflow::Fail {
            let next_revision = self.resume_revision(key).unwrap_or(0);
            self.close(key, CloseReason::Lagged { queued_bytes, next_revision });
        }
    }

    /// The watch's own consumer is too slow, or it may keep no more: its policy applies. `from` is the first revision
    /// whose events were not kept, if some weren't.
    fn overflow(&mut self, key: WatchKey, from: Option<i64>) {
        let Some(watch) = self.watches.known_mut(key) else { return };
        if watch.live_id().is_none() || watch.is_holding() {
            debug_assert!(from.is_none(), "events come to a watch that runs and is read");
            return;
        }
        let (queued_bytes, id, policy) = (watch.queue().bytes(), watch.stream(), watch.overflow());
        if policy == Overflow::Pause {
            watch.set_holding(true);
            self.hold(id);
        } else {
            self.take_off(key, |watch| watch.overflow_from(from));
        }
        self.say_overflowed(key, queued_bytes);
        if policy == Overflow::Fail {
            let next_revision = self.resume_revision(key).unwrap_or(0);
            self.close(key, CloseReason::Lagged { queued_bytes, next_revision });
        }
    }

    fn hold(&mut self, id: StreamId) {
        if let Some(connection) = self.streams.get_mut(id).and_then(|stream| stream.connection_mut()) {
            connection.hold();
        }
    }

    fn say_overflowed(&mut self, key: WatchKey, queued_bytes: usize) {
        let resume_revision = self.resume_revision(key).unwrap_or(0);
        let Some(watch) = self.watches.known_mut(key) else { return };
        watch.count_overflow();
        self.stats.overflows += 1;
        let policy = watch.overflow();
        self.actions.push_back(Action::Overflowed { watch: key, policy, queued_bytes, resume_revision });
    }

    /// Holds an incomplete revision to its limits. The common one is kept by dropping what waits for slow consumers,
    /// and then by sending back all incomplete revisions but one: that one can complete, and so each has its turn.
    pub(in crate::watcher) fn limit_partial(&mut self, now: Instant, key: WatchKey) {
        let Some(watch) = self.watches.get_mut(key) else { return };
        self.held_bytes = self.held_bytes.saturating_add_signed(watch.recount());
        let bytes = watch.partial_bytes();
        if bytes == 0 {
            return;
        }
        let limit = self.config.max_revision_bytes;
        if bytes > limit {
            self.close(key, CloseReason::TooLarge { what: "a revision", bytes, limit });
            return;
        }
        if self.make_room(key, 0) {
            return;
        }
        let is_assembling = |key: &WatchKey| self.watches.get(*key).is_some_and(|w| w.partial_bytes() > 0);
        match self.over_budget.filter(is_assembling) {
            Some(first) if first != key => self.recreate(now, key, SET_BACK),
            _ => self.over_budget = Some(key),
        }
    }
}
