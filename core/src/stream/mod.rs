//! One gRPC stream of the client, through all its incarnations.
//!
//! ```text
//!                  +-------- failed ---------+
//!                  v                         |
//!               Backoff --time is up--> Opening --opened--> Open
//!                  ^                         ^                | |
//!                  |                         +---- moved -----+ |
//!                  +------ failed, misbehaved, token refused ---+
//! ```
//!
//! Each way out of `Open` begins a new incarnation. Only moving is no failure: it costs no backoff.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
};
use core::time::Duration;

use crate::{
    Config, Instant, Opened, ServerMisbehaved, StreamKey, TimeoutReason, WatchKey,
    attempts::{Backoff, Patience},
    failure::TOKEN_LIMIT,
    reads::Shown,
    watch::SharedOptions,
};

/// Chosen watch ids start above this, at a random place: where no server counts that ignores them, and
/// still three bytes on the wire.
const FIRST_ID: i64 = 1 << 16;

/// How many responses may come for watches that are over and confirmed so.
pub(crate) const STALE_LIMIT: u32 = 1000;

/// How many manual progress requests may be unanswered before they are spaced out.
const PROGRESS_BURST: u64 = 128;

/// How far they are spaced out then, and how soon a wanted one is repeated.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);

/// Streams that live this much longer than the longest backoff clear the record of misbehaviour.
const PENALTY_FACTOR: u32 = 4;

/// A lane: one of the client's streams. Its number stays, its incarnations come and go.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) number: u32,
    pub(crate) incarnation: u32,
    pub(crate) options: SharedOptions,
    /// The watches that travel on it, whatever their state, but for closed ones.
    pub(crate) watches: BTreeSet<WatchKey>,
    pub(crate) state: LaneState,
    pub(crate) backoff: Backoff,
    pub(crate) patience: Patience,
    /// Open the next incarnation on another endpoint.
    pub(crate) elsewhere: bool,
    /// Open the next incarnation with a new token, until one has shown that its token is good.
    pub(crate) fresh_token: bool,
    /// New tokens refused in a row.
    pub(crate) refused_tokens: u32,
    /// The newest revision that a header has had.
    pub(crate) shown: Shown,
    /// Member lag, which outlives the stream it was seen on.
    pub(crate) lag: Option<Lag>,
    /// Since when it has had no watches.
    pub(crate) empty_since: Option<Instant>,
    /// How many of its watches keep it from being read.
    pub(crate) holds: usize,
    /// Breaches of the protocol, until a stream has lived long enough.
    pub(crate) penalty: u32,
    /// Streams in a row that ended with a response over the limit.
    pub(crate) too_large: u32,
}

/// What a lane is doing.
#[derive(Clone, Debug)]
pub(crate) enum LaneState {
    /// Waits before it opens again.
    Backoff {
        /// Until when.
        until: Instant,
    },
    /// The driver is opening it.
    Opening,
    /// It is open.
    Open(Box<GrpcStream>),
}

/// A member is behind what another has shown.
#[derive(Clone, Debug)]
pub(crate) struct Lag {
    pub(crate) since: Instant,
    /// Whether this is the second member found behind.
    pub(crate) moved: bool,
    /// The member's revision.
    pub(crate) revision: i64,
    /// The watches that are ahead of it.
    pub(crate) watches: BTreeSet<WatchKey>,
    pub(crate) ask_at: Instant,
}

/// Whether the server keeps the ids it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// Not known yet: one create at a time.
    Unknown,
    /// It does: creates go out together, and each is known by its id.
    Kept,
    /// It does not (a proxy): one create at a time, known by order.
    Ignored,
}

/// Whose responses an id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A watch.
    Live(WatchKey),
    /// One that was cancelled; what still comes is dropped.
    Cancelled,
}

/// A create request that has not been answered.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) id: i64,
    /// `None` for a probe, and when the watch was cancelled meanwhile.
    pub(crate) watch: Option<WatchKey>,
}

