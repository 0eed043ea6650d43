//! What waits for one consumer, and how much of it may.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use core::time::Duration;

use super::{gathered::Gathered, response::Chunk};
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
    gathered: Gathered,
    bytes: usize,
    /// The most bytes since the queue was empty.
    peak: usize,
    /// The revision to go on at if all that waits were dropped.
    base: i64,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.responses.is_empty() && self.gathered.is_empty()
    }

    /// Whether the frame's events can be gathered: something waits, the consumer would get the events together with what
    /// waits last in any case, and the buffer that grows for them stays within the limit.
    fn gathers(&self, frame: &Frame, config: &WatchConfig, limit: usize) -> bool {
        let last = self.responses.back();
        if self.is_empty() || last.is_some_and(|last| last.kind() != ResponseKind::Events) {
            return false;
        }
        let (events, bytes) = last.map_or((0, 0), |last| (last.len(), last.memory_bytes()));
        self.gathered.has_room(frame)
            && events + self.gathered.len() + frame.events.len() <= config.batch_events
            && bytes + self.gathered.bytes() + self.gathered.growth(frame) <= config.batch_bytes
            && self.bytes + self.growth(frame) <= limit
    }

    /// By how much `bytes` grows with the frame's events, if they are gathered.
    fn growth(&self, frame: &Frame) -> usize {
        self.first_cost() + self.gathered.growth(frame)
    }

    /// What the response of the gathered events costs beside them, if it has not been counted yet.
    fn first_cost(&self) -> usize {
        if self.gathered.is_empty() { COST } else { 0 }
    }

    fn gather(&mut self, frame: &Frame) {
        let (first, before) = (self.first_cost(), self.gathered.bytes());
        self.gathered.add(frame);
        // By what was allocated: it is subtracted when the events are taken.
        self.bytes += first + self.gathered.bytes() - before;
    }

    /// Puts a response behind all else.
    fn append(&mut self, response: WatchResponse) {
        self.seal();
        if response.kind() == ResponseKind::Progress
            && let Some(last) = self.responses.back_mut()
            && last.kind() == ResponseKind::Progress
        {
            *last = response; // A newer bookmark says all the older one did.
            return;
        }
        self.bytes += cost(&response);
        if self.responses.capacity() == 0 {
            // Most often one waits alone; otherwise the list would start with room for several.
            self.responses.reserve_exact(1);
        }
        self.responses.push_back(response);
    }

    /// Makes a response of the events that are gathered, if there are any. It costs what they did.
    fn seal(&mut self) {
        if !self.gathered.is_empty() {
            self.responses.push_back(core::mem::take(&mut self.gathered).seal());
        }
    }

    /// Takes out what comes next.
    fn pop(&mut self) -> Option<WatchResponse> {
        if self.responses.is_empty() {
            self.seal();
        }
        let next = self.responses.pop_front()?;
        self.bytes -= cost(&next);
        Some(next)
    }

    /// How many events come next, and what they hold in memory in bytes; `None` if it isn't events that come.
    fn next_events(&self) -> Option<(usize, usize)> {
        match self.responses.front() {
            Some(next) => (next.kind() == ResponseKind::Events).then(|| (next.len(), next.memory_bytes())),
            None => (!self.gathered.is_empty()).then(|| (self.gathered.len(), self.gathered.bytes())),
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
    /// `None` when nothing waits; what is there is never empty.
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
        let events: usize = waiting.responses.iter().map(WatchResponse::len).sum();
        let gathered = &waiting.gathered;
        (waiting.responses.len() + usize::from(!gathered.is_empty()), events + gathered.len())
    }

    /// The newest revision that waits.
    pub(crate) fn newest_revision(&self) -> Option<i64> {
        let waiting = self.waiting.as_ref()?;
        match waiting.gathered.revision() {
            None => waiting.responses.back().map(WatchResponse::revision),
            newest => newest,
        }
    }

    /// What would be added to [`bytes`](Self::bytes), and whether more would wait then than may; grows the limit first
    /// where the consumer deserves it.
    pub(crate) fn weigh(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        config: &WatchConfig,
    ) -> (usize, bool) {
        let (limit, bytes) = (self.limit, self.cost_of(incoming, config));
        let is_over = self.is_over(now, config.stall_after, bytes);
        // What can be gathered depends on the limit.
        let bytes = if self.limit == limit { bytes } else { self.cost_of(incoming, config) };
        (bytes, is_over)
    }

    fn cost_of(&self, incoming: &Incoming<'_>, config: &WatchConfig) -> usize {
        match incoming {
            Incoming::Response(response) => cost(response),
            Incoming::Frame(frame) => match &self.waiting {
                Some(waiting) if waiting.gathers(frame, config, self.limit) => waiting.growth(frame),
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
            Incoming::Frame(frame) if waiting.gathers(frame, config, self.limit) => waiting.gather(frame),
            incoming => waiting.append(incoming.into_response()),
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

#[cfg(test)]
mod tests;
