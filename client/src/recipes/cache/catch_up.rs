//! How the cache comes to know, for those who wait for a revision, that it is there.
//!
//! A cache whose keys don't change hears nothing, however far the store moves on. So while somebody waits:
//!
//! 1. The server is asked for the watch's progress. Its answer, where it can be believed, says that everything
//!    up to a revision has been delivered.
//! 2. Where no answer comes (etcd before 3.4.25 and 3.5.8, whose answers are not believed; before 3.4.31 and
//!    3.5.13, which stay silent on quiet watches; gRPC proxies), the keys are read: one linearizable read of
//!    the range, without values, newest change first, limited to one key. It tells a revision `H`, the number
//!    `n` of keys there are at `H`, and the revision `m` of the newest change among them.
//!
//! **Why that is enough.** Let the cache be exactly the store at revision `t`, with `m <= t <= H` and `n` keys.
//! A key that the store has at `H` was last put at or before `m`, so at or before `t`, and not deleted since,
//! or it would have been put again after. So the store had it at `t`, as it is: the keys at `H` are a subset of
//! the cache's, equal in every field. There are as many, so they are the same: the cache is exactly the store
//! at `H`, and may say so. Nothing else about the two reads is assumed, and events that are still on
//! their way make it fail: a put of theirs makes `m > t`, and deletes alone make `n` smaller. Once they have
//! arrived the same read holds for the state they lead to, so it is kept until the cache is past `H`.
//!
//! The server has to look at every key for such a read, so they are made rarely: less and less often, and never
//! for more than a tenth of the time.

use std::time::Duration;

use etcd_watch_core::Instant;

/// How long an answer to a progress request may take before the keys are read as well.
const PATIENCE: Duration = Duration::from_millis(200);

/// The pauses between two questions while somebody waits for a revision that the store has not reached.
const FLOOR: Duration = Duration::from_millis(50);
const CEILING: Duration = Duration::from_secs(2);

/// The least time between two reads, and how many times as long as the last one took.
const READ_EVERY: Duration = Duration::from_millis(250);
const READ_SHARE: u32 = 10;

/// What a read of the keys told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// The revision it was made at.
    pub(super) revision: i64,
    /// How many keys there are.
    pub(super) keys: usize,
    /// The revision of the newest change among them; 0 if there is no key.
    pub(super) newest: i64,
}

impl Proof {
    /// Whether the cache, exactly the store at revision `at` and with this many keys, is the store at the
    /// read's revision, too.
    pub(super) fn holds(&self, at: i64, keys: usize) -> bool {
        self.newest <= at && at <= self.revision && self.keys == keys
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) progress: bool,
    pub(super) keys: bool,
    /// When to look again at the latest.
    pub(super) again: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// When progress was asked for, while it is not answered.
    asked: Option<Instant>,
    /// Not to be asked for again before this.
    ask_after: Instant,
    ask_pause: Duration,
    /// Whether the last request for progress went without an answer for too long.
    is_silent: bool,
    /// The read under way, by when it was begun.
    reading: Option<Instant>,
    read_after: Instant,
    read_pause: Duration,
    proof: Option<Proof>,
}

impl CatchUp {
    /// What to do for those who wait for a revision past the one the cache is at; `None` for nobody.
    pub(super) fn poll(&mut self, now: Instant, is_wanted: bool) -> Ask {
        let mut ask = Ask::default();
        if !is_wanted {
            (self.ask_pause, self.read_pause) = (Duration::ZERO, Duration::ZERO);
            self.asked = None;
            return ask;
        }
        let asked = match self.asked {
            Some(asked) => asked,
            None if now >= self.ask_after => {
                ask.progress = true;
                self.asked = Some(now);
                now
            }
            None => {
                ask.again = Some(self.ask_after);
                return ask;
            }
        };
        if self.reading.is_some() {
            return ask;
        }
        let patience = if self.is_silent { Duration::ZERO } else { PATIENCE };
        let due = (asked + patience).max(self.read_after);
        if now < due {
            ask.again = Some(due);
            return ask;
        }
        self.is_silent = true;
        self.reading = Some(now);
        ask.keys = true;
        ask
    }

    /// Progress has come.
    pub(super) fn progressed(&mut self, now: Instant) {
        if self.asked.take().is_some() {
            self.is_silent = false;
            // If it is not enough, the store has not come there yet.
            self.ask_pause = (self.ask_pause * 2).clamp(FLOOR, CEILING);
            self.ask_after = now + self.ask_pause;
        }
    }

