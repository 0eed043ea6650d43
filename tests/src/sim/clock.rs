//! The virtual clock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Virtual time. It goes on only while all tasks wait, so it is enough to read tokio's clock whenever they have waited:
/// everything in a world asks for the time, several times for each task that is polled.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The beginning of the run, as tokio counts.
    epoch: OnceLock<Instant>,
    /// The nanoseconds since then.
    now: AtomicU64,
}

impl Clock {
    /// Reads tokio's clock, in its runtime: at the beginning of the run and whenever all tasks have waited.
    pub(super) fn read(&self) {
        let since_start = self.epoch().elapsed().as_nanos();
        self.now.store(u64::try_from(since_start).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The time since the beginning of the run.
    pub(super) fn now(&self) -> Duration {
        Duration::from_nanos(self.now.load(Ordering::Relaxed))
    }

    /// That moment, as tokio counts.
    pub(super) fn at(&self, since_start: Duration) -> Instant {
        self.epoch() + since_start
    }

    fn epoch(&self) -> Instant {
        *self.epoch.get_or_init(Instant::now)
    }
}
