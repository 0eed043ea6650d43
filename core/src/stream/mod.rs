//! One gRPC stream of the client, through all its connections.
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
//! Each way out of `Open` begins a new connection. Only a move is no failure: it costs no backoff.
//!
//! A connection has proved itself when it has brought events, or has lived for as long as the longest backoff and
//! answered. Only that resets the backoff: a server that answers a create and ends the stream, again and again, is
//! reconnected to as slowly as one that never answers.

pub(crate) mod creates;
pub(crate) mod hearing;
pub(crate) mod lag;
pub(crate) mod open;
pub(crate) mod oversize;
pub(crate) mod progress;
pub(crate) mod table;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    Failure, Instant, Opened, Remedy, StreamId, StreamKey, TimeoutReason, WatchConfig, WatchKey,
    attempts::{Attempt, Attempts},
    deadlines::Due,
    key::GroupId,
    reads::Shown,
    stream::{
        hearing::{Hearing, Listened, Spot},
        lag::Lag,
        open::{Connection, Standing},
        oversize::Oversize,
        progress::Progress,
    },
    watch::set::WatchSet,
};

/// Connections that live this much longer than the longest backoff clear the record of misbehaviour.
const PENALTY_FACTOR: u32 = 4;

/// One of the client's streams. It stays; its connections come and go.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    id: StreamId,
    group: GroupId,
    /// Whether it is for the one watch that it was opened for.
    is_own: bool,
    /// The number of the present connection, or of the one that was last.
    connection: u32,
    phase: Phase,
    /// The watches that travel on it, whatever their state, but for closed ones.
    watches: WatchSet,
    attempts: Attempts,
    /// The newest revision that a header has had.
    shown: Shown,
    lag: Lag,
    oversize: Oversize,
    hearing: Hearing,
    /// Since when it has had no watches.
    empty_since: Option<Instant>,
    /// Breaches of the protocol, until a connection has lived for long enough.
    penalty: u32,
}

/// What a stream is doing.
#[derive(Clone, Debug)]
enum Phase {
    /// It waits before it opens again.
    Backoff {
        /// Until when.
        until: Instant,
    },
    /// The driver is opening it.
    Opening,
    /// It is open.
    Open(Box<Connection>),
}

impl Stream {
    pub(crate) fn new(id: StreamId, group: GroupId, is_own: bool) -> Self {
        Self {
            id,
            group,
            is_own,
            connection: 0,
            phase: Phase::Opening,
            watches: WatchSet::default(),
            attempts: Attempts::default(),
            shown: Shown::default(),
            lag: Lag::default(),
            oversize: Oversize::default(),
            hearing: Hearing::default(),
            empty_since: None,
            penalty: 0,
        }
    }

    pub(crate) fn key(&self) -> StreamKey {
        StreamKey { stream: self.id, connection: self.connection }
    }

    pub(crate) fn group(&self) -> GroupId {
        self.group
    }

    /// Whether it is for the one watch that it was opened for.
    pub(crate) fn is_own(&self) -> bool {
        self.is_own
    }

    pub(crate) fn watches(&self) -> &WatchSet {
        &self.watches
    }

    pub(crate) fn connection(&self) -> Option<&Connection> {
        match &self.phase {
            Phase::Open(connection) => Some(connection),
            Phase::Backoff { .. } | Phase::Opening => None,
        }
    }

    pub(crate) fn connection_mut(&mut self) -> Option<&mut Connection> {
        match &mut self.phase {
            Phase::Open(connection) => Some(connection),
            Phase::Backoff { .. } | Phase::Opening => None,
        }
    }

    /// The connection of a stream that must be open: something has just come on it, or a watch runs on it.
    pub(crate) fn open_mut(&mut self) -> Option<&mut Connection> {
        debug_assert!(self.connection().is_some(), "{:?} is open", self.key());
        self.connection_mut()
    }

