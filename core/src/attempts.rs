//! Attempts at something that may fail: when to try again, where, with which token, and when to give up.
//!
//! Streams, reads and lists all keep their attempts here, so that they fail and recover by the same rules:
//!
//! ```text
//!   begin --> failed       --> try_again_at --> begin ...
//!         --> note_answer  (an answer of any kind: the endpoint is there)
//!         --> reset        (it works: failures count from 0 again)
//!   give_up: a deadline has passed since the first attempt without an answer, or without a leader
//! ```

use alloc::string::{String, ToString};
use core::time::Duration;

use crate::{
    CloseReason, EndpointHint, Failure, Instant, Remedy, WatchConfig, failure::TOKEN_LIMIT, time::millis,
};

/// Exponential backoff with full jitter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The backoff after so many failures in a row.
    pub(crate) fn after(failures: u32) -> Self {
        Self { failures }
    }

    /// The next delay: anything from the floor to the base doubled once per failure, up to the ceiling.
    pub(crate) fn next(&mut self, config: &WatchConfig, rng: &mut fastrand::Rng) -> Duration {
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

/// Attempts at one thing, such as opening one stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts {
    backoff: Backoff,
    patience: Patience,
    /// The next attempt goes to another endpoint.
    elsewhere: bool,
    /// The next attempt carries a new token, until one has been accepted.
    fresh_token: bool,
    /// New tokens refused in a row.
    refused_tokens: u32,
}

/// How to make the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) endpoint: EndpointHint,
    pub(crate) fresh_token: bool,
}

impl Attempts {
    /// An attempt begins now.
    pub(crate) fn begin(&mut self, now: Instant) -> Attempt {
        self.expect(now);
        let elsewhere = core::mem::take(&mut self.elsewhere);
        let endpoint = if elsewhere { EndpointHint::Another } else { EndpointHint::Any };
        Attempt { endpoint, fresh_token: self.fresh_token }
    }

    /// An answer is waited for from now on, if none was before.
    pub(crate) fn expect(&mut self, now: Instant) {
        self.patience.failing_since.get_or_insert(now);
    }

    /// An endpoint has answered, whatever it said: it can be reached.
    pub(crate) fn note_answer(&mut self) {
        self.patience.failing_since = None;
    }

    /// The token has been accepted.
    pub(crate) fn token_accepted(&mut self) {
        self.fresh_token = false;
        self.refused_tokens = 0;
    }

    /// Whether no answer is waited for, and no leader.
    pub(crate) fn is_calm(&self) -> bool {
        self.patience.failing_since.is_none() && self.patience.no_leader_since.is_none()
    }

    /// It works: failures count from 0 again. The token's are another matter.
    pub(crate) fn reset(&mut self) {
        self.backoff.reset();
        self.patience = Patience::default();
    }

    /// Nobody waits for an answer any more: deadlines begin anew with the next attempt.
    pub(crate) fn stop_clock(&mut self) {
        self.patience = Patience::default();
    }

    /// An attempt failed.
    pub(crate) fn failed(&mut self, now: Instant, failure: &Failure, remedy: Remedy) {
        self.patience.failed(now, failure, remedy == Remedy::NoLeader);
        self.avoid(remedy);
    }

    /// Where the next attempt goes after a failure of this kind.
    pub(crate) fn avoid(&mut self, remedy: Remedy) {
        self.elsewhere = match remedy {
            // It says nothing of the endpoint. But where attempts have failed before, for whatever reason, another
            // endpoint may do better.
            Remedy::Retry => self.backoff.failures() > 0,
            Remedy::Reauthenticate => false,
            _ => true,
        };
    }

    /// The answer was of no use: the next attempt goes to another endpoint.
    pub(crate) fn go_elsewhere(&mut self) {
        self.elsewhere = true;
    }

    /// The token was refused: the next attempt carries a new one. The number of new tokens that were refused
    /// in a row, if it is time to give up.
    pub(crate) fn token_refused(&mut self) -> Option<u32> {
        // The first token to be refused was not a new one.
        self.refused_tokens += u32::from(self.fresh_token);
        self.fresh_token = true;
        (self.refused_tokens >= TOKEN_LIMIT).then(|| core::mem::take(&mut self.refused_tokens))
    }

    /// The next attempt carries a new token, though none was refused here.
    pub(crate) fn renew_token(&mut self) {
        self.fresh_token = true;
    }

    /// Whether the present token is a new one and the last that may be refused.
    pub(crate) fn is_last_token(&self) -> bool {
        self.fresh_token && self.refused_tokens + 1 >= TOKEN_LIMIT
    }

    /// When the next attempt is due, after a failure.
    pub(crate) fn try_again_at(
        &mut self,
        now: Instant,
        config: &WatchConfig,
        rng: &mut fastrand::Rng,
    ) -> Instant {
        now + self.backoff.next(config, rng)
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// Counts at least so many failures.
    pub(crate) fn at_least(&mut self, failures: u32) {
        self.backoff.at_least(failures);
    }

    /// When to ask again whether to give up.
    pub(crate) fn give_up_at(&self, config: &WatchConfig) -> Option<Instant> {
        self.patience.due(config)
    }

    /// Why to give up, if it is time.
    pub(crate) fn give_up(&self, now: Instant, config: &WatchConfig) -> Option<CloseReason> {
        self.patience.verdict(now, config)
    }
}

/// How long something has been failing, against the deadlines for giving up.
#[derive(Clone, Debug, Default)]
struct Patience {
    failing_since: Option<Instant>,
    no_leader_since: Option<Instant>,
    last: String,
}

impl Patience {
    fn failed(&mut self, now: Instant, failure: &Failure, no_leader: bool) {
        self.failing_since.get_or_insert(now);
        self.last = failure.to_string();
        if no_leader {
            // A member without a leader does answer: it has a deadline of its own.
            self.failing_since = Some(now);
            self.no_leader_since.get_or_insert(now);
        }
    }

