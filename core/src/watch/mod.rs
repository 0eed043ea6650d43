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

mod admit;
pub(crate) mod key_queue;
pub(crate) mod place;
pub(crate) mod queue;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod set;
pub(crate) mod table;

use alloc::{string::String, sync::Arc};

use crate::{
    CloseReason, Config, CreateRequest, Delivery, Filters, Header, Instant, KeyRange, Overflow, RangeDone,
    Remedy, ResponseKind, StartAt, StreamEnd, StreamId, WatchRequest, WatchResponse, WatchState, WatchStats,
    failure::TOKEN_LIMIT,
    key::Purpose,
    stream::progress::Progress,
    watch::{
        place::Place,
        queue::{Queue, Spares},
    },
};

/// How often in a row a watch may be refused, or ended by the server before it brought anything new, until that
/// counts as final.
const REFUSAL_LIMIT: u8 = 8;

/// How often in a row a watch may be refused before a denial is taken for what it says.
const DENIAL_LIMIT: u8 = 3;

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
    Denied(Denial),
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
    /// When the server created it.
    begun: Instant,
    /// The store's revision when the server created it.
    created_at: i64,
    /// How many progress requests had been sent on the connection when its creation was learned.
    requests_before: u64,
    /// Replies up to this one say nothing: they came in the middle of a revision.
    replies_ignored: u64,
    /// Whether anything but `Created` has come.
    heard: bool,
    /// Whether it keeps its connection from being read.
    holding: bool,
    /// The beginning of a revision whose other fragments are still to come.
    partial: Option<WatchResponse>,
}

impl Live {
    /// Whether the last manual progress reply of its connection speaks for this watch: the reply was made after the
    /// watch, as its revision or the count of replies proves. `stream::progress` says why both are needed.
    fn is_spoken_for(&self, progress: &Progress) -> bool {
        let Some(spoken) = progress.spoken() else { return false };
        self.partial.is_none()
            && progress.replies() > self.replies_ignored
            && (spoken.revision > self.created_at || progress.replies() > self.requests_before)
    }
}

/// What the machine must do about a watch, or because of it.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// End the watch.
    End(CloseReason),
    /// Create it again: at once, or after a pause when the server has sent it away before.
    Recreate {
        /// How often in a row the server had sent it away before this time.
        before: u32,
    },
    /// Find out whether the denial stands.
    LookInto {
        /// The server's text.
        message: String,
    },
    /// The server does not accept the connection's token.
    TokenRefused {
        /// The server's text.
        message: String,
    },
    /// The member is of no use: replace the connection.
    Replace {
        /// Where to go next.
        remedy: Remedy,
        /// What the log is told.
        end: StreamEnd,
    },
}

/// A create that was refused, or the end of a running watch by the server, without a compaction.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The server's text.
    pub(crate) message: String,
    /// Whether the watch was running.
    pub(crate) is_running: bool,
    /// Whether the connection carries a token, which may have expired.
    pub(crate) has_token: bool,
    /// Whether that is the last new token that the stream may have refused.
    pub(crate) is_last_token: bool,
}

/// One watch.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    range: KeyRange,
    filters: Filters,
    prev_kv: bool,
    fragment: bool,
    progress_notify: bool,
    overflow: Overflow,
    /// The stream it travels on.
    stream: StreamId,
    state: State,
    place: Place,
    /// The consumer has asked for one progress notification.
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
    /// The consumer has taken everything up to this revision.
    taken: i64,
    events: u64,
    recreates: u32,
    overflows: u32,
    stale_events: u32,
}

