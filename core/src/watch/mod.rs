//! One watch: its place in history, what waits for its consumer, and where it stands.
//!
//! ```text
//!   AwaitingRevision --range done--> Queued --create sent--> Creating --created--> Live
//!         (from now only)            ^  ^  ^                   |    |               |  |
//!                                    |  |  +- connection lost -|----+---------------+  |
//!                                    |  |                      |                       |
//!                                    |  +- range done - Denied <- denied, with a token |
//!                                    |                                                 |
//!                                    +--- consumer drained --- Overflowed <----full----+
//!
//!   every state --cancel, compaction, refusal, ...--> Closed
//! ```
//!
//! A watch that is taken off the server while the server has it leaves a `Dying` route on its connection, until the
//! server confirms the cancel.

pub(crate) mod admit;
pub(crate) mod checkpoint;
pub(crate) mod event;
mod gathered;
pub(crate) mod key_queue;
pub(crate) mod keys;
pub(crate) mod owned;
pub(crate) mod place;
mod progress;
pub(crate) mod queue;
mod refusal;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod set;
mod stats;
pub(crate) mod table;

use alloc::{boxed::Box, string::String, sync::Arc};
use core::time::Duration;

pub(crate) use refusal::{Refusal, Verdict};

use crate::{
    CloseReason, CreateRequest, Delivery, Filters, Header, Instant, Overflow, RangeDone, ResponseKind,
    StartAt, StreamId, WatchConfig, WatchRequest, WatchResponse,
    key::Purpose,
    stream::progress::Progress,
    watch::{
        keys::Keys,
        place::Place,
        queue::{Incoming, Queue, Spares},
        table::Order,
    },
};

/// The options' own type: streams and groups are found by it.
pub(crate) type SharedOptions = Arc<crate::StreamOptions>;

/// Where a watch stands.
#[derive(Clone, Debug)]
enum State {
    /// It starts "now": the current revision is being read.
    AwaitingRevision {
        /// Whether the read that is under way is for it; otherwise it waits for the next one.
        asked: bool,
    },
    /// Its create was denied on a connection whose token may have expired; a read of its keys tells.
    Denied(Box<Denial>),
    /// It knows where to start, and waits for its turn on the stream.
    Queued,
    /// Its create request is on its way.
    Creating {
        /// The id it was given; 0 leaves the choice to a server that ignores ids.
        id: i64,
    },
    /// It runs on the server.
    Live(Live),
    /// Its consumer was too slow: it was cancelled on the server, or the connection it had paused broke. It is
    /// created again once the consumer has caught up.
    Overflowed,
    /// It has ended; what waits can still be taken.
    Closed,
}

/// A refusal that may be due to the connection's token.
#[derive(Clone, Debug)]
pub(crate) struct Denial {
    asked: bool,
    /// The number of the stream's connection on which the create was denied.
    pub(crate) connection: u32,
    /// The server's text.
    pub(crate) message: String,
}

/// The life of a watch on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    id: i64,
    /// The store's revision when the server created it.
    created_at: i64,
    /// Whether it had missed changes up to that revision, for all that is known, and will be told when it has them.
    has_missed: bool,
    /// How many progress requests had been sent on the connection when its creation was learned.
    requests_before: u64,
    /// Replies up to this one say nothing: they came before the creation, or in the middle of a revision.
    replies_ignored: u64,
    /// Whether anything but `Created` has come.
    heard: bool,
    /// Whether it keeps its connection from being read.
    holding: bool,
    /// The beginning of a revision whose other fragments are still to come.
    partial: Option<WatchResponse>,
}

/// One watch.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    keys: Keys,
    filters: Filters,
    prev_kv: bool,
    fragment: bool,
    progress_notify: bool,
    overflow: Overflow,
    /// The stream it travels on.
    stream: StreamId,
    state: State,
    place: Place,
    /// A progress notification is wanted: by the consumer, or since changes were missed.
    progress_wanted: bool,
    /// The consumer wants to hear of the creation, and has not yet.
    created_notify: bool,
    /// Creates refused in a row.
    refusals: u8,
    /// Times in a row that the server ended it before it had brought anything new.
    cancels: u8,
    /// Whether it has been sent to a server before.
    created_before: bool,
    queue: Queue,
    /// What of its memory is in the machine's total.
    counted: usize,
    counts: Counts,
}

