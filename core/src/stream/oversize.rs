//! Which watch is a response for that never gets through?
//!
//! A response over the driver's limit ends the connection before anybody knows whose it is. The watch that it is for
//! would bring down every connection after it. It is found by creating the watches again in stages: those that can't
//! be the one first, then a part of the suspects, then more. The watch that fails the connection is one that runs on
//! it by then, most likely of the last stage and not heard yet; the next connection begins with half of those. So the
//! number of connections it takes grows with the logarithm of the number of watches.
//!
//! Only the order of creation is changed by a suspicion. A watch ends when it is the one suspect left: every other
//! watch was not there at some failure.

use alloc::vec::Vec;
use core::time::Duration;

use crate::{Instant, WatchConfig, WatchKey};

/// Connections in a row that may end so before watches are taken back in stages.
const STAGED_FROM: u32 = 2;

/// Connections in a row that may end so before a watch ends.
const LIMIT: u32 = 3;

/// How long a stage is given to fail at first: etcd looks for watches that are behind every 100 ms.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The search for the watch that too large a response is for, on one stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oversize {
    /// Connections in a row that ended with a response over the limit.
    failures: u32,
    /// Whoever it can be, the likeliest first.
    suspects: Vec<WatchKey>,
    /// How many of them are the likeliest.
    likely: usize,
    /// How many of them have been let onto this connection.
    admitted: usize,
    /// Where among them the last stage begins.
    stage: usize,
    /// How long a stage is given to fail.
    pause: Duration,
    /// When the next stage begins, or the search is over.
    due: Option<Instant>,
}

impl Oversize {
    /// A connection has been opened. `has_others` says whether watches are created on it that can't be the one.
    pub(crate) fn opened(&mut self, now: Instant, config: &WatchConfig, has_others: bool) {
        (self.admitted, self.stage) = (0, 0);
        self.due = match self.failures {
            0 => None,
            1..STAGED_FROM => {
                self.admitted = self.suspects.len();
                Some(now + config.answer_timeout)
            }
            // Those that can't be it are given the time of a stage; without them the first one begins at once.
            _ => Some(if has_others { now + self.pause } else { now }),
        };
    }

    /// The watches that wait for their stage on a connection that is being opened, in order.
    pub(crate) fn held(&self) -> &[WatchKey] {
        if self.failures < STAGED_FROM { &[] } else { &self.suspects }
    }

    /// When the next stage begins, or the search is over.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The time has come: the next watches to create.
    pub(crate) fn next_stage(&mut self, now: Instant, config: &WatchConfig) -> &[WatchKey] {
        let (admitted, all) = (self.admitted, self.suspects.len());
        if admitted == all {
            // Everybody has been there for long, and nothing has happened.
            *self = Self::default();
            return &[];
        }
        let size = match self.likely.saturating_sub(admitted) {
            0 => (all - admitted).div_ceil(2),
            _ if admitted == 0 => self.likely.div_ceil(2),
            rest => rest,
        };
        (self.stage, self.admitted) = (admitted, admitted + size);
        let is_last = self.admitted == all;
        self.due = Some(now + if is_last { self.pause.max(config.answer_timeout) } else { self.pause });
        self.suspects.get(admitted..admitted + size).unwrap_or_default()
    }