impl Watch {
    pub(crate) fn new(request: &WatchRequest, stream: StreamId, config: &Config) -> Self {
        let budget = request.buffer_bytes.unwrap_or(config.buffer_bytes);
        let (cluster_id, shown) = request.known;
        let (state, place) = match request.start {
            StartAt::Now => (State::AwaitingRevision { asked: false }, Place::unknown()),
            StartAt::Revision(revision) => (State::Queued, Place::at(revision, cluster_id, shown)),
        };
        Self {
            range: request.range.clone(),
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

    pub(crate) fn range(&self) -> &KeyRange {
        &self.range
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
        self.state = State::Denied(Denial { asked: false, connection, message });
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
            State::Denied(denial) => Some(denial),
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
            range: self.range.clone(),
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
        self.created_before = true;
        self.refusals = 0;
        self.state = State::Live(Live {
            id,
            begun: now,
            created_at: header.revision,
            requests_before: progress.requests(),
            replies_ignored: 0,
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

    /// What a refusal, or an end by the server, comes to.
    pub(crate) fn refused(&mut self, now: Instant, config: &Config, refusal: Refusal) -> Verdict {
        let Refusal { message, is_running, has_token, is_last_token } = refusal;
        let remedy = crate::failure::remedy_of_cancel(&message);
        if let Some(remedy @ (Remedy::NoLeader | Remedy::RetryElsewhere)) = remedy {
            // That concerns the member, and says nothing against the watch.
            return Verdict::Replace { remedy, end: StreamEnd::Unavailable { message } };
        }
        if self.live().is_some_and(|live| now.since(live.begun) >= config.backoff_ceiling) {
            self.cancels = 0;
        }
        let times = if is_running { &mut self.cancels } else { &mut self.refusals };
        *times = times.saturating_add(1);
        let times = *times;
        let is_final = times >= REFUSAL_LIMIT;
        // Other watches of the stream may do well with its tokens.
        let is_alone = u32::from(times) > TOKEN_LIMIT && !is_last_token;
        match remedy {
            Some(Remedy::Denied) if has_token && !is_running && times < DENIAL_LIMIT => {
                Verdict::LookInto { message }
            }
            Some(Remedy::BadCredentials) => Verdict::End(CloseReason::AuthenticationFailed { message }),
            Some(Remedy::Denied) => Verdict::End(CloseReason::PermissionDenied { message }),
            Some(Remedy::Reauthenticate) if is_alone => {
                Verdict::End(CloseReason::TokenRefused { tokens: TOKEN_LIMIT, message })
            }
            Some(Remedy::Reauthenticate) => Verdict::TokenRefused { message },
            Some(Remedy::Retry) if !is_final => Verdict::Recreate { before: u32::from(times) - 1 },
            None if message.is_empty() && !is_final => Verdict::Recreate { before: u32::from(times) - 1 },
            None if is_running => Verdict::End(CloseReason::CancelledByServer { message }),
            _ => Verdict::End(CloseReason::Refused { message }),
        }
    }

    /// It waits for its turn on the stream, again.
    pub(crate) fn queue_again(&mut self) {
        debug_assert!(!self.is_closed());
        self.state = State::Queued;
    }

    /// It is off the server, or is to be taken off it, until its consumer has caught up.
    pub(crate) fn overflow_now(&mut self) {
        debug_assert!(!self.is_closed());
        self.state = State::Overflowed;
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

    /// Takes in what the last manual progress reply of its connection says for it. Replies are taken in late, by each
    /// watch when it matters, so that a reply costs the same however many watches it speaks for.
    pub(crate) fn settle(&mut self, progress: &Progress) {
        if let State::Live(live) = &self.state
            && live.is_spoken_for(progress)
            && let Some(spoken) = progress.spoken()
        {
            self.place.progress(spoken.revision, true);
        }
    }

    /// The revision it would go on at if its connection broke now.
    pub(crate) fn next_revision(&self, progress: Option<&Progress>) -> i64 {
        let spoken = match (self.live(), progress) {
            (Some(live), Some(progress)) if live.is_spoken_for(progress) => progress.spoken(),
            _ => None,
        };
        match spoken {
            Some(header) => self.place.next_revision_after(header.revision),
            None => self.place.next_revision(),
        }
    }

    /// Whether nothing but `Created` has come on its connection, so that a response that never got through may have
    /// been for it.
    pub(crate) fn is_unheard(&self, progress: &Progress) -> bool {
        self.live().is_some_and(|live| !live.heard && !live.is_spoken_for(progress))
    }

    /// Whether its consumer gets progress notifications without asking for each.
    pub(crate) fn listens(&self) -> bool {
        self.progress_notify
    }

    /// Whether its consumer has asked for a progress notification and has not had it.
    pub(crate) fn wants_progress(&self) -> bool {
        self.progress_wanted
    }

    pub(crate) fn want_progress(&mut self) {
        self.progress_wanted = true;
    }

    /// How many progress requests had been sent on the connection when its creation was learned.
    pub(crate) fn requests_before(&self) -> u64 {
        self.live().map_or(0, |live| live.requests_before)
    }

    /// A notification of progress from the server; `manual` for a reply that speaks for the whole connection. The
    /// notice for the consumer, if it is to have one.
    pub(crate) fn progress(
        &mut self,
        header: Header,
        manual: bool,
        progress: &Progress,
    ) -> Option<WatchResponse> {
        let live = self.live_mut()?;
        let is_spoken_for = !manual || live.is_spoken_for(progress);
        live.heard |= is_spoken_for;
        let is_told = is_spoken_for
            && live.partial.is_none()
            && !progress.is_false()
            && self.place.progress(header.revision, manual);
        if !is_told || !(core::mem::take(&mut self.progress_wanted) || self.progress_notify) {
            return None;
        }
        Some(WatchResponse::notice(ResponseKind::Progress, header, self.place.next_revision()))
    }

    /// Progress replies of its connection have been proved false; with `all`, what it was told itself, too.
    pub(crate) fn withdraw_progress(&mut self, all: bool) {
        self.place.withdraw(all);
        self.queue.lower_base(self.place.next_revision());
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

    /// Puts a response before the consumer. `base` is the revision to go on at if the response were dropped.
    pub(crate) fn push(&mut self, now: Instant, response: WatchResponse, base: i64, spares: &mut Spares) {
        self.queue.push(now, response, base, spares);
    }

    /// Whether the consumer must be told that there is something; true once per edge.
    pub(crate) fn notify(&mut self) -> bool {
        self.queue.notify()
    }

    /// Whether more waits than may, or would with `more` bytes; the limit grows first where the consumer deserves it.
    pub(crate) fn is_over(&mut self, now: Instant, config: &Config, more: usize) -> bool {
        self.queue.is_over(now, config.stall_after, more)
    }

    /// Takes what the consumer gets next.
    pub(crate) fn take(&mut self, now: Instant, config: &Config, spares: &mut Spares) -> Option<Delivery> {
        let delivery = self.queue.take(now, config, spares);
        if let Some(Delivery::Response(response)) = &delivery {
            self.counts.events += response.len() as u64;
            self.counts.taken = response.resume_revision().saturating_sub(1);
        }
        delivery
    }

    /// Events from `revision` on were not kept.
    pub(crate) fn go_back(&mut self, revision: i64) {
        self.place.go_back(revision);
    }

    /// Drops what waits for the consumer; the watch goes on at the first event of it.
    pub(crate) fn drop_queue(&mut self) {
        let Some(dropped) = self.queue.discard() else { return };
        self.place.go_back(dropped.base);
        self.queue.lag_from(dropped.base);
        self.created_notify |= dropped.created;
        self.progress_wanted |= dropped.progress;
    }

    /// Whether what waits for the consumer can be asked for again.
    pub(crate) fn can_be_dropped(&self) -> bool {
        self.overflow != Overflow::Pause && (!self.is_closed() || self.queue.is_lagged())
    }

    /// Throws away what waits, for a consumer that wants none of it.
    pub(crate) fn discard(&mut self) {
        self.queue.discard();
    }

    pub(crate) fn count_overflow(&mut self) {
        self.counts.overflows = self.counts.overflows.saturating_add(1);
    }

    /// For statistics. A closed watch is on no stream.
    pub(crate) fn stats(&self, stream: Option<crate::StreamKey>, progress: Option<&Progress>) -> WatchStats {
        let state = match self.state {
            State::AwaitingRevision { .. } => WatchState::AwaitingRevision,
            State::Queued | State::Denied(_) => WatchState::Waiting,
            State::Creating { .. } => WatchState::Creating,
            State::Live(_) => WatchState::Active,
            State::Overflowed => WatchState::Overflowed,
            State::Closed => WatchState::Closed,
        };
        let point = self.place.point();
        let waiting = self.queue.responses();
        let before_first = point.map_or(0, |point| point.start().saturating_sub(1));
        let newest = waiting.back().map(|response| response.resume_revision().saturating_sub(1));
        let taken = self.counts.taken.max(before_first);
        WatchStats {
            state,
            stream: stream.filter(|_| !self.is_closed()),
            resume_revision: self.next_revision(progress),
            accepted_revision: point.map_or(0, |point| point.accepted()),
            taken_revision: self.counts.taken,
            lag: newest.map_or(0, |newest| u64::try_from(newest.saturating_sub(taken)).unwrap_or(0)),
            queued_responses: waiting.len(),
            queued_events: waiting.iter().map(WatchResponse::len).sum(),
            queued_bytes: self.held(),
            buffer_limit: self.queue.limit(),
            events: self.counts.events,
            recreates: self.counts.recreates,
            overflows: self.counts.overflows,
            stale_events: self.counts.stale_events,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_at_rest_is_a_small_thing() {
        // The rest of what an idle watch may cost in the whole client, 1 KiB, is for maps and handles.
        assert!(size_of::<Watch>() <= 512, "{} bytes", size_of::<Watch>());
    }
}
