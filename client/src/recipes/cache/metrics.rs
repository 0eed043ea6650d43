//! Gauges and counters of a cache, by way of the `metrics` facade: set whenever its task has had a turn.

use std::task::{Context, Poll};

use metrics::{Counter, Gauge, Label};

use super::stats::CacheStats;
use crate::{BoxFuture, Health, Monitor, NeverReady};

/// A name, what it tells, and where that is.
type Of<T> = (&'static str, &'static str, fn(&CacheStats) -> T);

const COUNTERS: [Of<u64>; 3] = [
    ("etcd_watch_cache_lists_total", "Lists begun.", |stats| stats.lists),
    ("etcd_watch_cache_decode_errors_total", "Values that did not decode.", |stats| stats.decode_errors),
    ("etcd_watch_cache_slow_resyncs_total", "Resyncs of subscribers that were too slow.", |stats| {
        stats.slow_resyncs
    }),
];

#[expect(clippy::cast_precision_loss, reason = "the facade has no other gauges, and these are small")]
const GAUGES: [Of<f64>; 4] = [
    ("etcd_watch_cache_keys", "Keys cached.", |stats| stats.keys as f64),
    ("etcd_watch_cache_bytes", "Bytes of these keys and their values.", |stats| stats.bytes as f64),
    ("etcd_watch_cache_revision", "The revision the cache is at.", |stats| stats.revision as f64),
    ("etcd_watch_cache_subscribers", "Subscriptions open.", |stats| stats.subscribers as f64),
];

/// Whether a cache is ready: told at each turn of the cache's task, which takes a turn when that changes.
pub(super) struct Readiness {
    gauge: Gauge,
    is_ready: bool,
    /// `None` once it has ended.
    change: Option<Change>,
}

type Change = BoxFuture<'static, (Monitor, Result<Health, NeverReady>)>;

impl Readiness {
    pub(super) fn new(cache: &str, monitor: Monitor) -> Self {
        let (name, help) = ("etcd_watch_cache_ready", "1 while the cache is ready, 0 while it isn't.");
        let gauge = crate::toolkit::gauge(name, help, Label::new("cache", cache.to_owned()));
        let is_ready = monitor.health().is_ready();
        Self { gauge, is_ready, change: Some(next_change(monitor)) }
    }

    /// Tells of the changes there are, and has the task woken at the next.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        while let Some(change) = &mut self.change {
            let Poll::Ready((monitor, result)) = change.as_mut().poll(cx) else { break };
            self.is_ready = result.as_ref().is_ok_and(Health::is_ready);
            self.change = result.is_ok().then(|| next_change(monitor));
        }
        // Another cache of the same name may have set it.
        self.gauge.set(f64::from(u8::from(self.is_ready)));
    }
}

impl Drop for Readiness {
    /// A cache that was closed is neither ready nor is it missed.
    fn drop(&mut self) {
        if self.change.is_some() {
            self.gauge.set(f64::NAN);
        }
    }
}

fn next_change(mut monitor: Monitor) -> Change {
    Box::pin(async move {
        let result = monitor.changed().await;
        (monitor, result)
    })
}

/// What a cache exports.
pub(super) struct Exported {
    last: CacheStats,
    counters: [Counter; COUNTERS.len()],
    gauges: [Gauge; GAUGES.len()],
}

impl Exported {
    pub(super) fn new(cache: &str) -> Self {
        let label = || Label::new("cache", cache.to_owned());
        Self {
            last: CacheStats::default(),
            counters: COUNTERS.map(|(name, help, _)| crate::toolkit::counter(name, help, label())),
            gauges: GAUGES.map(|(name, help, _)| crate::toolkit::gauge(name, help, label())),
        }
    }

    pub(super) fn export(&mut self, stats: CacheStats) {
        for ((_, _, value), counter) in COUNTERS.iter().zip(&self.counters) {
            let more = value(&stats).saturating_sub(value(&self.last));
            if more > 0 {
                counter.increment(more);
            }
        }
        for ((_, _, value), gauge) in GAUGES.iter().zip(&self.gauges) {
            gauge.set(value(&stats));
        }
        self.last = stats;
    }
}

impl Drop for Exported {
    /// What is gone has no keys.
    fn drop(&mut self) {
        self.export(CacheStats::default());
    }
}
