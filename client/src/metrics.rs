//! Registering metrics with the `metrics` facade. `docs/metrics.md` lists all metrics of this crate.

use metrics::{Counter, Gauge, Histogram, Label, Unit};

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

/// A histogram of durations in seconds that is registered with what it measures.
pub fn histogram(name: &'static str, help: &'static str, label: Label) -> Histogram {
    metrics::describe_histogram!(name, Unit::Seconds, help);
    metrics::histogram!(name, vec![label])
}
