//! What waits for one consumer, and how much of it may.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use core::time::Duration;

use super::{
    gathered::Gathered,
    response::{Chunk, INDEX_BYTES},
};
use crate::{CloseReason, Delivery, Frame, Instant, ResponseKind, WatchConfig, WatchResponse};

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
    /// Events that come after the responses.
    gathered: Option<Gathered>,
    bytes: usize,
    /// The most bytes since the queue was empty.
    peak: usize,
    /// The revision to go on at if all that waits were dropped.
    base: i64,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.responses.is_empty() && self.gathered.is_none()
    }

    /// Whether the frame's events can be gathered with the events that wait last: if the consumer would get them together,
    /// too.
    fn gathers(&self, frame: &Frame, config: &WatchConfig) -> bool {
        let (mut events, mut bytes) =
            (frame.events.len(), frame.bytes.len() + frame.events.len() * INDEX_BYTES);
        match (self.responses.back(), &self.gathered) {
            (None, None) => return false,
            (Some(last), _) if last.kind() != ResponseKind::Events => return false,
            (last, gathered) => {
                let last = last.map_or((0, 0), |last| (last.len(), last.memory_bytes()));
                let gathered = gathered.as_ref().map_or((0, 0), |all| (all.len(), all.bytes()));
                events += last.0 + gathered.0;
                bytes += last.1 + gathered.1;
            }
        }
        let has_room = match &self.gathered {
            Some(gathered) => gathered.has_room(frame),
            None => Gathered::default().has_room(frame),
        };
        has_room && events <= config.batch_events && bytes <= config.batch_bytes
    }

    /// Takes out what comes next.
    fn pop(&mut self) -> Option<WatchResponse> {
        let next = match self.responses.pop_front() {
            Some(response) => response,
            None => self.gathered.take()?.seal(),
        };
        self.bytes -= cost(&next);
        Some(next)
    }

    /// How many events come next, and what they hold in memory in bytes; `None` if it isn't events that come.
    fn next_events(&self) -> Option<(usize, usize)> {
        match self.responses.front() {
            Some(next) => (next.kind() == ResponseKind::Events).then(|| (next.len(), next.memory_bytes())),
            None => self.gathered.as_ref().map(|gathered| (gathered.len(), gathered.bytes())),
        }
    }
}

/// What comes for a consumer.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    /// The events that are in a frame.
    Frame(&'a mut Frame),
    /// A response.
    Response(WatchResponse),
}