    /// Whether it is being opened.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening)
    }

    /// Until when it waits before it opens again, if it does.
    pub(crate) fn backoff_until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Backoff { until } => Some(until),
            Phase::Opening | Phase::Open(_) => None,
        }
    }

    pub(crate) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    pub(crate) fn attempts_mut(&mut self) -> &mut Attempts {
        &mut self.attempts
    }

    /// The newest revision that a header has had.
    pub(crate) fn shown(&self) -> Shown {
        self.shown
    }

    /// The store went back: what the stream has shown is history of a store that is gone.
    pub(crate) fn forget_shown(&mut self) {
        self.shown = Shown::default();
    }

    pub(crate) fn lag_mut(&mut self) -> &mut Lag {
        &mut self.lag
    }

    /// A watch is to travel on it.
    pub(crate) fn add(&mut self, key: WatchKey) {
        self.watches.insert(key);
        self.empty_since = None;
    }

    /// A watch, which has been shown the revision `known`, travels on it no more.
    pub(crate) fn remove(&mut self, now: Instant, key: WatchKey, known: i64) {
        self.watches.remove(key);
        self.lag.remove(key, known);
        if self.watches.is_empty() {
            self.empty_since = Some(now);
        }
    }

    /// The driver is asked to open it.
    pub(crate) fn begin_opening(&mut self, now: Instant) -> Attempt {
        self.phase = Phase::Opening;
        self.attempts.begin(now)
    }

    /// The driver has opened it.
    pub(crate) fn opened(&mut self, now: Instant, opened: Opened, rng: &mut fastrand::Rng) {
        if opened.version.is_some() {
            self.attempts.note_answer();
        }
        self.hearing.begin_again(now);
        self.phase = Phase::Open(Box::new(Connection::new(now, opened, rng)));
    }

    /// Puts the watches that wait in line for their creation on the new connection, but for those that might be what a
    /// response over the limit is for: these come in stages.
    pub(crate) fn line_up(&mut self, now: Instant, config: &WatchConfig, waits: impl Fn(WatchKey) -> bool) {
        let Phase::Open(connection) = &mut self.phase else { return };
        let held: BTreeSet<WatchKey> = self.oversize.held().iter().copied().collect();
        let mut has_others = false;
        for key in self.watches.iter().filter(|&key| waits(key) && !held.contains(&key)) {
            has_others = true;
            connection.creates().enqueue(key, &waits);
        }
        self.oversize.opened(now, config, has_others);
        self.line_up_more(now, config, waits);
    }

    /// Puts those in line whose pause is over, and those whose stage has come.
    pub(crate) fn line_up_more(
        &mut self,
        now: Instant,
        config: &WatchConfig,
        waits: impl Fn(WatchKey) -> bool,
    ) {
        let Phase::Open(connection) = &mut self.phase else { return };
        connection.creates().end_pauses(now, &waits);
        if self.oversize.due().is_some_and(|at| at <= now) {
            let stage = self.oversize.next_stage(now, config);
            stage.iter().for_each(|&key| connection.creates().enqueue(key, &waits));
        }
    }

    /// A frame's header has told the member's revision. `waits` says of a watch whether it waits for its creation.
    pub(crate) fn follow(
        &mut self,
        now: Instant,
        cluster_id: u64,
        revision: i64,
        waits: impl Fn(WatchKey) -> bool,
    ) {
        self.shown.note(cluster_id, revision);
        if revision > 0 {
            self.lag.follow(now, revision);
        }
        // Not before all watches are back on the server: one that is ahead may still be among them.
        if let Phase::Open(connection) = &mut self.phase {
            self.lag.clear_if_over(|| connection.is_settled(waits));
        }
    }

    /// Whether a frame that brings nothing but events, or progress, of a watch leaves all its deadlines where they are.
    pub(crate) fn is_steady(&self, config: &WatchConfig) -> bool {
        config.probe_idle.is_none()
            && self.attempts.is_calm()
            && self.lag.is_over()
            && self.connection().is_some_and(Connection::is_steady)
    }

    /// A lawful frame has come; `is_news` when it brought events. A refusal is an answer, but no proof that the token
    /// has been accepted.
    pub(crate) fn frame_came(&mut self, now: Instant, config: &WatchConfig, is_news: bool, is_refusal: bool) {
        let Phase::Open(connection) = &mut self.phase else { return };
        if connection.frame_came(now, config, is_news) {
            self.attempts.reset();
        }
        self.attempts.note_answer();
        if connection.age(now) > config.backoff_ceiling.saturating_mul(PENALTY_FACTOR) {
            self.penalty = 0;
        }
        if !is_refusal {
            self.attempts.token_accepted();
        }
    }

    /// A watch keeps its connection from being read no more.
    pub(crate) fn release(&mut self, now: Instant) {
        let is_read = self.connection_mut().is_some_and(|connection| connection.release(now));
        if is_read {
            self.lag.read_again(now);
            self.hearing.begin_again(now);
        }
    }

    /// It is time to look at a watch behind a proxy. `spot_of` says where one is, by the progress of its connection.
    pub(crate) fn listened(
        &mut self,
        now: Instant,
        config: &WatchConfig,
        spot_of: impl Fn(WatchKey, &Progress) -> Option<Spot>,
    ) -> Listened {
        let (Phase::Open(connection), Some(idle)) = (&self.phase, config.probe_idle) else {
            return Listened::Nothing;
        };
        self.hearing.listened(now, idle, &self.watches, |key| spot_of(key, connection.progress()))
    }

    /// Whether its watches hear of their keys.
    pub(crate) fn hearing_mut(&mut self) -> &mut Hearing {
        &mut self.hearing
    }

    /// The server broke the protocol.
    pub(crate) fn misbehaved(&mut self) {
        self.penalty = self.penalty.saturating_add(1);
    }

    /// The connection failed. `running` says which watches ran on it, and of each whether it had brought nothing yet. A
    /// watch that must end because the response over the limit is for it.
    pub(crate) fn failed(
        &mut self,
        now: Instant,
        config: &WatchConfig,
        failure: &Failure,
        remedy: Remedy,
        running: impl FnOnce(&Self) -> BTreeMap<WatchKey, bool>,
    ) -> Option<WatchKey> {
        let is_lasting = self.connection().is_some_and(|connection| {
            connection.standing() == Standing::Answered && connection.age(now) >= config.backoff_ceiling
        });
        if is_lasting {
            self.attempts.reset();
        }
        self.attempts.failed(now, failure, remedy);
        if remedy != Remedy::TooLarge {
            return None;
        }
        let running = running(self);
        let is_unheard = |key: WatchKey| running.get(&key) == Some(&true);
        self.oversize.failed(config, running.keys().copied().collect(), is_unheard)
    }

    /// The present connection is over: what it still says is ignored.
    pub(crate) fn leave(&mut self) {
        self.connection = self.connection.wrapping_add(1);
        self.lag.leave();
    }

    /// It waits before it opens again.
    pub(crate) fn back_off(&mut self, now: Instant, config: &WatchConfig, rng: &mut fastrand::Rng) {
        // Misbehaviour isn't forgiven by the frames before it; nor is a deaf watch, as long as the stream is at a proxy.
        let is_proxied = self.connection().is_some_and(Connection::is_proxied);
        let deaf = if is_proxied { self.hearing.deaf_in_a_row() } else { 0 };
        self.attempts.at_least(self.penalty.max(deaf));
        self.phase = Phase::Backoff { until: self.attempts.try_again_at(now, config, rng) };
    }

    /// The next thing it waits for.
    pub(crate) fn due(&self, config: &WatchConfig) -> Option<Due> {
        let linger = self.empty_since.map(|since| (since + config.linger, TimeoutReason::Linger));
        let give_up = self.attempts.give_up_at(config).map(|at| (at, TimeoutReason::GiveUp));
        let of_phase = match &self.phase {
            Phase::Backoff { until } => earlier(Some((*until, TimeoutReason::Reconnect)), give_up),
            Phase::Opening => give_up,
            Phase::Open(connection) => {
                let create = earlier(connection.pause_ends(), self.oversize.due());
                let create = create.map(|at| (at, TimeoutReason::Create));
                let due = earlier(give_up.filter(|_| connection.is_unanswered()), create);
                if connection.is_read() {
                    let lag = self.lag.due(config).map(|at| (at, TimeoutReason::Lagging));
                    connection
                        .due_while_read(config, &self.hearing)
                        .into_iter()
                        .fold(earlier(due, lag), earlier)
                } else {
                    due
                }
            }
        };
        earlier(linger, of_phase)
    }
}

fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn open_stream() -> Stream {
        let mut stream = Stream::new(StreamId(0), GroupId(0), false);
        stream.begin_opening(at(0));
        stream.opened(at(0), Opened::default(), &mut fastrand::Rng::with_seed(1));
        stream
    }

    #[test]
    fn misbehaviour_is_forgotten_once_a_connection_has_lived_for_long() {
        let config = WatchConfig::default();
        let long = 4 * 5_000;
        for (lived, left) in [(0, 2), (long, 2), (long + 1, 0)] {
            let mut stream = open_stream();
            (0..2).for_each(|_| stream.misbehaved());
            stream.frame_came(at(lived), &config, false, false);
            assert_eq!(stream.penalty, left, "after {lived} ms");
        }
    }

    #[test]
    fn a_stream_is_given_up_while_it_has_answered_nothing_that_it_was_asked() {
        let config = WatchConfig::default().unreachable_deadline(Some(Duration::from_secs(1)));
        for (is_asked, is_answered) in [(true, false), (true, true), (false, false)] {
            let mut stream = open_stream();
            let connection = stream.connection_mut().unwrap();
            assert!(!is_asked || connection.creates().probe(at(0)).is_some());
            if is_answered {
                stream.frame_came(at(0), &config, false, false);
            }
            let is_given_up = stream.due(&config) == Some((at(1_000), TimeoutReason::GiveUp));
            assert_eq!(is_given_up, is_asked && !is_answered);
        }
    }

    #[test]
    fn failures_count_from_0_again_after_events_or_a_long_life_and_not_after_an_answer() {
        let config = WatchConfig::default();
        for (is_news, lived, failures) in [(false, 0, 4), (false, 4_999, 4), (false, 5_000, 1), (true, 0, 1)]
        {
            let mut stream = open_stream();
            stream.attempts.at_least(3);
            stream.frame_came(at(0), &config, is_news, false);
            stream.failed(at(lived), &config, &Failure::EndOfStream, Remedy::RetryElsewhere, |_| {
                BTreeMap::new()
            });
            stream.back_off(at(lived), &config, &mut fastrand::Rng::with_seed(1));
            assert_eq!(stream.attempts.failures(), failures, "news: {is_news}, lived {lived} ms");
        }
    }
}
