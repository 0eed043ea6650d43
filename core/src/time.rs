//! Time as the machine sees it: a number the driver passes in.

use core::time::Duration;

/// A point in time: nanoseconds since an epoch of the driver's choice.
///
/// The machine only compares instants and adds durations to them, so any monotonic clock will do.
/// Time that goes backwards is clamped by the machine to the latest instant it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The epoch itself.
    pub const ZERO: Self = Self(0);

    /// The instant `nanos` nanoseconds after the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Self;

    /// Saturates some 584 years after the epoch.
    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Whole milliseconds, for what is reported.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_saturates_and_since_never_goes_negative() {
        let one = Instant::from_nanos(1);
        assert_eq!(one + Duration::MAX, Instant::from_nanos(u64::MAX));
        assert_eq!(Instant::ZERO.since(one), Duration::ZERO);
        assert_eq!((one + Duration::from_nanos(4)).since(one), Duration::from_nanos(4));
    }

    #[test]
    fn time_is_told_in_whole_units() {
        assert_eq!(Instant::from_nanos(5_000_007).as_nanos(), 5_000_007);
        assert_eq!((millis(Duration::from_micros(5_999)), millis(Duration::MAX)), (5, u64::MAX));
    }
}