    fn deadlines(&self, config: &WatchConfig) -> [Option<(Instant, Duration)>; 2] {
        [(self.no_leader_since, config.no_leader_deadline), (self.failing_since, config.unreachable_deadline)]
            .map(|(since, deadline)| Some((since?, deadline?)))
    }

    fn due(&self, config: &WatchConfig) -> Option<Instant> {
        self.deadlines(config).into_iter().flatten().map(|(since, deadline)| since + deadline).min()
    }

    fn verdict(&self, now: Instant, config: &WatchConfig) -> Option<CloseReason> {
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
        let config = WatchConfig::default().backoff(ms(10), ms(50), ms(1000));
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

    fn impatient() -> WatchConfig {
        WatchConfig::default().unreachable_deadline(Some(Duration::from_secs(2)))
    }

    #[test]
    fn patience_ends_at_its_deadline_and_starts_anew_after_proof() {
        let config = impatient();
        let mut attempts = Attempts::default();
        attempts.begin(at(1));
        attempts.failed(at(2), &Failure::connection("refused"), Remedy::RetryElsewhere);
        assert_eq!(attempts.give_up_at(&config), Some(at(3)));
        assert_eq!(attempts.give_up(at(2), &config), None);
        let reason = attempts.give_up(at(3), &config);
        assert!(matches!(reason, Some(CloseReason::Unreachable { millis: 2000, .. })), "{reason:?}");
        attempts.reset();
        assert_eq!(attempts.give_up(at(9), &config), None);
    }

    #[test]
    fn an_endpoint_that_answers_can_be_reached() {
        let config = impatient();
        let mut attempts = Attempts::default();
        attempts.begin(at(1));
        attempts.note_answer();
        assert_eq!((attempts.give_up_at(&config), attempts.give_up(at(9), &config)), (None, None));
        attempts.begin(at(9));
        assert_eq!(attempts.give_up_at(&config), Some(at(11)));
        attempts.stop_clock();
        assert_eq!(attempts.give_up_at(&config), None);
    }

    #[test]
    fn the_next_attempt_goes_elsewhere_once_unless_the_failure_says_nothing_of_the_endpoint() {
        for (remedy, endpoint) in [
            (Remedy::Retry, EndpointHint::Any),
            (Remedy::Reauthenticate, EndpointHint::Any),
            (Remedy::RetryElsewhere, EndpointHint::Another),
            (Remedy::NoLeader, EndpointHint::Another),
            (Remedy::TooLarge, EndpointHint::Another),
        ] {
            let mut attempts = Attempts::default();
            attempts.failed(at(1), &Failure::EndOfStream, remedy);
            assert_eq!(attempts.begin(at(2)).endpoint, endpoint, "{remedy:?}");
            assert_eq!(attempts.begin(at(3)).endpoint, EndpointHint::Any);
        }
    }

    #[test]
    fn an_endpoint_that_asks_for_another_attempt_is_left_if_the_attempt_before_failed_for_any_reason() {
        let (config, mut rng) = (WatchConfig::default(), fastrand::Rng::with_seed(7));
        let others = [Remedy::RetryElsewhere, Remedy::NoLeader, Remedy::Reauthenticate, Remedy::TooLarge];
        for before in [Remedy::Retry].into_iter().chain(others) {
            let mut attempts = Attempts::default();
            let mut fail = |attempts: &mut Attempts, remedy| {
                attempts.failed(at(1), &Failure::EndOfStream, remedy);
                attempts.try_again_at(at(1), &config, &mut rng);
                attempts.begin(at(2)).endpoint
            };
            fail(&mut attempts, before);
            assert_eq!(fail(&mut attempts, Remedy::Retry), EndpointHint::Another, "after {before:?}");
            attempts.reset();
            assert_eq!(fail(&mut attempts, Remedy::Retry), EndpointHint::Any, "{before:?} is forgotten");
            assert_eq!(fail(&mut attempts, Remedy::Retry), EndpointHint::Another);
        }
    }

    #[test]
    fn new_tokens_are_asked_for_until_one_is_accepted_or_too_many_were_refused() {
        let mut attempts = Attempts::default();
        assert!(!attempts.begin(at(1)).fresh_token);
        assert_eq!(attempts.token_refused(), None);
        assert!(attempts.begin(at(1)).fresh_token);
        attempts.token_accepted();
        assert!(!attempts.begin(at(1)).fresh_token);
        for refused in 0..TOKEN_LIMIT {
            assert!(!attempts.is_last_token(), "after {refused}");
            assert_eq!(attempts.token_refused(), None);
        }
        assert!(attempts.is_last_token());
        assert_eq!(attempts.token_refused(), Some(TOKEN_LIMIT));
    }
}
