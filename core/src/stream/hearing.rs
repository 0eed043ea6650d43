//! Behind a proxy: does a watch still hear of its keys?
//!
//! A probe of a stream through etcd's gRPC proxy proves that the proxy lives, and nothing of the watches that the proxy
//! keeps on a member for its clients. It can lose one and tell nobody. So one watch at a time is listened to for the
//! time of a probe. If it stays where it is, the store is asked whether a key of the watch was put since then. If one
//! was, and the watch still stays where it is for the time that a sign of life is given, then it is deaf.
//!
//! ```text
//!   Idle --next watch--> Listening --it stays where it is--> Asked --the store has more--> Awaited --it stays--> deaf
//!    ^                       |                                 |                              |
//!    +--- the next one's ----+--- it moves, or is elsewhere ---+------------------------------+
//!         turn                                                 +--- nothing new, or no answer
//! ```
//!
//! A watch that stays where it is may only have a long way to go to its first event, on a server that is slow: then
//! replacing its stream would do harm, for ever. So each time that a watch is found to be deaf the next one is given
//! twice as long, until the watch is found to hear again.

use core::time::Duration;

use crate::{Instant, RangeDone, RangeKey, WatchConfig, WatchKey, watch::set::WatchSet};

/// After a read there is a pause so many times as long as the read took: a server looks at the whole range for it.
const REST: u32 = 32;

/// How many times in a row the patience is doubled.
const DOUBLINGS: u32 = 6;

/// Where a watch is on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    /// Its id on the server.
    pub(crate) id: i64,
    /// The next revision that it is to hear of.
    pub(crate) next_revision: i64,
}

/// The watch whose turn it is, and where it was when its turn began. As long as it stays there it has heard nothing.
#[derive(Clone, Copy, Debug)]
struct Subject {
    watch: WatchKey,
    spot: Spot,
}

/// What one stream knows of whether its watches hear.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hearing {
    phase: Phase,
    /// The last watch whose turn is over.
    done: Option<WatchKey>,
    /// The watch that was last found to be deaf, until it is found to hear.
    deaf: Option<WatchKey>,
    /// Times that a watch was found to be deaf since then.
    times: u32,
}

/// What is being done about the watch whose turn it is.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing, until it is the next one's turn.
    Idle { until: Instant },
    /// It is listened to.
    Listening { subject: Subject, until: Instant },
    /// The store is asked whether there is more for it.
    Asked { subject: Subject, read: RangeKey, since: Instant },
    /// There is more for it.
    Awaited { subject: Subject, revision: i64, until: Instant },
}

impl Default for Phase {
    fn default() -> Self {
        Self::Idle { until: Instant::ZERO }
    }
}

/// What is to be done about a watch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Listened {
    /// Nothing: it hears, or that remains to be seen.
    Nothing,
    /// The store is to be asked whether there is more for it: [`Hearing::ask`].
    Ask {
        /// The watch.
        watch: WatchKey,
        /// The next revision that it is to hear of.
        next_revision: i64,
    },
    /// It hears nothing any more.
    Deaf {
        /// The watch.
        watch: WatchKey,
        /// The revision that it has not heard of.
        revision: i64,
    },
}

impl Hearing {
    /// When to look again, on a connection through a proxy that is read and has watches.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Idle { until } | Phase::Listening { until, .. } | Phase::Awaited { until, .. } => {
                Some(until)
            }
            Phase::Asked { .. } => None,
        }
    }

    /// It is time to look again. `spot_of` says where a watch is, if it is one that can be listened to.
    pub(crate) fn listened(
        &mut self,
        now: Instant,
        idle: Duration,
        watches: &WatchSet,
        spot_of: impl Fn(WatchKey) -> Option<Spot>,
    ) -> Listened {
        if let Phase::Listening { subject, .. } | Phase::Awaited { subject, .. } = self.phase {
            let Subject { watch, spot } = subject;
            match (spot_of(watch), self.phase) {
                (Some(there), Phase::Awaited { revision, .. }) if there == spot => {
                    self.times = self.times.saturating_add(1);
                    self.deaf = Some(watch);
                    // Its turn is not over: the next thing to know is whether it hears again.
                    self.phase = Phase::Idle { until: now + idle };
                    return Listened::Deaf { watch, revision };
                }
                (Some(there), _) if there == spot => {
                    return Listened::Ask { watch, next_revision: spot.next_revision };
                }
                (there, _) => self.end_turn(watch, there.is_some_and(|there| there.id == spot.id)),
            }
        }
        if self.deaf.is_some_and(|deaf| !watches.contains(deaf)) {
            (self.deaf, self.times) = (None, 0);
        }
        let in_turn = watches.in_turn_after(self.done);
        let mut subjects = in_turn.filter_map(|watch| Some(Subject { watch, spot: spot_of(watch)? }));
        let until = now + idle;
        self.phase = match subjects.next() {
            Some(subject) => Phase::Listening { subject, until },
            None => Phase::Idle { until },
        };
        Listened::Nothing
    }

    /// A watch's turn is over. `hears` says whether it was found to hear; otherwise nothing is known of it.
    fn end_turn(&mut self, watch: WatchKey, hears: bool) {
        self.done = Some(watch);
        if hears && self.deaf == Some(watch) {
            (self.deaf, self.times) = (None, 0);
        }
    }

    /// The store is asked for what the watch that is listened to has not heard of.
    pub(crate) fn ask(&mut self, now: Instant, read: RangeKey) {
        if let Phase::Listening { subject, .. } = self.phase {
            self.phase = Phase::Asked { subject, read, since: now };
        }
    }

    /// The watch that a read is for, if its answer is waited for.
    pub(crate) fn asked_for(&self, read: RangeKey) -> Option<WatchKey> {
        match self.phase {
            Phase::Asked { subject, read: own, .. } if own == read => Some(subject.watch),
            _ => None,
        }
    }

    /// The read was answered, by `done` if it says something of the watch's own history. Otherwise nothing is known.
    pub(crate) fn answered(&mut self, now: Instant, config: &WatchConfig, done: Option<RangeDone>) {
        let Phase::Asked { subject, since, .. } = self.phase else { return };
        match done.map(|done| done.mod_revision) {
            Some(revision) if revision >= subject.spot.next_revision => {
                let patience = config.probe_timeout.saturating_mul(1 << self.times.min(DOUBLINGS));
                self.phase = Phase::Awaited { subject, revision, until: now + patience };
            }
            found => {
                self.end_turn(subject.watch, found.is_some());
                self.phase = Phase::Idle { until: now + now.since(since).saturating_mul(REST) };
            }
        }
    }

    /// The connection is another one, or was not read for a while: where a watch stayed says nothing any more.
    pub(crate) fn begin_again(&mut self, now: Instant) {
        self.phase = Phase::Idle { until: now };
    }

    /// Times that a watch was found to be deaf since the last one of these was found to hear again.
    pub(crate) fn deaf_in_a_row(&self) -> u32 {
        self.times
    }
}