impl Incoming<'_> {
    /// How many events there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.events.len(),
            Self::Response(response) => response.len(),
        }
    }

    fn into_response(self) -> WatchResponse {
        match self {
            Self::Frame(frame) => WatchResponse::events_of(Chunk::take(frame), frame.header),
            Self::Response(response) => response,
        }
    }
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

    /// How many responses wait, as far as they are still apart, and how many events.
    pub(crate) fn count(&self) -> (usize, usize) {
        let Some(waiting) = &self.waiting else { return (0, 0) };
        let gathered = waiting.gathered.as_ref().map_or(0, Gathered::len);
        let events: usize = waiting.responses.iter().map(WatchResponse::len).sum();
        (waiting.responses.len() + usize::from(gathered > 0), events + gathered)
    }

    /// The newest revision that waits.
    pub(crate) fn newest_revision(&self) -> Option<i64> {
        let waiting = self.waiting.as_ref()?;
        let gathered = waiting.gathered.as_ref().map(Gathered::revision);
        gathered.or_else(|| waiting.responses.back().map(WatchResponse::revision))
    }

    /// What would be added to [`bytes`](Self::bytes).
    pub(crate) fn cost_of(&self, incoming: &Incoming<'_>, config: &WatchConfig) -> usize {
        match incoming {
            Incoming::Response(response) => cost(response),
            Incoming::Frame(frame) => match &self.waiting {
                Some(waiting) if waiting.gathers(frame, config) => {
                    gathering_cost(waiting.gathered.as_ref(), frame)
                }
                _ => Chunk::cost_of(frame) + COST,
            },
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    /// Adds what has come. `base` is the revision to go on at if it were dropped.
    pub(crate) fn push(
        &mut self,
        now: Instant,
        incoming: Incoming<'_>,
        base: i64,
        config: &WatchConfig,
        spares: &mut Spares,
    ) {
        let waiting = self.waiting.get_or_insert_with(|| {
            self.moved = now;
            let mut waiting = spares.0.pop().unwrap_or_default();
            waiting.base = base;
            waiting
        });
        match incoming {
            Incoming::Frame(frame) if waiting.gathers(frame, config) => {
                waiting.bytes += gathering_cost(waiting.gathered.as_ref(), frame);
                waiting.gathered.get_or_insert_default().add(frame);
            }
            incoming => {
                if let Some(gathered) = waiting.gathered.take() {
                    waiting.responses.push_back(gathered.seal());
                }
                let response = incoming.into_response();
                if response.kind() == ResponseKind::Progress
                    && let Some(last) = waiting.responses.back_mut()
                    && last.kind() == ResponseKind::Progress
                {
                    *last = response; // A newer bookmark says all the older one did.
                    return;
                }
                waiting.bytes += cost(&response);
                if waiting.responses.capacity() == 0 {
                    // Most often one waits alone; otherwise the list would start with room for several.
                    waiting.responses.reserve_exact(1);
                }
                waiting.responses.push_back(response);
            }
        }
        waiting.peak = waiting.peak.max(waiting.bytes);
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
        let mut response = waiting.pop()?;
        self.moved = now;
        while response.kind() == ResponseKind::Events
            && let Some((events, bytes)) = waiting.next_events()
            && response.len() + events <= config.batch_events
            && response.memory_bytes() + bytes <= config.batch_bytes
            && let Some(next) = waiting.pop()
        {
            response.append(next);
        }
        waiting.base = response.resume_revision();
        if waiting.is_empty() {
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
fn cost(response: &WatchResponse) -> usize {
    response.memory_bytes() + COST
}

/// What is added to that by the events of a frame that are gathered.
fn gathering_cost(gathered: Option<&Gathered>, frame: &Frame) -> usize {
    match gathered {
        Some(gathered) => gathered.growth(frame),
        None => Gathered::default().growth(frame) + COST,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use bytes::Bytes;

    use super::*;
    use crate::{
        Frame, Header,
        watch::response::Chunk,
        wire::index::{EventIndex, Events, KvIndex, Span},
    };

    fn response(bytes: usize) -> WatchResponse {
        let event =
            EventIndex { kv: KvIndex { mod_revision: 5, ..KvIndex::default() }, ..EventIndex::default() };
        let mut frame = Frame::default();
        (frame.bytes, frame.events) = (Bytes::from(vec![0; bytes]), Events::One(event));
        WatchResponse::events_of(Chunk::take(&mut frame), Header::default())
    }

    impl Queue {
        fn put(&mut self, now: Instant, response: WatchResponse, base: i64, spares: &mut Spares) {
            self.push(now, Incoming::Response(response), base, &WatchConfig::default(), spares);
        }

        /// Adds a frame with a put of a key at each of these revisions; the value is the revision.
        fn put_frame(&mut self, config: &WatchConfig, revisions: &[i64]) -> (usize, usize) {
            let mut frame = frame(revisions);
            let (before, cost) = (self.bytes(), self.cost_of(&Incoming::Frame(&mut frame), config));
            self.push(at(0), Incoming::Frame(&mut frame), revisions[0], config, &mut Spares::default());
            (self.bytes() - before, cost)
        }
    }

    fn frame(revisions: &[i64]) -> Frame {
        let mut bytes = Vec::new();
        let mut event = |revision: &i64| {
            let start = u32::try_from(bytes.len()).unwrap();
            bytes.extend([b"key", &revision.to_be_bytes()[..]].concat());
            let (key, value) = (Span::new(start, 3), Span::new(start + 3, 8));
            EventIndex {
                kv: KvIndex { key, value, mod_revision: *revision, ..KvIndex::default() },
                ..EventIndex::default()
            }
        };
        let mut frame = Frame::default();
        frame.events = Events::Many(revisions.iter().map(&mut event).collect());
        frame.bytes = bytes.into();
        frame.header.revision = revisions[revisions.len() - 1];
        frame
    }

    /// The revisions of the events that are taken next; each event's key and value are looked at.
    fn taken(queue: &mut Queue, config: &WatchConfig) -> Vec<i64> {
        let Some(Delivery::Response(response)) = queue.take(at(1), config, &mut Spares::default()) else {
            return Vec::new();
        };
        let revisions: Vec<i64> = response
            .events()
            .map(|event| {
                assert_eq!(
                    (event.key(), event.value()),
                    (&b"key"[..], &event.mod_revision().to_be_bytes()[..])
                );
                event.mod_revision()
            })
            .collect();
        if let Some(last) = revisions.last() {
            assert_eq!((response.revision(), response.header().revision), (*last, *last));
        }
        revisions
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
        queue.put(at(0), response(10), 1, &mut Spares::default());
        queue.put(at(500), response(1500), 1, &mut Spares::default());
        assert!(queue.is_over(at(500), STALL, 0));
        let mut queue = Queue::new(1000, 4000);
        queue.put(at(500), response(1500), 1, &mut Spares::default());
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
        queue.put(at(0), response(10_000), 1, &mut Spares::default());
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
        queue.put(
            at(0),
            WatchResponse::notice(ResponseKind::Created, Header::default(), 3),
            3,
            &mut Spares::default(),
        );
        queue.put(at(0), response(10), 4, &mut Spares::default());
        let all = Dropped { base: 3, created: true, progress: false };
        assert_eq!((queue.clone().discard(), queue.clone().bytes() > 0), (Some(all), true));
        assert!(queue.take(at(1), &WatchConfig::default(), &mut Spares::default()).is_some());
        let rest = Dropped { base: 3, created: false, progress: false };
        assert_eq!((queue.discard(), queue.bytes()), (Some(rest), 0));
        queue.put(
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
        queue.put(at(0), response(10), 1, &mut spares);
        let slots = queue.waiting.as_ref().map(|waiting| waiting.responses.capacity());
        assert_eq!((spares.0.len(), slots), (SPARES - 1, Some(SPARE_SLOTS)));
        assert!(queue.take(at(1), &WatchConfig::default(), &mut spares).is_some());
        assert_eq!((spares.0.len(), queue.waiting.is_none()), (SPARES, true));
    }

    #[test]
    fn the_limit_shrinks_again_when_the_room_is_not_used() {
        let config = WatchConfig::default().buffer_floor_bytes(1000);
        let mut queue = Queue::new(1000, 1 << 20);
        queue.put(at(0), response(100_000), 1, &mut Spares::default());
        assert!(!queue.is_over(at(1), STALL, 0));
        let grown = queue.limit;
        assert!(grown >= 100_000);
        for millis in 2..12 {
            while queue.take(at(millis), &config, &mut Spares::default()).is_some() {}
            queue.put(at(millis), response(10), 1, &mut Spares::default());
        }
        assert!(queue.limit < grown / 8, "{} of {grown}", queue.limit);
    }

    #[test]
    fn waiting_responses_are_merged_up_to_the_limits_and_the_close_comes_last() {
        let config = WatchConfig::default().batch_events(2);
        let mut queue = Queue::new(1000, 1 << 20);
        for _ in 0..3 {
            queue.put(at(0), response(10), 1, &mut Spares::default());
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
                queue.put(at(0), response(10), 1, &mut Spares::default());
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
        queue.put(at(0), response(10), 1, &mut Spares::default());
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
            queue.put(
                at(0),
                WatchResponse::notice(ResponseKind::Progress, Header::default(), revision),
                1,
                &mut Spares::default(),
            );
        }
        assert_eq!((queue.newest_revision(), queue.count()), (Some(998), (1, 0)));
    }

    #[test]
    fn small_frames_that_wait_are_gathered_and_come_in_order() {
        let config = WatchConfig::default();
        let mut queue = Queue::new(1 << 20, 1 << 30);
        let revisions: Vec<i64> = (1..=2_000).collect();
        for revisions in revisions.chunks(3) {
            let (more, cost) = queue.put_frame(&config, revisions);
            assert_eq!(more, cost, "of revision {}", revisions[0]);
        }
        // The first response, and what was gathered until that was full, again and again.
        let (responses, events) = queue.count();
        assert!(responses < 20 && events == 2_000, "{events} events in {responses} responses");
        assert_eq!(queue.newest_revision(), Some(2_000));
        let mut all = Vec::new();
        while !queue.is_empty() {
            all.extend(taken(&mut queue, &config));
        }
        assert_eq!((all, queue.bytes()), (revisions, 0));
    }

    #[test]
    fn what_is_gathered_is_held_to_the_limits_of_a_batch() {
        let config = WatchConfig::default().batch_events(5);
        let mut queue = Queue::new(1 << 20, 1 << 30);
        for revisions in [&[1, 2][..], &[3, 4], &[5], &[6, 7], &[8, 9, 10], &[11]] {
            queue.put_frame(&config, revisions);
        }
        let batches: Vec<_> = core::iter::from_fn(|| Some(taken(&mut queue, &config)))
            .take_while(|batch| !batch.is_empty())
            .collect();
        assert_eq!(batches, [vec![1, 2, 3, 4, 5], vec![6, 7, 8, 9, 10], vec![11]]);
    }

    #[test]
    fn a_notice_stays_between_the_events_that_it_came_between() {
        let config = WatchConfig::default();
        let mut queue = Queue::new(1 << 20, 1 << 30);
        for revision in [1, 2] {
            queue.put_frame(&config, &[revision]);
        }
        queue.put(
            at(0),
            WatchResponse::notice(ResponseKind::Progress, Header::default(), 3),
            3,
            &mut Spares::default(),
        );
        for revision in [3, 4] {
            queue.put_frame(&config, &[revision]);
        }
        assert_eq!(taken(&mut queue, &config), [1, 2]);
        assert!(matches!(
            queue.take(at(1), &config, &mut Spares::default()),
            Some(Delivery::Response(notice)) if notice.kind() == ResponseKind::Progress
        ));
        assert_eq!(taken(&mut queue, &config), [3, 4]);
        assert!(queue.is_empty() && queue.bytes() == 0);
    }

    #[test]
    fn what_was_gathered_is_dropped_with_the_rest() {
        let config = WatchConfig::default();
        let mut queue = Queue::new(1 << 20, 1 << 30);
        for revision in [5, 6, 7] {
            queue.put_frame(&config, &[revision]);
        }
        assert_eq!(queue.discard(), Some(Dropped { base: 5, created: false, progress: false }));
        assert_eq!((queue.bytes(), queue.count(), queue.newest_revision()), (0, (0, 0), None));
    }
}
