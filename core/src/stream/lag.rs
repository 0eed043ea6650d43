//! A member that is behind what the store has shown: wait for it, try another, and in the end believe it.
//!
//! ```text
//!   none --a watch is ahead of its member--> First --deadline--> Second --deadline--> the store went back
//!    ^                                         |                   |
//!    +--------- the member is there -----------+-------------------+
//! ```
//!
//! A member has caught up when it is where the watches were when the lag began: the clock then begins anew for watches
//! that have come since and are ahead still. So a member that moves on is never taken for one that lags, however many
//! watches are opened ahead of it.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;

use crate::{Instant, WatchConfig, WatchKey};

/// How often a member that lags is asked for its revision, as a part of the deadline.
const QUESTIONS: u32 = 8;

/// The lag of the members that one stream is on, one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lag {
    /// The watches that are ahead of the member, each with the revision that it has been shown.
    ahead: BTreeSet<(i64, WatchKey)>,
    /// When the member was first found behind `goal`.
    since: Instant,
    ask_at: Instant,
    /// The revision that the member is waited for to reach.
    goal: i64,
    /// The member's revision.
    revision: i64,
    /// Whether the member before this one was behind, too.
    is_second: bool,
}

/// What the end of a wait comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// No watch is ahead any more.
    Over,
    /// Ask the member for its revision.
    Ask,
    /// Try another member.
    TryAnother {
        /// The member's revision.
        revision: i64,
        /// The highest revision that a watch has been shown.
        known: i64,
    },
    /// The second member is behind, too: the store went back. These watches were ahead of it.
    WentBack {
        /// The store's revision.
        revision: i64,
        /// The watches, each with the revision that it had been shown.
        watches: Vec<(i64, WatchKey)>,
    },
}

impl Lag {
    /// A watch was created on a member at `revision`, which has been shown `known` elsewhere.
    pub(crate) fn found(&mut self, now: Instant, key: WatchKey, known: i64, revision: i64) {
        if self.ahead.is_empty() {
            self.begin(now, known);
        }
        self.revision = revision;
        self.ahead.insert((known, key));
    }

    fn begin(&mut self, now: Instant, goal: i64) {
        (self.since, self.ask_at, self.goal) = (now, now, goal);
    }

    /// The member has told its revision.
    pub(crate) fn follow(&mut self, now: Instant, revision: i64) {
        if self.ahead.is_empty() {
            return;
        }
        self.revision = revision;
        while self.ahead.first().is_some_and(|&(known, _)| known <= revision) {
            self.ahead.pop_first();
        }
        if revision >= self.goal
            && let Some(&(goal, _)) = self.ahead.last()
        {
            self.begin(now, goal);
        }
    }

    /// The member may have all that was shown, which clears the one before. `is_settled` says whether all watches are
    /// on the server, and have been compared with the member's revision.
    pub(crate) fn clear_if_over(&mut self, is_settled: impl FnOnce() -> bool) {
        if self.is_second && self.ahead.is_empty() && is_settled() {
            self.is_second = false;
        }
    }

    /// A watch that has been shown `known` leaves the stream. With the last that was ahead the matter is over: the next
    /// lag is another.
    pub(crate) fn remove(&mut self, key: WatchKey, known: i64) {
        let was_ahead = self.ahead.remove(&(known, key));
        self.is_second &= !(was_ahead && self.ahead.is_empty());
    }

    /// The connection is gone: the next member is judged anew.
    pub(crate) fn leave(&mut self) {
        self.ahead.clear();
    }

    /// The connection was not read for a while: the member is given its time anew.
    pub(crate) fn read_again(&mut self, now: Instant) {
        self.begin(now, self.goal);
    }

    /// Whether no watch is ahead of the member.
    pub(crate) fn is_over(&self) -> bool {
        self.ahead.is_empty()
    }

    /// When to look again.
    pub(crate) fn due(&self, config: &WatchConfig) -> Option<Instant> {
        (!self.ahead.is_empty()).then(|| (self.since + config.lag_deadline).min(self.ask_at))
    }

