//! How long to wait before another attempt.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

const FLOOR: Duration = Duration::from_millis(20);
const BASE: Duration = Duration::from_millis(100);
const CEILING: Duration = Duration::from_secs(5);

/// Exponential backoff with full jitter: after an outage everyone is back at the same moment.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
}

impl Retry {
    pub(super) fn next(&mut self) -> Duration {
        let highest = BASE.saturating_mul(1 << self.failures.min(16)).min(CEILING);
        self.failures = self.failures.saturating_add(1);
        // Every hasher starts from another random state.
        let random = RandomState::new().build_hasher().finish();
        let span = u64::try_from((highest - FLOOR).as_nanos()).unwrap_or(u64::MAX);
        FLOOR + Duration::from_nanos(random % span)
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_ceiling_and_stay_above_the_floor() {
        let mut retry = Retry::default();
        assert!(retry.next() <= BASE);
        for _ in 0..100 {
            assert!((FLOOR..=CEILING).contains(&retry.next()));
        }
        retry.reset();
        assert!(retry.next() <= BASE);
    }
}
