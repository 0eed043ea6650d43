//! Between a stream and a consumer: what waits, how much may, and what happens when it is too much.

use super::Watcher;
use crate::{Action, CloseReason, Delivery, Instant, Overflow, WatchKey, WatchResponse, watch::State};

impl Watcher {
    /// Takes what a watch has next: responses that waited together come together, up to the batch
    /// limits. After [`Action::Deliver`], take until this returns `None`; the watch is announced again
    /// only then. After `Closed` the key means nothing any more.
    pub fn next(&mut self, now: Instant, watch: WatchKey) -> Option<Delivery> {
        let now = self.advance(now);
        let substream = self.watches.get_mut(&watch)?;
        let (delivery, freed) = substream.queue.take(now, &self.config, &mut self.spares);
        self.queued_bytes -= freed;
        if matches!(delivery, Some(Delivery::Closed(_))) {
            self.watches.remove(&watch);
            return delivery;
        }
        if let Some(Delivery::Response(response)) = &delivery {
            self.stats.responses += 1;
            substream.counts.events += response.len() as u64;
            substream.counts.taken = response.resume_revision().saturating_sub(1);
        }
        let number = substream.lane;
        let is_released = substream.holding && substream.queue.has_room();
        substream.holding &= !is_released;
        // Once the queue is empty rather than once it is found empty: the server needs a moment.
        let is_caught_up = substream.queue.is_empty() && matches!(substream.state, State::Overflowed);
        if is_caught_up {
            substream.state = State::Waiting;
            self.enqueue_create(number, watch);
        }
        if is_released && let Some(lane) = self.lanes.get_mut(&number) {
            lane.release(now, &self.config);
        }
        delivery
    }

    /// Puts a response before the consumer, and applies the overflow policy if that was one too many.
    pub(super) fn deliver(&mut self, now: Instant, key: WatchKey, response: WatchResponse) {
        let Some(watch) = self.watches.get_mut(&key) else { return };
        self.queued_bytes =
            self.queued_bytes.saturating_add_signed(watch.queue.push(now, response, &mut self.spares));
        let is_over = watch.queue.is_over(now, self.config.stall_after);
        if watch.queue.notify() {
            self.actions.push_back(Action::Deliver { watch: key });
        }
        if (!is_over && self.queued_bytes <= self.config.total_buffer_bytes)
            || !matches!(watch.state, State::Active(_))
            || watch.holding
        {
            return;
        }
        self.stats.overflows += 1;
        watch.counts.overflows = watch.counts.overflows.saturating_add(1);
        self.actions.push_back(Action::Overflowed {
            watch: key,
            policy: watch.overflow,
            queued_bytes: watch.queue.bytes(),
            resume_revision: watch.next_revision(),
        });
        match watch.overflow {
            Overflow::Replay => self.detach(key, State::Overflowed),
            Overflow::Pause => {
                watch.holding = true;
                if let Some(lane) = self.lanes.get_mut(&watch.lane) {
                    lane.holds += 1;
                }
            }
            Overflow::Fail => {
                let reason = CloseReason::Lagged {
                    queued_bytes: watch.queue.bytes(),
                    next_revision: watch.next_revision(),
                };
                self.close_watch(key, reason);
            }
        }
    }
}