    /// A response over the limit has ended the connection, on which these watches ran, in the order of their keys.
    /// `is_unheard` says of a watch whether it has brought nothing yet. The one that must end for it, once it is found.
    pub(crate) fn failed(
        &mut self,
        config: &WatchConfig,
        running: Vec<WatchKey>,
        is_unheard: impl Fn(WatchKey) -> bool,
    ) -> Option<WatchKey> {
        let was_staged = self.failures >= STAGED_FROM;
        self.failures = self.failures.saturating_add(1);
        self.due = None;
        let before = (self.suspects.len(), self.likely);
        let admitted = self.suspects.get(..self.admitted).unwrap_or_default();
        let (earlier, last) = admitted.split_at_checked(self.stage).unwrap_or((&[], admitted));
        let is_running = |key: &WatchKey| running.binary_search(key).is_ok();
        let mut suspects: Vec<WatchKey> = last.iter().copied().filter(is_running).collect();
        let is_new = suspects.is_empty() && !earlier.iter().any(is_running);
        if is_new {
            // It is none of those suspected so far.
            suspects.clone_from(&running);
        }
        suspects.sort_by_key(|&key| !is_unheard(key));
        self.likely = match suspects.partition_point(|&key| is_unheard(key)) {
            0 => suspects.len(),
            unheard => unheard,
        };
        if !is_new {
            suspects.extend(earlier.iter().copied().filter(is_running));
        }
        if (suspects.len(), self.likely) == before {
            // Nothing was learned: a stage was too short for the server.
            self.pause = self.pause.saturating_mul(2).min(config.answer_timeout);
        }
        self.pause = self.pause.max(FIRST_PAUSE.min(config.answer_timeout));
        self.suspects = suspects;
        match self.suspects[..] {
            [one] if was_staged && !is_new && self.failures >= LIMIT => {
                *self = Self::default();
                Some(one)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> WatchKey {
        WatchKey { number: index.into(), index }
    }

    /// How many connections it takes to find a culprit among quiet watches.
    fn connections_to_find(culprit: WatchKey, count: u32) -> u32 {
        let config = WatchConfig::default();
        let mut oversize = Oversize::default();
        for connection in 1..100 {
            let mut running: Vec<WatchKey> =
                (0..count).map(key).filter(|key| !oversize.held().contains(key)).collect();
            oversize.opened(Instant::ZERO, &config, !running.is_empty());
            while !running.contains(&culprit) {
                running.extend(oversize.next_stage(Instant::ZERO, &config));
            }
            running.sort();
            if let Some(found) = oversize.failed(&config, running, |_| true) {
                assert_eq!(found, culprit);
                return connection;
            }
        }
        panic!("{culprit:?} of {count} is never found");
    }

    #[test]
    fn the_culprit_is_found_whichever_it_is_in_a_few_connections() {
        for count in [1, 2, 3, 7, 64, 1000] {
            for culprit in (0..count).step_by(1 + count as usize / 20) {
                let connections = connections_to_find(key(culprit), count);
                let limit = 4 + count.ilog2() * 2;
                assert!((3..=limit).contains(&connections), "{culprit} of {count}: {connections}");
            }
        }
    }

    #[test]
    fn a_connection_that_fails_before_a_suspect_is_created_clears_it() {
        let config = WatchConfig::default();
        let mut oversize = Oversize::default();
        for _ in 0..3 {
            oversize.opened(Instant::ZERO, &config, true);
            assert_eq!(oversize.failed(&config, Vec::from([key(1), key(2)]), |_| true), None);
        }
        // Both were held, and yet it failed: by one that had been heard before, and now was not.
        oversize.opened(Instant::ZERO, &config, true);
        assert_eq!(
            oversize.failed(&config, Vec::from([key(7)]), |_| true),
            None,
            "it might be one that was heard"
        );
        oversize.opened(Instant::ZERO, &config, true);
        assert_eq!(oversize.next_stage(Instant::ZERO, &config), [key(7)]);
        assert_eq!(oversize.failed(&config, Vec::from([key(7)]), |_| true), Some(key(7)));
    }

    #[test]
    fn one_that_is_heard_before_each_failure_is_found_too() {
        let config = WatchConfig::default();
        let (culprit, mut found) = (key(2), None);
        let mut oversize = Oversize::default();
        for _ in 0..20 {
            let mut running: Vec<WatchKey> =
                (0..5).map(key).filter(|key| !oversize.held().contains(key)).collect();
            oversize.opened(Instant::ZERO, &config, !running.is_empty());
            while !running.contains(&culprit) {
                running.extend(oversize.next_stage(Instant::ZERO, &config));
            }
            running.sort();
            found = found.or_else(|| oversize.failed(&config, running, |key| key != culprit));
        }
        assert_eq!(found, Some(culprit));
    }

    #[test]
    fn a_search_without_a_result_ends() {
        let config = WatchConfig::default();
        let mut oversize = Oversize::default();
        for _ in 0..2 {
            oversize.opened(Instant::ZERO, &config, false);
            oversize.failed(&config, Vec::from([key(1), key(2)]), |_| true);
        }
        oversize.opened(Instant::ZERO, &config, false);
        let stages = [(); 3].map(|()| oversize.next_stage(Instant::ZERO, &config).len());
        assert_eq!((stages, oversize.due(), oversize.held().len()), ([1, 1, 0], None, 0));
    }

    fn after(millis: u64) -> Option<Instant> {
        Some(Instant::ZERO + Duration::from_millis(millis))
    }

    #[test]
    fn there_is_nothing_to_search_for_before_a_response_was_too_large_and_no_stages_after_one_was() {
        let config = WatchConfig::default().answer_timeout(Duration::from_secs(7));
        let mut oversize = Oversize::default();
        oversize.opened(Instant::ZERO, &config, false);
        assert_eq!(oversize.due(), None);
        oversize.failed(&config, Vec::from([key(1), key(2)]), |_| true);
        oversize.opened(Instant::ZERO, &config, false);
        assert_eq!((oversize.held(), oversize.due()), (&[][..], after(7_000)));
        assert!(oversize.next_stage(Instant::ZERO, &config).is_empty() && oversize.due().is_none());
    }

    #[test]
    fn stages_begin_with_half_of_the_likeliest_and_end_with_time_for_the_last_to_answer() {
        let config = WatchConfig::default().answer_timeout(Duration::from_secs(7));
        let mut oversize = Oversize::default();
        for _ in 0..2 {
            oversize.opened(Instant::ZERO, &config, false);
            oversize.failed(&config, (0..10).map(key).collect(), |key| key.index < 2);
        }
        oversize.opened(Instant::ZERO, &config, false);
        assert_eq!(oversize.due(), after(0));
        for (stage, due) in [(1, 1_000), (1, 1_000), (4, 1_000), (2, 1_000), (1, 1_000), (1, 7_000)] {
            assert_eq!(oversize.next_stage(Instant::ZERO, &config).len(), stage);
            assert_eq!(oversize.due(), after(due));
        }
        assert!(oversize.next_stage(Instant::ZERO, &config).is_empty() && oversize.due().is_none());
    }

    #[test]
    fn a_suspect_of_an_earlier_stage_may_still_be_it_and_a_stage_that_taught_nothing_was_too_short() {
        let config = WatchConfig::default();
        let all = || Vec::from([key(1), key(2), key(3)]);
        let mut oversize = Oversize::default();
        for _ in 0..2 {
            oversize.opened(Instant::ZERO, &config, true);
            oversize.failed(&config, all(), |_| true);
        }
        // Each time it fails in the last stage, which is the first suspected of the next connection.
        for (suspects, pause) in [([1, 2, 3], 1_000), ([3, 1, 2], 1_000), ([2, 3, 1], 2_000)] {
            assert_eq!(oversize.held(), suspects.map(key));
            oversize.opened(Instant::ZERO, &config, true);
            assert_eq!(oversize.due(), after(pause));
            while oversize.admitted < 3 {
                oversize.next_stage(Instant::ZERO, &config);
            }
            assert_eq!(oversize.failed(&config, all(), |_| true), None);
        }
    }
}
