//! What waits for one consumer, and how much of it may.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use core::time::Duration;

use crate::{CloseReason, Delivery, Instant, ResponseKind, WatchConfig, WatchResponse};

/// How many slots an empty list may have to be kept for the next queue, and how many lists are kept.
const SPARE_SLOTS: usize = 8;
const SPARES: usize = 64;

/// Empty lists that queues take turns with: an idle watch has none, and a busy one allocates none.
#[derive(Clone, Debug, Default)]
#[expect(clippy::vec_box, reason = "it is the boxes that are kept, with the lists in them")]
pub(crate) struct Spares(Vec<Box<Waiting>>);

impl Spares {
    fn give(&mut self, waiting: Box<Waiting>) {
        if self.0.len() < SPARES && (1..=SPARE_SLOTS).contains(&waiting.responses.capacity()) {
            self.0.push(waiting);
        }
    }
}

/// What waits for a consumer. A watch has it only while something waits.
#[derive(Clone, Debug, Default)]
struct Waiting {
    /// Oldest first.
    responses: VecDeque<WatchResponse>,
    bytes: usize,
    /// The most bytes since the queue was empty.
    peak: usize,
    /// The revision to go on at if all that waits were dropped.
    base: i64,
}

/// A watch's buffer.
///
/// Its limit starts at the floor. It doubles up to the budget while the consumer keeps moving, and
/// halves when the room turns out not to be used: a consumer that is merely bursty gets room, one that
/// has stopped does not.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    /// `None` when nothing waits: then no response is in it.
    waiting: Option<Box<Waiting>>,
    closed: Option<Box<CloseReason>>,
    limit: usize,
    budget: usize,
    /// When the consumer last took something, or was first given something to take.
    moved: Instant,
    /// Whether the consumer has been told and has not yet found the queue empty.
    notified: bool,
}