/// One incarnation of a lane, while it is open.
#[derive(Clone, Debug)]
pub(crate) struct GrpcStream {
    pub(crate) echo: Echo,
    pub(crate) next_id: i64,
    pub(crate) first_id: i64,
    pub(crate) routes: BTreeMap<i64, Route>,
    /// Watches to create, in order.
    pub(crate) to_create: VecDeque<WatchKey>,
    /// Creates sent, in order.
    pub(crate) pending: VecDeque<Pending>,
    /// Watches that want a progress notification.
    pub(crate) wanting: BTreeSet<WatchKey>,
    /// Whether manual progress replies wait for the events before them.
    pub(crate) ordered_progress: bool,
    /// Whether an event has given progress the lie.
    pub(crate) lied: bool,
    /// Whether it carries an auth token.
    pub(crate) authenticated: bool,
    pub(crate) opened: Instant,
    pub(crate) last_frame: Instant,
    pub(crate) answer_due: Option<Instant>,
    pub(crate) probe_due: Option<Instant>,
    pub(crate) progress_requests: u64,
    pub(crate) progress_replies: u64,
    pub(crate) last_progress_request: Option<Instant>,
    /// Whether a frame has come: only that proves a stream.
    pub(crate) proven: bool,
    pub(crate) stale: u32,
}

impl GrpcStream {
    pub(crate) fn new(now: Instant, opened: Opened, rng: &mut fastrand::Rng) -> Self {
        let first_id = FIRST_ID + rng.i64(0..FIRST_ID);
        Self {
            echo: Echo::Unknown,
            next_id: first_id,
            first_id,
            routes: BTreeMap::new(),
            to_create: VecDeque::new(),
            pending: VecDeque::new(),
            wanting: BTreeSet::new(),
            ordered_progress: opened.version.is_some_and(|version| version.orders_manual_progress()),
            lied: false,
            authenticated: opened.authenticated,
            opened: now,
            last_frame: now,
            answer_due: None,
            probe_due: None,
            progress_requests: 0,
            progress_replies: 0,
            last_progress_request: None,
            proven: false,
            stale: 0,
        }
    }

    /// Whether manual progress replies move resume points.
    pub(crate) fn trusts_manual_progress(&self) -> bool {
        self.ordered_progress && !self.lied
    }

    /// Whether another create may go out now.
    pub(crate) fn may_create(&self) -> bool {
        self.echo == Echo::Kept || self.pending.is_empty()
    }

