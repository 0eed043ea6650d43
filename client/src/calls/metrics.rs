//! Metrics of calls, under the names of OpenTelemetry's conventions as Prometheus spells them, and of leases.

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Gauge, Label, Level, Metadata, SharedString, Unit, with_recorder};

use super::{
    attributes::{ATTEMPTS, AttributeSets, DURATION, RETRIES, label},
    outcome::Outcome,
};
use crate::{
    Endpoint,
    metrics::{counter, gauge},
};

const LOST: &str = "etcd_watch_leases_lost_total";

/// Why a lease is lost, as `LeaseLost::kind` spells it.
const REASONS: [&str; 4] = ["not_found", "expired", "closed", "stopped"];

/// What a recorder is told of the metrics of calls beside their names and labels, as the macros of the facade do.
static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// The metrics of one client.
pub(super) struct Metrics {
    client: SharedString,
    attributes: AttributeSets,
    pub(super) in_flight: Gauge,
    pub(super) leases: Leases,
}

/// The metrics of a client's leases.
pub(super) struct Leases {
    pub(super) kept: Gauge,
    pub(super) renewals: Counter,
    pub(super) failed_renewals: Counter,
    lost: [(&'static str, Counter); REASONS.len()],
}

impl Metrics {
    pub(super) fn new(client: &str) -> Self {
        let client = SharedString::from_shared(client.into());
        metrics::describe_histogram!(DURATION, Unit::Seconds, "Durations of calls, all attempts together.");
        metrics::describe_counter!(ATTEMPTS, "Attempts of calls that are over.");
        metrics::describe_counter!(RETRIES, "Of these attempts, the ones after a call's first.");
        Self {
            in_flight: gauge("etcd_watch_calls_in_flight", "Calls under way.", label(&client)),
            leases: Leases::new(&client),
            attributes: AttributeSets::new(client.clone()),
            client,
        }
    }

    pub(super) fn client(&self) -> &str {
        &self.client
    }

    /// A call is over.
    pub(super) fn call_over(
        &self,
        method: &'static str,
        outcome: Outcome,
        endpoint: Option<&Arc<Endpoint>>,
        duration: Duration,
        attempts: u32,
    ) {
        let attributes = self.attributes.of(method, outcome, endpoint);
        let counts = &attributes.counts;
        // Each time anew: a recorder may drop metrics that are idle, and a handle that was kept would tell nobody.
        let (durations, all, retries) = with_recorder(|recorder| {
            (
                recorder.register_histogram(&attributes.duration, &METADATA),
                recorder.register_counter(&counts.attempts, &METADATA),
                recorder.register_counter(&counts.retries, &METADATA),
            )
        });
        durations.record(duration);
        all.increment(attempts.into());
        retries.increment(attempts.saturating_sub(1).into());
    }
}

impl Leases {
    fn new(client: &SharedString) -> Self {
        metrics::describe_counter!(LOST, "Leases lost while they were kept.");
        let lost = |reason| {
            let labels = vec![label(client), Label::new("reason", reason)];
            (reason, metrics::counter!(LOST, labels))
        };
        Self {
            kept: gauge("etcd_watch_leases_kept", "Leases kept alive.", label(client)),
            renewals: counter(
                "etcd_watch_lease_renewals_total",
                "Renewals of leases that are kept.",
                label(client),
            ),
            failed_renewals: counter(
                "etcd_watch_lease_renewal_failures_total",
                "Attempts to renew a lease that failed; each is followed by another while the lease lasts.",
                label(client),
            ),
            // All of them now: a counter that begins at 1 has not increased, as Prometheus sees it.
            lost: REASONS.map(lost),
        }
    }

    /// A lease is lost for one of [`REASONS`].
    pub(super) fn lost(&self, reason: &'static str) {
        for (_, counter) in self.lost.iter().filter(|(of, _)| *of == reason) {
            counter.increment(1);
        }
    }
}
