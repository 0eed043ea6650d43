//! When to try again, and when to give up.

use alloc::string::{String, ToString};
use core::time::Duration;

use crate::{CloseReason, Config, Failure, Instant, time::millis};

/// Exponential backoff with full jitter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next delay: anything from the floor to the base doubled once per failure, up to the ceiling.
    pub(crate) fn next(&mut self, config: &Config, rng: &mut fastrand::Rng) -> Duration {
        let doubled = config.backoff_base.saturating_mul(1_u32 << self.failures.min(20));
        let highest = doubled.min(config.backoff_ceiling).max(config.backoff_floor);
        self.failures = self.failures.saturating_add(1);
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(rng.u64(nanos(config.backoff_floor)..=nanos(highest)))
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts at least so many failures.
    pub(crate) fn at_least(&mut self, failures: u32) {
        self.failures = self.failures.max(failures);
    }
}

/// How long something has been failing, against the deadlines for giving up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patience {
    failing_since: Option<Instant>,
    no_leader_since: Option<Instant>,
    last: String,
}

impl Patience {
    /// An attempt begins.
    pub(crate) fn attempt(&mut self, now: Instant) {
        self.failing_since.get_or_insert(now);
    }

    /// An endpoint answers; whether it is of use remains to be seen.
    pub(crate) fn reached(&mut self) {
        self.failing_since = None;
    }

    /// An attempt failed.
    pub(crate) fn failed(&mut self, now: Instant, failure: &Failure, no_leader: bool) {
        self.failing_since.get_or_insert(now);
        self.last = failure.to_string();
        if no_leader {
            // A member without a leader does answer: that is another deadline's business.
            self.failing_since = Some(now);
            self.no_leader_since.get_or_insert(now);
        }
    }

    /// It works.
    pub(crate) fn proved(&mut self) {
        *self = Self::default();
    }

    fn deadlines(&self, config: &Config) -> [Option<(Instant, Duration)>; 2] {
        [(self.no_leader_since, config.no_leader_deadline), (self.failing_since, config.unreachable_deadline)]
            .map(|(since, deadline)| Some((since?, deadline?)))
    }

    /// When to ask for the verdict again.
    pub(crate) fn due(&self, config: &Config) -> Option<Instant> {
        self.deadlines(config).into_iter().flatten().map(|(since, deadline)| since + deadline).min()
    }

    /// Why to give up, if it is time.
    pub(crate) fn verdict(&self, now: Instant, config: &Config) -> Option<CloseReason> {
        let [no_leader, unreachable] = self.deadlines(config);
        let passed = |deadline: Option<(Instant, Duration)>| {
            deadline
                .filter(|&(since, deadline)| now >= since + deadline)
                .map(|(since, _)| millis(now.since(since)))
        };
        if let Some(millis) = passed(no_leader) {
            return Some(CloseReason::NoLeader { millis });
        }
        let last = if self.last.is_empty() { "no answer yet".to_string() } else { self.last.clone() };
        passed(unreachable).map(|millis| CloseReason::Unreachable { millis, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn delays_stay_between_floor_and_ceiling_and_grow() {
        let ms = Duration::from_millis;
        let config = Config::default().backoff(ms(10), ms(50), ms(1000));
        let mut rng = fastrand::Rng::with_seed(7);
        let mut longest = [Duration::ZERO; 12];
        for _ in 0..200 {
            let mut backoff = Backoff::default();
            for slot in &mut longest {
                let delay = backoff.next(&config, &mut rng);
                assert!(delay >= ms(10) && delay <= ms(1000), "{delay:?}");
                *slot = delay.max(*slot);
            }
        }
        assert!(longest[0] <= ms(50) && longest[1] > ms(50) && longest[8] > ms(900), "{longest:?}");
    }

    #[test]
    fn patience_ends_at_its_deadline_and_starts_anew_after_proof() {
        let config = Config::default().unreachable_deadline(Some(Duration::from_secs(2)));
        let mut patience = Patience::default();
        patience.attempt(at(1));
        patience.failed(at(2), &Failure::connection("refused"), false);
        assert_eq!(patience.due(&config), Some(at(3)));
        assert_eq!(patience.verdict(at(2), &config), None);
        assert!(matches!(
            patience.verdict(at(3), &config),
            Some(CloseReason::Unreachable { millis: 2000, .. })
        ));
        patience.proved();
        assert_eq!(patience.verdict(at(9), &config), None);
    }

    #[test]
    fn an_endpoint_that_answers_is_none_that_can_t_be_reached() {
        let config = Config::default().unreachable_deadline(Some(Duration::from_secs(2)));
        let mut patience = Patience::default();
        patience.attempt(at(1));
        patience.reached();
        assert_eq!((patience.due(&config), patience.verdict(at(9), &config)), (None, None));
        patience.attempt(at(9));
        assert_eq!(patience.due(&config), Some(at(11)));
    }
}
