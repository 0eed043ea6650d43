//! Pauses between attempts at something that may fail.

use std::{sync::Mutex, time::Duration};

use crate::sync::lock;

/// How long the pauses of one kind of work are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The shortest pause.
    floor: Duration,
    /// The longest pause after one failure.
    base: Duration,
    /// The longest pause after any number of failures.
    ceiling: Duration,
}

impl Pace {
    /// Pauses from `floor` on: at most `base` after one failure, doubled with each further one up to `ceiling`.
    #[must_use]
    pub const fn new(floor: Duration, base: Duration, ceiling: Duration) -> Self {
        Self { floor, base, ceiling }
    }

    /// For work whose every attempt is a call, which has paused between its own attempts already: from 20 ms, at most
    /// 100 ms after one failure, at most 5 s.
    pub const AROUND_CALLS: Self =
        Self::new(Duration::from_millis(20), Duration::from_millis(100), Duration::from_secs(5));
}

/// Exponential backoff with full jitter, as the core's machine has it: a pause is anything from the floor to the base
/// doubled with each failure, up to the ceiling. Without jitter the clients that an outage has stopped would all come
/// back at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    pace: Pace,
    failures: u32,
    rng: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn with_seed(pace: Pace, seed: u64) -> Self {
        Self { pace, failures: 0, rng: fastrand::Rng::with_seed(seed) }
    }

    /// The pause after another failure.
    pub fn next_pause(&mut self) -> Duration {
        let Pace { floor, base, ceiling } = self.pace;
        let doubled = base.saturating_mul(1_u32 << self.failures.min(20));
        let highest = doubled.min(ceiling).max(floor);
        self.failures = self.failures.saturating_add(1);
        Duration::from_nanos(self.rng.u64(nanos(floor)..=nanos(highest)))
    }

    /// It works again: failures count from 0.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where the random numbers of one client come from: all of them follow from its seed.
#[derive(Debug)]
pub(crate) struct Seeds(Mutex<fastrand::Rng>);

impl Seeds {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// Another seed.
    pub(crate) fn next(&self) -> u64 {
        lock(&self.0).u64(..)
    }

    /// An interval of work that is done over and over, up to a tenth longer or shorter: clients that were started
    /// together don't stay in step.
    pub(crate) fn vary(&self, interval: Duration) -> Duration {
        let tenth = nanos(interval / 10);
        let more = lock(&self.0).u64(0..=tenth.saturating_mul(2));
        interval.saturating_sub(Duration::from_nanos(tenth)).saturating_add(Duration::from_nanos(more))
    }

    /// A backoff whose jitter nobody else has.
    pub(crate) fn backoff(&self, pace: Pace) -> Backoff {
        Backoff::with_seed(pace, self.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn pauses_stay_between_floor_and_ceiling_and_grow() {
        let pace = Pace::new(MS(10), MS(50), MS(1000));
        let mut longest = [Duration::ZERO; 12];
        for seed in 0..200 {
            let mut backoff = Backoff::with_seed(pace, seed);
            for slot in &mut longest {
                let pause = backoff.next_pause();
                assert!((MS(10)..=MS(1000)).contains(&pause), "{pause:?}");
                *slot = pause.max(*slot);
            }
        }
        assert!(longest[0] <= MS(50) && longest[1] > MS(50) && longest[8] > MS(900), "{longest:?}");
    }

    #[test]
    fn pauses_begin_anew_after_a_success() {
        let mut backoff = Backoff::with_seed(Pace::AROUND_CALLS, 7);
        for _ in 0..100 {
            backoff.next_pause();
        }
        backoff.reset();
        assert!(backoff.next_pause() <= MS(100));
    }

    #[test]
    fn an_interval_varies_by_a_tenth_at_most() {
        let seeds = Seeds::new(7);
        let varied = [(); 100].map(|()| seeds.vary(MS(1000)));
        assert!(varied.iter().all(|interval| (MS(900)..=MS(1100)).contains(interval)), "{varied:?}");
        assert!(varied.iter().any(|&interval| interval < MS(950)), "{varied:?}");
        assert!(varied.iter().any(|&interval| interval > MS(1050)), "{varied:?}");
        assert!(seeds.vary(Duration::MAX) > Duration::from_secs(u64::MAX / 2));
        assert_eq!(seeds.vary(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn two_backoffs_of_a_client_do_not_pause_in_step_and_its_seed_decides_on_both() {
        let pauses = |backoff: &mut Backoff| [(); 8].map(|()| backoff.next_pause());
        let pair = |seed| {
            let seeds = Seeds::new(seed);
            [(); 2].map(|()| pauses(&mut seeds.backoff(Pace::AROUND_CALLS)))
        };
        let [one, other] = pair(7);
        assert_ne!(one, other);
        assert_eq!(pair(7), [one, other]);
        assert_ne!(pair(8), [one, other]);
    }
}