impl Queue {
    pub(crate) fn new(floor: usize, budget: usize) -> Self {
        let limit = floor.min(budget);
        Self { waiting: None, closed: None, limit, budget, moved: Instant::ZERO, notified: false }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.bytes)
    }

    /// How much may wait now, in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// What waits, oldest first.
    pub(crate) fn responses(&self) -> impl DoubleEndedIterator<Item = &WatchResponse> {
        self.waiting.iter().flat_map(|waiting| &waiting.responses)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    /// Adds a response. `base` is the revision to go on at if it were dropped.
    pub(crate) fn push(&mut self, now: Instant, response: WatchResponse, base: i64, spares: &mut Spares) {
        let waiting = self.waiting.get_or_insert_with(|| {
            self.moved = now;
            let mut waiting = spares.0.pop().unwrap_or_default();
            waiting.base = base;
            waiting
        });
        if response.kind() == ResponseKind::Progress
            && let Some(last) = waiting.responses.back_mut()
            && last.kind() == ResponseKind::Progress
        {
            *last = response; // A newer bookmark says all the older one did.
            return;
        }
        waiting.bytes += cost(&response);
        waiting.peak = waiting.peak.max(waiting.bytes);
        if waiting.responses.capacity() == 0 {
            // Most often one waits alone; otherwise the list would start with room for several.
            waiting.responses.reserve_exact(1);
        }
        waiting.responses.push_back(response);
    }

    /// Whether more waits than may, or would with `more` bytes; grows the limit first where the consumer deserves it.
    pub(crate) fn is_over(&mut self, now: Instant, stall_after: Duration, more: usize) -> bool {
        let bytes = self.bytes() + more;
        while bytes > self.limit && self.limit < self.budget && now.since(self.moved) < stall_after {
            self.limit = self.limit.saturating_mul(2).min(self.budget);
        }
        bytes > self.limit
    }

    /// Whether so little waits that reading may go on.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes() <= self.limit / 2
    }

    /// Takes what is next, merged up to the batch limits.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        config: &WatchConfig,
        spares: &mut Spares,
    ) -> Option<Delivery> {
        let Some(waiting) = &mut self.waiting else {
            let closed = self.closed.take().map(|reason| Delivery::Closed(*reason));
            self.notified &= closed.is_some();
            return closed;
        };
        let mut response = waiting.responses.pop_front()?;
        waiting.bytes -= cost(&response);
        self.moved = now;
        while response.kind() == ResponseKind::Events
            && let Some(next) = waiting.responses.front()
            && next.kind() == ResponseKind::Events
            && response.len() + next.len() <= config.batch_events
            && response.memory_bytes() + next.memory_bytes() <= config.batch_bytes
            && let Some(next) = waiting.responses.pop_front()
        {
            waiting.bytes -= cost(&next);
            response.append(next);
        }
        waiting.base = response.resume_revision();
        if waiting.responses.is_empty() {
            if waiting.peak < self.limit / 4 {
                let floor = config.buffer_floor_bytes.min(self.budget);
                self.limit = (self.limit / 2).max(floor);
            }
            waiting.peak = 0;
            if let Some(waiting) = self.waiting.take() {
                spares.give(waiting);
            }
        }
        Some(Delivery::Response(response))
    }

    /// Nothing comes after what waits, but this.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.closed.get_or_insert_with(|| Box::new(reason));
    }

    /// Everything up to the revision before this one is all that progress supports: what is dropped is asked for from
    /// there on.
    pub(crate) fn lower_base(&mut self, revision: i64) {
        if let Some(waiting) = &mut self.waiting {
            waiting.base = waiting.base.min(revision);
        }
    }

    /// Whether it ends because the consumer was too slow: what waits can be asked for again.
    pub(crate) fn is_lagged(&self) -> bool {
        matches!(self.closed.as_deref(), Some(CloseReason::Lagged { .. }))
    }

    /// Why the watch has ended.
    pub(crate) fn close_reason(&self) -> Option<&CloseReason> {
        self.closed.as_deref()
    }

    /// The consumer that was too slow has to go on at an earlier revision.
    pub(crate) fn lag_from(&mut self, revision: i64) {
        if let Some(CloseReason::Lagged { next_revision, .. }) = self.closed.as_deref_mut() {
            *next_revision = revision;
        }
    }

    /// Throws away what waits; `None` when nothing did.
    pub(crate) fn discard(&mut self) -> Option<Dropped> {
        let Waiting { responses, base, .. } = *self.waiting.take()?;
        let has = |kind: ResponseKind| responses.iter().any(|response| response.kind() == kind);
        Some(Dropped { base, created: has(ResponseKind::Created), progress: has(ResponseKind::Progress) })
    }

    /// Whether the consumer must be told; true once per edge.
    pub(crate) fn notify(&mut self) -> bool {
        !core::mem::replace(&mut self.notified, true)
    }
}

/// What was thrown away unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// The revision to go on at, so that all of it comes again.
    pub(crate) base: i64,
    /// Whether the notice of the watch's creation was among it.
    pub(crate) created: bool,
    /// Whether a notice of progress was among it.
    pub(crate) progress: bool,
}

/// What a waiting response costs beside its buffers and their index, in bytes: itself, and the list, in which it may be
/// alone. A list that grows has up to twice the room it needs.
const COST: usize =
    WatchResponse::OWN_BYTES + size_of::<Waiting>() + 2 * size_of::<WatchResponse>() + ALLOCATIONS;

/// What an allocator adds, in bytes: for the response, for its buffer, for the list and for the list's slots.
const ALLOCATIONS: usize = 4 * size_of::<usize>();