    /// It is time to look again. `is_here` says whether a watch is still on the stream.
    pub(crate) fn waited(
        &mut self,
        now: Instant,
        config: &WatchConfig,
        is_here: impl Fn(WatchKey) -> bool,
    ) -> Waited {
        self.ahead.retain(|&(_, key)| is_here(key));
        let Some(&(known, _)) = self.ahead.last() else {
            self.is_second = false;
            return Waited::Over;
        };
        let (deadline, revision) = (config.lag_deadline, self.revision);
        if now < self.since + deadline {
            self.ask_at = now + (deadline / QUESTIONS).max(Duration::from_nanos(1));
            Waited::Ask
        } else if self.is_second {
            let watches = core::mem::take(self).ahead.into_iter().collect();
            Waited::WentBack { revision, watches }
        } else {
            self.is_second = true;
            Waited::TryAnother { revision, known }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: fn(WatchKey) -> bool = |_| true;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn key(index: u32) -> WatchKey {
        WatchKey { number: index.into(), index }
    }

    fn config() -> WatchConfig {
        WatchConfig::default().lag_deadline(Duration::from_millis(800))
    }

    #[test]
    fn a_member_is_asked_then_another_is_tried_then_the_store_went_back() {
        let mut lag = Lag::default();
        assert_eq!(lag.due(&config()), None);
        lag.found(at(0), key(1), 90, 50);
        assert_eq!((lag.due(&config()), lag.waited(at(0), &config(), HERE)), (Some(at(0)), Waited::Ask));
        assert_eq!(lag.due(&config()), Some(at(100)));
        let another = Waited::TryAnother { revision: 50, known: 90 };
        assert_eq!(lag.waited(at(800), &config(), HERE), another);
        lag.leave();
        lag.found(at(900), key(1), 90, 52);
        lag.clear_if_over(|| true);
        let back = Waited::WentBack { revision: 52, watches: [(90, key(1))].into() };
        assert_eq!(lag.waited(at(1_700), &config(), HERE), back);
        assert_eq!(lag.due(&config()), None);
    }

    #[test]
    fn a_member_that_passes_what_was_asked_of_it_begins_anew() {
        let mut lag = Lag::default();
        for revision in 50..150 {
            let now = at(10 * (revision - 50));
            lag.follow(now, revision as i64);
            lag.found(now, key(revision as u32), revision as i64 + 2, revision as i64);
            assert!(lag.since >= at((10 * (revision - 50)).saturating_sub(30)), "at {revision}");
        }
    }

    #[test]
    fn a_member_that_has_all_clears_the_one_before() {
        let mut lag = Lag { is_second: true, ..Lag::default() };
        lag.found(at(0), key(1), 90, 50);
        lag.clear_if_over(|| true);
        assert!(lag.is_second);
        lag.follow(at(1), 90);
        lag.clear_if_over(|| false);
        assert!(lag.is_second, "a watch that is still to come may be ahead of it");
        lag.clear_if_over(|| true);
        assert!(!lag.is_second && lag.due(&config()).is_none());
    }

    #[test]
    fn nobody_is_judged_for_watches_that_are_gone() {
        let mut lag = Lag::default();
        lag.found(at(0), key(1), 90, 50);
        lag.found(at(0), key(2), 95, 50);
        lag.remove(key(2), 95);
        assert_eq!(lag.waited(at(800), &config(), |_| false), Waited::Over);
        assert_eq!(lag.due(&config()), None);
    }

    #[test]
    fn a_lag_whose_watches_are_gone_says_nothing_against_the_next() {
        // The simulator's seed 2476331: a watch that was ahead of a second member is cancelled; another is opened.
        for is_purged in [false, true] {
            let mut lag = Lag::default();
            lag.found(at(0), key(1), 90, 50);
            assert!(matches!(lag.waited(at(800), &config(), HERE), Waited::TryAnother { .. }));
            lag.leave();
            lag.found(at(900), key(1), 90, 50);
            if is_purged {
                assert_eq!(lag.waited(at(950), &config(), |_| false), Waited::Over);
            } else {
                lag.remove(key(1), 90);
            }
            lag.found(at(2_000), key(2), 51, 50);
            let another = Waited::TryAnother { revision: 50, known: 51 };
            assert_eq!(lag.waited(at(2_800), &config(), HERE), another);
        }
    }

    #[test]
    fn a_lag_goes_on_while_a_watch_is_left_that_is_ahead() {
        let mut lag = Lag { is_second: true, ..Lag::default() };
        lag.remove(key(3), 7);
        lag.found(at(0), key(1), 90, 50);
        lag.found(at(0), key(2), 95, 50);
        lag.remove(key(1), 90);
        let back = Waited::WentBack { revision: 50, watches: [(95, key(2))].into() };
        assert_eq!(lag.waited(at(800), &config(), HERE), back);
    }

    #[test]
    fn a_member_that_was_not_read_has_its_time_again() {
        let mut lag = Lag::default();
        lag.found(at(0), key(1), 90, 50);
        lag.read_again(at(5_000));
        assert_eq!(lag.waited(at(5_799), &config(), HERE), Waited::Ask);
    }
}
