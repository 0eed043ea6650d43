//! Clocks that go on while the machine sleeps.

use std::time::Duration;

use etcd_watch_core::Instant;

use crate::Runtime;

/// A point in time by both clocks of a runtime: the one that its timers go by, and the one that counts the time in
/// which the machine sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    running: Instant,
    boot: Instant,
}

impl Moment {
    /// Now, by both clocks.
    pub fn now(runtime: &dyn Runtime) -> Self {
        Self { running: runtime.now(), boot: runtime.boot_time() }
    }

    /// Whether this is after the other by the clock that timers go by.
    #[must_use]
    pub fn is_after(self, other: Self) -> bool {
        self.running > other.running
    }

    /// The time from `earlier` to here, by the clock that counts more of it. So a runtime with a clock of its own need
    /// not have two of them, and neither clock can stretch what has a time limit.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.running.since(earlier.running).max(self.boot.since(earlier.boot))
    }
}

/// The system's monotonic clock that goes on while the machine sleeps.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub(super) fn boot_time() -> Instant {
    use rustix::time::{ClockId, clock_gettime};

    #[cfg(not(target_vendor = "apple"))]
    let time = clock_gettime(ClockId::Boottime);
    // Apple's goes on in sleep, unlike that of Linux, and unlike the one that std reads there.
    #[cfg(target_vendor = "apple")]
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// The standard library's clock, which goes on in sleep on Windows. On the other systems nobody promises that.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(super) fn boot_time() -> Instant {
    static EPOCH: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    Instant::ZERO + EPOCH.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(running: u64, boot: u64) -> Moment {
        Moment { running: Instant::from_nanos(running), boot: Instant::from_nanos(boot) }
    }

    #[test]
    fn the_clock_that_counts_more_time_is_believed() {
        assert_eq!(at(15, 103).since(at(10, 100)), Duration::from_nanos(5));
        assert_eq!(at(15, 190).since(at(10, 100)), Duration::from_nanos(90));
        assert_eq!(at(10, 90).since(at(10, 100)), Duration::ZERO);
    }

    #[test]
    fn the_systems_clock_does_not_go_back_and_goes_on() {
        let first = boot_time();
        while boot_time() <= first {
            std::hint::spin_loop();
        }
    }
}