/// What has happened to a watch, for its statistics.
#[derive(Clone, Debug, Default)]
struct Counts {
    /// Since when it runs on the server, or doesn't.
    since: Instant,
    /// Since when its consumer lacks changes that the store may have had: it is not begun anew before it has caught up.
    behind: Instant,
    /// The consumer has taken everything up to this revision.
    taken: i64,
    events: u64,
    recreates: u32,
    overflows: u32,
    stale_events: u32,
}

impl Watch {
    pub(crate) fn new(request: &WatchRequest, stream: StreamId, config: &WatchConfig) -> Self {
        let budget = request.buffer_bytes.unwrap_or(config.buffer_bytes);
        let (cluster_id, shown) = request.known;
        let (state, place) = match request.start {
            StartAt::Now => (State::AwaitingRevision { asked: false }, Place::unknown()),
            StartAt::Revision(revision) => (State::Queued, Place::at(revision, cluster_id, shown)),
        };
        Self {
            keys: Keys::of(&request.range),
            filters: request.filters,
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            overflow: request.overflow.unwrap_or(config.overflow),
            stream,
            state,
            place,
            progress_wanted: false,
            created_notify: request.created_notify,
            refusals: 0,
            cancels: 0,
            created_before: false,
            queue: Queue::new(config.buffer_floor_bytes, budget),
            counted: 0,
            counts: Counts::default(),
        }
    }

