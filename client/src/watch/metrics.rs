//! Counters and gauges of a client's watches and their streams: what [`Stats`] says, once a second. An export looks at no
//! watch for whose consumer nothing waits, and at no more of the others than [`Watcher::max_lag`] does.
//!
//! [`Watcher::max_lag`]: etcd_watch_core::Watcher::max_lag

use std::{pin::pin, sync::Arc, time::Duration};

use etcd_watch_core::Stats;
use futures_util::future::{Either, select};
use metrics::{Counter, Gauge, Label};

use crate::{
    calls::attempts::Calls,
    metrics::{counter, gauge},
    runtime::{RuntimeGone, pause},
    watch::hub::Hub,
};

/// How often what has changed is exported.
const EVERY: Duration = Duration::from_secs(1);

/// A counter's name, what it counts, and where that is.
type CounterOf = (&'static str, &'static str, fn(&Stats) -> u64);

const COUNTERS: [CounterOf; 17] = [
    ("etcd_watch_frames_total", "Frames received on watch streams.", |stats| stats.frames),
    ("etcd_watch_frame_bytes_total", "Bytes in these frames.", |stats| stats.frame_bytes),
    ("etcd_watch_events_total", "Events accepted for delivery.", |stats| stats.events),
    ("etcd_watch_stale_events_total", "Events dropped as delivered before.", |stats| stats.stale_events),
    ("etcd_watch_overtaken_events_total", "Events that came after progress past them.", |stats| {
        stats.overtaken_events
    }),
    ("etcd_watch_untrusted_progress_total", "Progress replies not believed.", |stats| {
        stats.untrusted_progress
    }),
    ("etcd_watch_progress_total", "Progress notifications received.", |stats| stats.progress_notifications),
    ("etcd_watch_responses_total", "Responses handed to consumers.", |stats| stats.responses),
    ("etcd_watch_creates_total", "Create requests sent.", |stats| stats.creates),
    ("etcd_watch_recreates_total", "Create requests that resumed a watch.", |stats| stats.recreates),
    ("etcd_watch_cancels_total", "Cancel requests sent.", |stats| stats.cancels),
    ("etcd_watch_opens_total", "Watch streams opened.", |stats| stats.opens),
    ("etcd_watch_reconnects_total", "Watch streams lost or replaced.", |stats| stats.reconnects),
    (
        "etcd_watch_moves_total",
        "Watch streams closed and opened again, to be spread or for other credentials.",
        |stats| stats.moves,
    ),
    ("etcd_watch_misbehaved_total", "Breaches of the protocol by servers.", |stats| stats.misbehaved),
    ("etcd_watch_deaf_total", "Watches found to be lost by a proxy.", |stats| stats.deaf),
    ("etcd_watch_overflows_total", "Buffers found full behind slow consumers.", |stats| stats.overflows),
];

/// What a client exports.
struct Exported {
    last: Stats,
    counters: [Counter; COUNTERS.len()],
    watches: Gauge,
    streams: Gauge,
    open_streams: Gauge,
    queued_bytes: Gauge,
    lag: Gauge,
}

impl Exported {
    fn new(client: &str) -> Self {
        let label = || Label::new("client", client.to_owned());
        let gauge = |name, help| gauge(name, help, label());
        Self {
            last: Stats::default(),
            counters: COUNTERS.map(|(name, help, _)| counter(name, help, label())),
            watches: gauge("etcd_watch_watches", "Watches open."),
            streams: gauge(
                "etcd_watch_streams",
                "Watch streams that are needed, whether they are open or not.",
            ),
            open_streams: gauge("etcd_watch_open_streams", "Watch streams that are open."),
            queued_bytes: gauge("etcd_watch_queued_bytes", "Bytes that wait for consumers."),
            lag: gauge(
                "etcd_watch_max_lag_revisions",
                "Revisions between what the slowest consumer has taken and the newest that waits for it.",
            ),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "the facade has no other gauges, and these are small")]
    fn export(&mut self, stats: Stats, lag: u64) {
        for ((_, _, value), counter) in COUNTERS.iter().zip(&self.counters) {
            let more = value(&stats).saturating_sub(value(&self.last));
            if more > 0 {
                counter.increment(more);
            }
        }
        self.watches.set(stats.watches as f64);
        self.streams.set(stats.streams as f64);
        self.open_streams.set(stats.open_streams as f64);
        self.queued_bytes.set(stats.queued_bytes as f64);
        self.lag.set(lag as f64);
        self.last = stats;
    }
}

/// Exports until the client has ended, and once more then.
pub(crate) async fn export(calls: Arc<Calls>, hub: Arc<Hub>) {
    let mut exported = Exported::new(calls.telemetry().client());
    loop {
        exported.export(hub.stats(), hub.max_lag());
        if hub.has_ended() {
            return;
        }
        let pause = pin!(pause(&**calls.runtime(), EVERY));
        if let Either::Left((Err(RuntimeGone), _)) = select(pause, pin!(hub.ended())).await {
            return;
        }
    }
}