    /// A read of the keys has ended.
    pub(super) fn read(&mut self, now: Instant, proof: Option<Proof>) {
        let took = self.reading.take().map_or(Duration::ZERO, |begun| now.since(begun));
        self.read_pause = (self.read_pause * 2).clamp(READ_EVERY, CEILING).max(took * READ_SHARE);
        self.read_after = now + self.read_pause;
        self.proof = proof.or(self.proof);
    }

    /// The keys are listed again: there is no watch that would answer.
    pub(super) fn listing(&mut self, is_other_store: bool) {
        self.asked = None;
        if is_other_store {
            self.proof = None;
        }
    }

    /// The revision that the cache, exactly the store at `at`, is known to be at.
    pub(super) fn proven(&mut self, at: i64, keys: usize) -> Option<i64> {
        let proof = self.proof.take_if(|proof| at > proof.revision || proof.holds(at, keys))?;
        (proof.revision > at).then_some(proof.revision)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(milliseconds)
    }

    proptest! {
        /// Whatever is put and deleted, a read only ever vouches for states that are equal; and it does vouch
        /// for the last state that it can.
        #[test]
        fn a_read_vouches_for_equal_states_alone(
            changes in proptest::collection::vec((0..4_u8, any::<bool>(), any::<bool>()), 1..30),
            read_at in 0..30_usize,
        ) {
            // The store at each revision, one change each; some are of keys outside of the range.
            let mut states = vec![BTreeMap::new()];
            for (revision, (key, is_put, is_ours)) in (1_i64..).zip(changes) {
                let mut state = states.last().unwrap().clone();
                match (is_ours, is_put) {
                    (true, true) => drop(state.insert(key, revision)),
                    (true, false) => drop(state.remove(&key)),
                    (false, _) => {}
                }
                states.push(state);
            }
            let read_at = read_at.min(states.len() - 1);
            let seen = &states[read_at];
            let newest = seen.values().max().copied().unwrap_or(0);
            let proof = Proof { revision: read_at as i64, keys: seen.len(), newest };
            for (revision, state) in (0_i64..).zip(&states) {
                if proof.holds(revision, state.len()) {
                    prop_assert_eq!(state, seen);
                }
            }
            prop_assert!(proof.holds(read_at as i64, seen.len()));
        }
    }

    #[test]
    fn keys_are_read_only_when_progress_is_not_answered() {
        let mut catch_up = CatchUp::default();
        assert_eq!(catch_up.poll(at(0), false), Ask::default());
        let ask = catch_up.poll(at(0), true);
        assert_eq!((ask.progress, ask.keys, ask.again), (true, false, Some(at(200))));
        catch_up.progressed(at(10));
        // The store has not come there yet: it is asked again, later and later.
        assert_eq!(catch_up.poll(at(10), true).again, Some(at(60)));
        assert!(catch_up.poll(at(60), true).progress);
        catch_up.progressed(at(60));
        assert_eq!(catch_up.poll(at(60), true).again, Some(at(160)));
    }

    #[test]
    fn where_progress_is_not_answered_the_keys_are_read_at_once_but_rarely() {
        let mut catch_up = CatchUp::default();
        catch_up.poll(at(0), true);
        assert!(catch_up.poll(at(200), true).keys);
        assert!(!catch_up.poll(at(300), true).keys, "one at a time");
        catch_up.read(at(300), None);
        assert_eq!(catch_up.poll(at(300), true).again, Some(at(1300)), "ten times as long as it took");
        // The next to wait does not wait for an answer that will not come.
        catch_up.poll(at(2000), false);
        let ask = catch_up.poll(at(2000), true);
        assert!(ask.progress && ask.keys);
        // Until one does come.
        catch_up.read(at(2001), None);
        catch_up.progressed(at(2002));
        catch_up.poll(at(9000), false);
        let ask = catch_up.poll(at(9000), true);
        assert!(ask.progress && !ask.keys);
    }

    #[test]
    fn a_proof_waits_for_what_was_on_its_way() {
        let mut catch_up = CatchUp::default();
        catch_up.read(at(0), Some(Proof { revision: 9, keys: 2, newest: 7 }));
        assert_eq!(catch_up.proven(5, 2), None, "a put is still to come");
        assert_eq!(catch_up.proven(7, 3), None, "a delete is still to come");
        assert_eq!(catch_up.proven(8, 2), Some(9));
        assert_eq!(catch_up.proven(8, 2), None, "once");
    }
}