/// What a waiting response costs in all, in bytes.
pub(crate) fn cost(response: &WatchResponse) -> usize {
    response.memory_bytes() + COST
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use bytes::Bytes;

    use super::*;
    use crate::{
        Frame, Header,
        watch::response::Chunk,
        wire::index::{EventIndex, Events, KvIndex},
    };

    fn response(bytes: usize) -> WatchResponse {
        let event =
            EventIndex { kv: KvIndex { mod_revision: 5, ..KvIndex::default() }, ..EventIndex::default() };
        let mut frame = Frame::default();
        (frame.bytes, frame.events) = (Bytes::from(vec![0; bytes]), Events::One(event));
        WatchResponse::events_of(Chunk::take(&mut frame), Header::default())
    }

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    /// A queue with a floor of 1,000 bytes and a budget of 4,000, in which so many wait.
    fn queue_with(bytes: usize) -> Queue {
        let waiting = Some(Box::new(Waiting { bytes, ..Waiting::default() }));
        Queue { waiting, ..Queue::new(1000, 4000) }
    }

    const STALL: Duration = Duration::from_millis(100);

    #[test]
    fn a_stalled_consumer_gets_no_more_than_the_floor_a_moving_one_the_budget() {
        for (bytes, millis, is_over, limit) in [
            (1000, 0, false, 1000),
            (1001, 99, false, 2000),
            (4000, 99, false, 4000),
            (4001, 99, true, 4000),
            // Nothing was taken for 100 ms.
            (1000, 100, false, 1000),
            (1001, 100, true, 1000),
        ] {
            let mut queue = queue_with(bytes);
            assert_eq!((queue.is_over(at(millis), STALL, 0), queue.limit), (is_over, limit), "{bytes} bytes");
        }
    }

    #[test]
    fn a_consumer_is_given_time_from_the_first_thing_that_it_could_take() {
        let mut queue = Queue::new(1000, 4000);
        queue.push(at(0), response(10), 1, &mut Spares::default());
        queue.push(at(500), response(1500), 1, &mut Spares::default());
        assert!(queue.is_over(at(500), STALL, 0));
        let mut queue = Queue::new(1000, 4000);
        queue.push(at(500), response(1500), 1, &mut Spares::default());
        assert!(!queue.is_over(at(510), STALL, 0));
    }

    #[test]
    fn there_is_room_again_when_half_is_taken() {
        let has_room = |bytes| queue_with(bytes).has_room();
        assert!(has_room(0) && has_room(500) && !has_room(501));
    }

    /// A queue with one response, of some bytes in all, that may have more.
    fn queue_of_one(limit: impl Fn(usize) -> usize) -> (Queue, usize) {
        let mut queue = Queue::new(10, 1 << 30);
        queue.push(at(0), response(10_000), 1, &mut Spares::default());
        let bytes = queue.bytes();
        queue.limit = limit(bytes);
        let config = WatchConfig::default().buffer_floor_bytes(10);
        let taken = queue.take(at(1), &config, &mut Spares::default());
        assert!(taken.is_some() && queue.is_empty() && queue.bytes() == 0);
        (queue, bytes)
    }

    #[test]
    fn the_limit_is_halved_when_less_than_a_quarter_was_used() {
        let (queue, bytes) = queue_of_one(|bytes| bytes * 4);
        assert_eq!(queue.limit, bytes * 4);
        let (queue, bytes) = queue_of_one(|bytes| (bytes + 1) * 4);
        assert_eq!(queue.limit, (bytes + 1) * 2);
    }

    #[test]
    fn what_is_dropped_is_asked_for_again_from_where_the_consumer_is() {
        let mut queue = Queue::new(1000, 1 << 30);
        assert_eq!(queue.discard(), None);
        queue.push(
            at(0),
            WatchResponse::notice(ResponseKind::Created, Header::default(), 3),
            3,
            &mut Spares::default(),
        );
        queue.push(at(0), response(10), 4, &mut Spares::default());
        let all = Dropped { base: 3, created: true, progress: false };
        assert_eq!((queue.clone().discard(), queue.clone().bytes() > 0), (Some(all), true));
        assert!(queue.take(at(1), &WatchConfig::default(), &mut Spares::default()).is_some());
        let rest = Dropped { base: 3, created: false, progress: false };
        assert_eq!((queue.discard(), queue.bytes()), (Some(rest), 0));
        queue.push(
            at(0),
            WatchResponse::notice(ResponseKind::Progress, Header::default(), 9),
            7,
            &mut Spares::default(),
        );
        queue.lower_base(6);
        assert_eq!(queue.discard(), Some(Dropped { base: 6, created: false, progress: true }));
    }

    #[test]
    fn small_lists_are_kept_for_other_queues_and_not_too_many_of_them() {
        let list =
            |slots| Box::new(Waiting { responses: VecDeque::with_capacity(slots), ..Waiting::default() });
        let mut spares = Spares::default();
        spares.give(list(0));
        spares.give(list(SPARE_SLOTS + 1));
        assert_eq!(spares.0.len(), 0);
        (0..2 * SPARES).for_each(|_| spares.give(list(SPARE_SLOTS)));
        assert_eq!(spares.0.len(), SPARES);

        let mut queue = Queue::new(1000, 4000);
        queue.push(at(0), response(10), 1, &mut spares);
        let slots = queue.waiting.as_ref().map(|waiting| waiting.responses.capacity());
        assert_eq!((spares.0.len(), slots), (SPARES - 1, Some(SPARE_SLOTS)));
        assert!(queue.take(at(1), &WatchConfig::default(), &mut spares).is_some());
        assert_eq!((spares.0.len(), queue.waiting.is_none()), (SPARES, true));
    }

    #[test]
    fn the_limit_shrinks_again_when_the_room_is_not_used() {
        let config = WatchConfig::default().buffer_floor_bytes(1000);
        let mut queue = Queue::new(1000, 1 << 20);
        queue.push(at(0), response(100_000), 1, &mut Spares::default());
        assert!(!queue.is_over(at(1), STALL, 0));
        let grown = queue.limit;
        assert!(grown >= 100_000);
        for millis in 2..12 {
            while queue.take(at(millis), &config, &mut Spares::default()).is_some() {}
            queue.push(at(millis), response(10), 1, &mut Spares::default());
        }
        assert!(queue.limit < grown / 8, "{} of {grown}", queue.limit);
    }

    #[test]
    fn waiting_responses_are_merged_up_to_the_limits_and_the_close_comes_last() {
        let config = WatchConfig::default().batch_events(2);
        let mut queue = Queue::new(1000, 1 << 20);
        for _ in 0..3 {
            queue.push(at(0), response(10), 1, &mut Spares::default());
        }
        queue.close(CloseReason::Cancelled);
        queue.close(CloseReason::ShutDown);
        let sizes: Vec<usize> =
            core::iter::from_fn(|| match queue.take(at(1), &config, &mut Spares::default()) {
                Some(Delivery::Response(response)) => Some(response.len()),
                _ => None,
            })
            .collect();
        assert_eq!(sizes, [2, 1]);
        assert_eq!(queue.bytes(), 0);
        assert_eq!(
            queue.take(at(1), &config, &mut Spares::default()),
            None,
            "the close was taken above, once"
        );
    }

    #[test]
    fn responses_are_merged_as_long_as_they_have_no_more_bytes_than_a_batch() {
        let both = 2 * response(10).memory_bytes();
        for (batch_bytes, len) in [(both, 2), (both - 1, 1)] {
            let mut queue = Queue::new(1000, 1 << 20);
            for _ in 0..3 {
                queue.push(at(0), response(10), 1, &mut Spares::default());
            }
            let config = WatchConfig::default().batch_bytes(batch_bytes);
            let taken = queue.take(at(1), &config, &mut Spares::default());
            assert!(matches!(taken, Some(Delivery::Response(response)) if response.len() == len));
        }
    }

    #[test]
    fn a_consumer_is_told_once_until_it_has_found_the_queue_empty() {
        let config = WatchConfig::default();
        let mut queue = Queue::new(1000, 1 << 20);
        queue.push(at(0), response(10), 1, &mut Spares::default());
        assert!(queue.notify() && !queue.notify());
        assert!(queue.take(at(0), &config, &mut Spares::default()).is_some());
        assert!(!queue.notify(), "it has not looked again yet");
        assert!(queue.take(at(0), &config, &mut Spares::default()).is_none());
        assert!(queue.notify());
    }

    #[test]
    fn bookmarks_that_nobody_reads_do_not_pile_up() {
        let mut queue = Queue::new(1000, 1 << 20);
        for revision in 0..1000 {
            queue.push(
                at(0),
                WatchResponse::notice(ResponseKind::Progress, Header::default(), revision),
                1,
                &mut Spares::default(),
            );
        }
        assert!(queue.responses().map(WatchResponse::resume_revision).eq([999]));
    }
}