    /// The id for the next create; 0 leaves a server to choose that ignores ids.
    pub(crate) fn take_id(&mut self) -> i64 {
        if self.echo == Echo::Ignored {
            return 0;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// Whether an id has been given out on this stream, by whichever side chooses them.
    pub(crate) fn was_issued(&self, id: i64) -> bool {
        match self.echo {
            Echo::Ignored => id >= 0 && id < self.next_id,
            _ => (self.first_id..self.next_id).contains(&id),
        }
    }

    /// A response for an id without a route: a late one for a watch that is over, or nonsense.
    pub(crate) fn count_stale(&mut self, watch_id: i64) -> Result<(), ServerMisbehaved> {
        if !self.was_issued(watch_id) {
            return Err(ServerMisbehaved::UnknownWatchId { watch_id });
        }
        self.stale += 1;
        if self.stale > STALE_LIMIT {
            return Err(ServerMisbehaved::StaleFlood { limit: STALE_LIMIT });
        }
        Ok(())
    }

    /// Whether a progress request may be sent now; counts it if so.
    pub(crate) fn take_progress_turn(&mut self, now: Instant) -> bool {
        let unanswered = self.progress_requests.saturating_sub(self.progress_replies);
        let rested = self.last_progress_request.is_none_or(|last| now >= last + PROGRESS_PAUSE);
        if unanswered >= PROGRESS_BURST && !rested {
            return false;
        }
        self.progress_requests += 1;
        self.last_progress_request = Some(now);
        true
    }

    /// When the next progress request is due, if nothing else asks for one before.
    fn progress_at(&self, config: &Config) -> Option<Instant> {
        let last = self.last_progress_request.unwrap_or(self.opened);
        if !self.wanting.is_empty() && self.trusts_manual_progress() {
            let unanswered = self.progress_requests.saturating_sub(self.progress_replies);
            return Some(last + PROGRESS_PAUSE * u32::try_from(unanswered).unwrap_or(u32::MAX).clamp(1, 50));
        }
        let routine =
            config.progress_interval.filter(|_| self.trusts_manual_progress() && !self.routes.is_empty());
        routine.map(|interval| last + interval.max(PROGRESS_PAUSE))
    }

    /// When to ask for a sign of life.
    fn probe_at(&self, config: &Config) -> Option<Instant> {
        let idle = config.probe_idle.filter(|_| self.probe_due.is_none() && !self.routes.is_empty());
        idle.map(|idle| self.last_frame + idle)
    }
}

impl Lane {
    pub(crate) fn new(number: u32, options: SharedOptions) -> Self {
        Self {
            number,
            incarnation: 0,
            options,
            watches: BTreeSet::new(),
            state: LaneState::Opening,
            backoff: Backoff::default(),
            patience: Patience::default(),
            elsewhere: false,
            fresh_token: false,
            refused_tokens: 0,
            shown: Shown::default(),
            lag: None,
            empty_since: None,
            holds: 0,
            penalty: 0,
            too_large: 0,
        }
    }

    pub(crate) fn key(&self) -> StreamKey {
        StreamKey { lane: self.number, incarnation: self.incarnation }
    }

    pub(crate) fn stream(&mut self) -> Option<&mut GrpcStream> {
        match &mut self.state {
            LaneState::Open(stream) => Some(stream),
            _ => None,
        }
    }

    /// One watch less keeps it from being read. Once none does, what the server was to say by now it is given time
    /// for: it had no chance to be heard.
    pub(crate) fn release(&mut self, now: Instant, config: &Config) {
        self.holds -= 1;
        if self.holds == 0
            && let LaneState::Open(stream) = &mut self.state
        {
            stream.last_frame = now;
            stream.probe_due = None;
            stream.answer_due = stream.answer_due.map(|_| now + config.answer_timeout);
        }
    }

    /// Whether this stream's token was got anew, and is the last that may be refused.
    pub(crate) fn is_last_token(&self) -> bool {
        self.fresh_token && self.refused_tokens + 1 >= TOKEN_LIMIT
    }

    /// A lawful frame has come. A refusal proves that the stream works, but not that its token does.
    pub(crate) fn proved(&mut self, now: Instant, config: &Config, is_refusal: bool) {
        let LaneState::Open(stream) = &mut self.state else { return };
        stream.last_frame = now;
        stream.probe_due = None;
        stream.answer_due = (!stream.pending.is_empty()).then(|| now + config.answer_timeout);
        if now.since(stream.opened) > config.backoff_ceiling.saturating_mul(PENALTY_FACTOR) {
            self.penalty = 0;
        }
        if !stream.proven {
            stream.proven = true;
            self.backoff.reset();
            self.patience.proved();
        }
        if !is_refusal {
            self.fresh_token = false;
            self.refused_tokens = 0;
        }
    }

    /// Everything the lane waits for.
    pub(crate) fn timeouts(&self, config: &Config) -> impl Iterator<Item = (Instant, TimeoutReason)> + use<> {
        let linger = self.empty_since.map(|since| since + config.linger);
        let give_up = self.patience.due(config);
        let mut timeouts = [None; 7];
        timeouts[0] = linger.map(|at| (at, TimeoutReason::Linger));
        match &self.state {
            LaneState::Backoff { until } => {
                timeouts[1] = Some((*until, TimeoutReason::Reconnect));
                timeouts[2] = give_up.map(|at| (at, TimeoutReason::GiveUp));
            }
            LaneState::Opening => timeouts[1] = give_up.map(|at| (at, TimeoutReason::GiveUp)),
            LaneState::Open(stream) => {
                let is_unproven = !stream.proven && !stream.pending.is_empty();
                timeouts[1] = give_up.filter(|_| is_unproven).map(|at| (at, TimeoutReason::GiveUp));
                let lag = self.lag.as_ref().filter(|lag| !lag.watches.is_empty());
                timeouts[2] = lag
                    .map(|lag| ((lag.since + config.lag_deadline).min(lag.ask_at), TimeoutReason::Lagging));
                // What a stream that isn't read would say, nobody hears.
                if self.holds == 0 {
                    timeouts[3] = stream.answer_due.map(|at| (at, TimeoutReason::AnswerDue));
                    timeouts[4] = stream.probe_due.map(|at| (at, TimeoutReason::ProbeDue));
                    timeouts[5] = stream.probe_at(config).map(|at| (at, TimeoutReason::Probe));
                    timeouts[6] = stream.progress_at(config).map(|at| (at, TimeoutReason::Progress));
                }
            }
        }
        timeouts.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn stream(echo: Echo) -> GrpcStream {
        let version = Some(crate::ServerVersion::new(3, 5, 30));
        let opened = Opened { version, authenticated: false };
        GrpcStream { echo, ..GrpcStream::new(at(0), opened, &mut fastrand::Rng::with_seed(1)) }
    }

    #[test]
    fn ids_are_counted_up_from_a_place_of_the_stream_s_own() {
        let mut stream = stream(Echo::Kept);
        let first = stream.first_id;
        assert!(first >= FIRST_ID && !stream.was_issued(first));
        assert_eq!((stream.take_id(), stream.take_id()), (first, first + 1));
        let is_issued = [first - 1, first, first + 1, first + 2].map(|id| stream.was_issued(id));
        assert_eq!(is_issued, [false, true, true, false]);
    }

    #[test]
    fn a_server_that_ignores_ids_counts_from_0() {
        let mut stream = stream(Echo::Ignored);
        stream.next_id = 3;
        assert_eq!((stream.take_id(), stream.next_id), (0, 3));
        assert_eq!([-1, 0, 2, 3].map(|id| stream.was_issued(id)), [false, true, true, false]);
    }

    #[test]
    fn progress_requests_are_spaced_out_once_many_are_unanswered() {
        let mut stream = stream(Echo::Kept);
        assert!((0..PROGRESS_BURST).all(|_| stream.take_progress_turn(at(10))));
        assert!(!stream.take_progress_turn(at(109)));
        assert!(stream.take_progress_turn(at(110)) && !stream.take_progress_turn(at(110)));
        assert_eq!(stream.progress_requests, PROGRESS_BURST + 1);
        stream.progress_replies = 2;
        assert!(stream.take_progress_turn(at(110)) && !stream.take_progress_turn(at(110)));
    }

    #[test]
    fn a_progress_request_that_stays_unanswered_is_repeated_later_and_later() {
        let config = Config::default().progress_interval(Some(Duration::from_millis(50)));
        let mut stream = stream(Echo::Kept);
        assert_eq!(stream.progress_at(&config), None, "nobody is there who could want it");
        stream.routes.insert(1, Route::Cancelled);
        assert_eq!(stream.progress_at(&config), Some(at(100)), "not at every interval");
        stream.wanting.insert(WatchKey(1));
        for (unanswered, due) in [(0, 100), (1, 100), (3, 300), (50, 5_000), (90, 5_000)] {
            stream.progress_requests = unanswered;
            assert_eq!(stream.progress_at(&config), Some(at(due)), "{unanswered} unanswered");
        }
        stream.lied = true;
        assert_eq!(stream.progress_at(&config), None, "it would say nothing");
    }

    #[test]
    fn misbehaviour_is_forgotten_once_a_stream_has_lived_for_long() {
        let config = Config::default();
        let long = 4 * 5_000;
        for (lived, left) in [(0, 2), (long, 2), (long + 1, 0)] {
            let mut lane = Lane::new(0, SharedOptions::default());
            (lane.penalty, lane.state) = (2, LaneState::Open(Box::new(stream(Echo::Kept))));
            lane.proved(at(lived), &config, false);
            assert_eq!(lane.penalty, left, "after {lived} ms");
        }
    }

    #[test]
    fn a_stream_is_given_up_while_it_has_answered_nothing_that_it_was_asked() {
        let config = Config::default().unreachable_deadline(Some(Duration::from_secs(1)));
        let is_given_up = |proven, asked| {
            let mut lane = Lane::new(0, SharedOptions::default());
            lane.patience.attempt(at(0));
            let pending = VecDeque::from_iter([Pending { id: 1, watch: None }].into_iter().take(asked));
            let stream = GrpcStream { proven, pending, ..stream(Echo::Kept) };
            lane.state = LaneState::Open(Box::new(stream));
            lane.timeouts(&config).any(|due| due == (at(1_000), TimeoutReason::GiveUp))
        };
        assert!(is_given_up(false, 1));
        assert!(!is_given_up(false, 0) && !is_given_up(true, 1) && !is_given_up(true, 0));
    }
}
