//! Metrics of sessions, and of what is held and waited for by them. Without the feature `metrics` there are none.

#[cfg(feature = "metrics")]
use std::sync::Arc;
use std::sync::Mutex;

#[cfg(feature = "metrics")]
use etcd_watch_core::Instant;

use crate::{Client, toolkit::lock};

/// What a place in a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Lock,
    Leadership,
}

/// The metrics of one session.
#[derive(Clone)]
pub(super) struct Metrics {
    #[cfg(feature = "metrics")]
    of: Arc<Registered>,
}

#[cfg(feature = "metrics")]
struct Registered {
    sessions: metrics::Gauge,
    sessions_lost: metrics::Counter,
    locks: OfPurpose,
    leaderships: OfPurpose,
}

#[cfg(feature = "metrics")]
struct OfPurpose {
    held: metrics::Gauge,
    waiting: metrics::Gauge,
    waited: metrics::Histogram,
    lost: metrics::Counter,
}

#[cfg(feature = "metrics")]
impl Registered {
    fn new(client: &str) -> Self {
        use crate::toolkit::{counter, gauge, histogram};

        let label = || metrics::Label::new("client", client.to_owned());
        let gauge = |name, help| gauge(name, help, label());
        let counter = |name, help| counter(name, help, label());
        let histogram = |name, help| histogram(name, help, label());
        Self {
            sessions: gauge("etcd_watch_sessions", "Sessions open."),
            sessions_lost: counter(
                "etcd_watch_sessions_lost_total",
                "Sessions that ended because their lease was lost.",
            ),
            locks: OfPurpose {
                held: gauge("etcd_watch_locks_held", "Locks held."),
                waiting: gauge("etcd_watch_locks_waiting", "Tasks that wait for a lock."),
                waited: histogram(
                    "etcd_watch_lock_acquire_duration_seconds",
                    "Time from asking for a lock to holding it.",
                ),
                lost: counter("etcd_watch_locks_lost_total", "Locks lost, or places in the queue for one."),
            },
            leaderships: OfPurpose {
                held: gauge("etcd_watch_leaderships_held", "Leaderships held."),
                waiting: gauge("etcd_watch_leaderships_waiting", "Tasks that campaign for a leadership."),
                waited: histogram(
                    "etcd_watch_leadership_acquire_duration_seconds",
                    "Time from campaigning for a leadership to holding it.",
                ),
                lost: counter(
                    "etcd_watch_leaderships_lost_total",
                    "Leaderships lost, or candidates' places in the queue for one.",
                ),
            },
        }
    }

    fn of(&self, purpose: Purpose) -> &OfPurpose {
        match purpose {
            Purpose::Lock => &self.locks,
            Purpose::Leadership => &self.leaderships,
        }
    }
}

#[cfg_attr(
    not(feature = "metrics"),
    expect(clippy::unused_self, unused_variables, reason = "without metrics nobody is told")
)]
impl Metrics {
    pub(super) fn of(client: &Client) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            of: Arc::new(Registered::new(client.name())),
        }
    }

    pub(super) fn session_opened(&self) {
        #[cfg(feature = "metrics")]
        self.of.sessions.increment(1);
    }

    /// A session has ended. `is_lost` if that was not the application's doing.
    pub(super) fn session_over(&self, is_lost: bool) {
        #[cfg(feature = "metrics")]
        {
            self.of.sessions.decrement(1);
            self.of.sessions_lost.increment(is_lost.into());
        }
    }

    pub(super) fn lost(&self, purpose: Purpose) {
        #[cfg(feature = "metrics")]
        self.of.of(purpose).lost.increment(1);
    }

    /// A task waits from now on, until the value is dropped or holds.
    pub(super) fn waiting(&self, purpose: Purpose, client: &Client) -> Waiting {
        #[cfg(feature = "metrics")]
        self.of.of(purpose).waiting.increment(1);
        Waiting {
            #[cfg(feature = "metrics")]
            metrics: self.clone(),
            #[cfg(feature = "metrics")]
            began: client.runtime().now(),
            purpose,
        }
    }
}

/// A task that waits for a lock or a leadership.
pub(super) struct Waiting {
    #[cfg(feature = "metrics")]
    metrics: Metrics,
    #[cfg(feature = "metrics")]
    began: Instant,
    purpose: Purpose,
}

impl Waiting {
    pub(super) fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The task has what it waited for.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "it is the clock"))]
    pub(super) fn acquired(self, client: &Client) -> Holding {
        #[cfg(feature = "metrics")]
        {
            let of = self.metrics.of.of(self.purpose);
            of.waited.record(client.runtime().now().since(self.began));
            of.held.increment(1);
        }
        Holding {
            #[cfg(feature = "metrics")]
            metrics: self.metrics.clone(),
            #[cfg(feature = "metrics")]
            purpose: self.purpose,
        }
    }
}

#[cfg(feature = "metrics")]
impl Drop for Waiting {
    fn drop(&mut self) {
        self.metrics.of.of(self.purpose).waiting.decrement(1);
    }
}

/// A lock or a leadership that is held.
pub(super) struct Holding {
    #[cfg(feature = "metrics")]
    metrics: Metrics,
    #[cfg(feature = "metrics")]
    purpose: Purpose,
}

#[cfg(feature = "metrics")]
impl Drop for Holding {
    fn drop(&mut self) {
        self.metrics.of.of(self.purpose).held.decrement(1);
    }
}

/// What a place in a queue holds, until it is let go: which a recorder hears of, so not under the lock.
#[derive(Default)]
pub(super) struct Held(Mutex<Option<Holding>>);

impl Held {
    pub(super) fn set(&self, holding: Holding) {
        let _before = lock(&self.0).replace(holding);
    }

    pub(super) fn let_go(&self) {
        let _holding = lock(&self.0).take();
    }
}