    /// It doesn't run on the server from now on.
    pub(crate) fn is_away_since(&mut self, now: Instant) {
        self.counts.since = now;
        if self.live().is_none_or(|live| !live.has_missed || self.counts.taken >= live.created_at) {
            self.counts.behind = now;
        }
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn stream(&self) -> StreamId {
        self.stream
    }

    pub(crate) fn overflow(&self) -> Overflow {
        self.overflow
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn place_mut(&mut self) -> &mut Place {
        &mut self.place
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    pub(crate) fn is_queued(&self) -> bool {
        matches!(self.state, State::Queued)
    }

    pub(crate) fn is_overflowed(&self) -> bool {
        matches!(self.state, State::Overflowed)
    }

    /// Whether it waits for the answer to the create request with this id.
    pub(crate) fn is_creating(&self, id: i64) -> bool {
        matches!(self.state, State::Creating { id: own } if own == id)
    }

    /// Whether what its consumer takes, or that it takes nothing, lets it go on.
    pub(crate) fn waits_for_consumer(&self) -> bool {
        self.is_overflowed() || self.is_holding()
    }

    /// Whether the server has shown that it serves the watch: by what it has brought, or by not having ended it for long.
    pub(crate) fn is_served_well(&self, now: Instant, long: Duration) -> bool {
        self.live().is_some_and(|live| live.heard || now.since(self.counts.since) >= long)
    }

    /// Its id on the server, while it runs there.
    pub(crate) fn live_id(&self) -> Option<i64> {
        self.live().map(|live| live.id)
    }

    fn live(&self) -> Option<&Live> {
        match &self.state {
            State::Live(live) => Some(live),
            _ => None,
        }
    }

    fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.state {
            State::Live(live) => Some(live),
            _ => None,
        }
    }

    /// Whether it waits for a read, and has not been asked for.
    pub(crate) fn is_in_line_for(&self, purpose: Purpose) -> bool {
        match (&self.state, purpose) {
            (State::AwaitingRevision { asked }, Purpose::Now) => !asked,
            (State::Denied(denial), Purpose::Denial) => !denial.asked,
            _ => false,
        }
    }

    /// Whether a read is under way for it.
    pub(crate) fn is_asked_for(&self, purpose: Purpose) -> bool {
        match (&self.state, purpose) {
            (State::AwaitingRevision { asked }, Purpose::Now) => *asked,
            (State::Denied(denial), Purpose::Denial) => denial.asked,
            _ => false,
        }
    }

    /// A read for it begins, or it is back in line for the next one.
    pub(crate) fn set_asked(&mut self, is_asked: bool) {
        match &mut self.state {
            State::AwaitingRevision { asked } => *asked = is_asked,
            State::Denied(denial) => denial.asked = is_asked,
            _ => debug_assert!(false, "it waits for a read"),
        }
    }

    /// "Now" has been found out: it waits for its turn on the stream.
    pub(crate) fn start_at(&mut self, now: RangeDone) {
        debug_assert!(matches!(self.state, State::AwaitingRevision { .. }));
        self.place = Place::at(now.revision.saturating_add(1), now.cluster_id, now.revision);
        self.state = State::Queued;
    }

    /// Its create was denied on this connection, whose token may have expired.
    pub(crate) fn deny(&mut self, connection: u32, message: String) {
        self.state = State::Denied(Box::new(Denial { asked: false, connection, message }));
    }

    /// Its denial, while that is being looked into.
    pub(crate) fn denial(&self) -> Option<&Denial> {
        match &self.state {
            State::Denied(denial) => Some(denial),
            _ => None,
        }
    }

    /// Its denial, if one is being looked into, which is over by that: it waits for its turn on the stream.
    pub(crate) fn take_denial(&mut self) -> Option<Denial> {
        match core::mem::replace(&mut self.state, State::Queued) {
            State::Denied(denial) => Some(*denial),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// It is sent to the server under this id. The request, and whether it has been sent to one before; `None`,
    /// which is a mistake of the caller's, if it isn't its turn.
    pub(crate) fn create(&mut self, id: i64) -> Option<(CreateRequest, bool)> {
        let point = self.place.point().filter(|_| self.is_queued());
        debug_assert!(point.is_some(), "it waits for its turn");
        let request = CreateRequest {
            range: self.keys.to_range(),
            start_revision: point?.resume(),
            progress_notify: true,
            filters: self.filters,
            prev_kv: self.prev_kv,
            watch_id: id,
            fragment: self.fragment,
        };
        self.state = State::Creating { id };
        let resumes = self.created_before;
        self.counts.recreates = self.counts.recreates.saturating_add(resumes.into());
        Some((request, resumes))
    }

    /// It runs on the server, under this id.
    pub(crate) fn created(&mut self, now: Instant, id: i64, header: Header, progress: &Progress) {
        // The gRPC proxy makes `created` up, with the revision that was asked for.
        let is_behind = header.cluster_id != 0 && header.revision >= self.place.next_revision();
        let has_missed = is_behind && self.progress_notify && progress.tells();
        self.progress_wanted |= has_missed;
        self.counts.since = now;
        self.created_before = true;
        self.refusals = 0;
        self.state = State::Live(Live {
            id,
            created_at: header.revision,
            has_missed,
            requests_before: progress.requests(),
            replies_ignored: progress.replies(),
            heard: false,
            holding: false,
            partial: None,
        });
    }

    /// The notice of its creation, if the consumer wants it and has not had it.
    pub(crate) fn take_created_notice(&mut self, header: Header) -> Option<WatchResponse> {
        let is_wanted = core::mem::take(&mut self.created_notify);
        is_wanted.then(|| WatchResponse::notice(ResponseKind::Created, header, self.place.next_revision()))
    }

    /// It waits for its turn on the stream, again.
    pub(crate) fn queue_again(&mut self) {
        debug_assert!(!self.is_closed());
        self.state = State::Queued;
    }

    /// It is off the server until its consumer has caught up. `from` is the first revision whose events were accepted
    /// and not kept, if some weren't.
    pub(crate) fn overflow_from(&mut self, from: Option<i64>) {
        debug_assert!(!self.is_closed());
        // First, since progress of the connection speaks for events that had been accepted.
        self.state = State::Overflowed;
        if let Some(revision) = from {
            self.place.go_back(revision);
        }
    }

    /// It has ended. `Closed` comes after what waits.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.state = State::Closed;
        self.queue.close(reason);
    }

    /// Its connection is gone.
    pub(crate) fn lose_connection(&mut self, progress: &Progress) {
        self.settle(progress);
        match &self.state {
            // It has no room: every new connection would bring one more response.
            State::Live(live) if live.holding => self.state = State::Overflowed,
            State::Live(_) | State::Creating { .. } => self.state = State::Queued,
            _ => {}
        }
    }

    /// Whether it keeps its connection from being read.
    pub(crate) fn is_holding(&self) -> bool {
        self.live().is_some_and(|live| live.holding)
    }

    /// It keeps its connection from being read, or does no longer.
    pub(crate) fn set_holding(&mut self, holding: bool) {
        match self.live_mut() {
            Some(live) => live.holding = holding,
            None => debug_assert!(false, "it runs on the server"),
        }
    }

    /// How much a revision that is not complete yet holds, in bytes.
    pub(crate) fn partial_bytes(&self) -> usize {
        let partial = self.live().and_then(|live| live.partial.as_ref());
        partial.map_or(0, WatchResponse::memory_bytes)
    }

    /// How much it holds in memory for its consumer, in bytes.
    pub(crate) fn held(&self) -> usize {
        self.queue.bytes() + self.partial_bytes()
    }

    /// By how much what it holds in memory differs from what was last counted, in bytes.
    pub(crate) fn recount(&mut self) -> isize {
        let held = self.held();
        let before = core::mem::replace(&mut self.counted, held);
        held.cast_signed() - before.cast_signed()
    }

    /// Puts what has come before the consumer. `base` is the revision to go on at if it were dropped.
    pub(crate) fn push(
        &mut self,
        now: Instant,
        incoming: Incoming<'_>,
        base: i64,
        config: &WatchConfig,
        spares: &mut Spares,
    ) {
        self.queue.push(now, incoming, base, config, spares);
    }

    /// Whether the consumer must be told that there is something; true once per edge.
    pub(crate) fn notify(&mut self) -> bool {
        self.queue.notify()
    }

    /// Whether more waits than may; the limit grows first where the consumer deserves it.
    pub(crate) fn is_over(&mut self, now: Instant, config: &WatchConfig) -> bool {
        self.queue.is_over(now, config.stall_after, 0)
    }

    /// What events cost the queue, in bytes, and whether more would wait with them than may.
    pub(crate) fn weigh(
        &mut self,
        now: Instant,
        events: &Incoming<'_>,
        config: &WatchConfig,
    ) -> (usize, bool) {
        self.queue.weigh(now, events, config)
    }

    /// Takes what the consumer gets next.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        config: &WatchConfig,
        spares: &mut Spares,
    ) -> Option<Delivery> {
        let delivery = self.queue.take(now, config, spares);
        if let Some(Delivery::Response(response)) = &delivery {
            self.counts.events += response.len() as u64;
            self.counts.taken = response.resume_revision().saturating_sub(1);
        }
        delivery
    }

    /// Drops what waits for the consumer; the watch goes on at the first event of it.
    pub(crate) fn drop_queue(&mut self) {
        debug_assert!(self.live().is_none(), "progress of its connection would speak for what is dropped");
        let Some(dropped) = self.queue.discard() else { return };
        self.place.go_back(dropped.base);
        self.queue.lag_from(dropped.base);
        self.created_notify |= dropped.created;
        self.progress_wanted |= dropped.progress;
    }

    /// Why it has ended.
    pub(crate) fn close_reason(&self) -> Option<&CloseReason> {
        self.queue.close_reason()
    }

    /// Whether what waits for the consumer can be asked for again.
    fn can_be_dropped(&self) -> bool {
        self.overflow != Overflow::Pause && (!self.is_closed() || self.queue.is_lagged())
    }

    /// In which order of the table it is while something waits for its consumer.
    pub(crate) fn order(&self) -> Order {
        if self.can_be_dropped() { Order::Droppable } else { Order::Kept }
    }

    /// Throws away what waits, for a consumer that wants none of it.
    pub(crate) fn discard(&mut self) {
        self.queue.discard();
    }

    pub(crate) fn count_overflow(&mut self) {
        self.counts.overflows = self.counts.overflows.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_at_rest_is_a_small_thing() {
        // The rest of what an idle watch may cost in the whole client, 512 bytes, is for its keys, maps and handles.
        assert!(size_of::<Watch>() <= 240, "{} bytes", size_of::<Watch>());
    }
}
