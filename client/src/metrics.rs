//! Counters and gauges, by way of the `metrics` facade: what [`Stats`] says, once a second.

use std::{pin::pin, sync::Arc, time::Duration};

use etcd_watch_core::Stats;
use futures_util::future::{Either, select};
use metrics::{Counter, Gauge, Label};

use crate::{
    calls::attempts::Calls,
    runtime::{RuntimeGone, pause},
    watch::hub::Hub,
};

/// How often what has changed is exported.
const EVERY: Duration = Duration::from_secs(1);

/// How many exports lie between two looks at every watch for its lag.
const LAG_EVERY: u32 = 5;

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
    ("etcd_watch_moves_total", "Watch streams moved to another endpoint.", |stats| stats.moves),
    ("etcd_watch_misbehaved_total", "Breaches of the protocol by servers.", |stats| stats.misbehaved),
    ("etcd_watch_deaf_total", "Watches found to be lost by a proxy.", |stats| stats.deaf),
    ("etcd_watch_overflows_total", "Buffers found full behind slow consumers.", |stats| stats.overflows),
];

/// A counter that is registered with what it counts.
pub fn counter(name: &'static str, help: &'static str, label: Label) -> Counter {
    metrics::describe_counter!(name, help);
    metrics::counter!(name, vec![label])
}

/// A gauge that is registered with what it shows.
pub fn gauge(name: &'static str, help: &'static str, label: Label) -> Gauge {
    metrics::describe_gauge!(name, help);
    metrics::gauge!(name, vec![label])
}

/// What a client exports.
struct Exported {
    last: Stats,
    counters: [Counter; COUNTERS.len()],
    watches: Gauge,
    streams: Gauge,
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
            streams: gauge("etcd_watch_streams", "Watch streams."),
            queued_bytes: gauge("etcd_watch_queued_bytes", "Bytes that wait for consumers."),
            lag: gauge(
                "etcd_watch_max_lag_revisions",
                "Revisions between what the slowest consumer has taken and the newest that waits for it.",
            ),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "the facade has no other gauges, and these are small")]
    fn export(&mut self, stats: Stats) {
        for ((_, _, value), counter) in COUNTERS.iter().zip(&self.counters) {
            let more = value(&stats).saturating_sub(value(&self.last));
            if more > 0 {
                counter.increment(more);
            }
        }
        self.watches.set(stats.watches as f64);
        self.streams.set(stats.streams as f64);
        self.queued_bytes.set(stats.queued_bytes as f64);
        self.last = stats;
    }
}

/// Exports until the client has ended, and once more then.
pub(crate) async fn export(client: String, calls: Arc<Calls>, hub: Arc<Hub>) {
    let mut exported = Exported::new(&client);
    for round in 0_u32.. {
        exported.export(hub.stats());
        if round.is_multiple_of(LAG_EVERY) {
            #[expect(clippy::cast_precision_loss, reason = "the facade has no other gauges")]
            exported.lag.set(hub.max_lag() as f64);
        }
        if hub.has_ended() {
            return;
        }
        let pause = pin!(pause(&**calls.runtime(), EVERY));
        if let Either::Left((Err(RuntimeGone), _)) = select(pause, pin!(hub.ended())).await {
            return;
        }
    }
}
