//! Metrics of calls, under the names of OpenTelemetry's conventions as Prometheus spells them, and of leases.

use std::time::Duration;

use metrics::{Counter, Gauge, Label, SharedString, Unit};

use super::outcome::Outcome;
use crate::{
    Address, Endpoint,
    metrics::{counter, gauge},
};

const DURATION: &str = "rpc_client_call_duration_seconds";
const ATTEMPTS: &str = "etcd_watch_call_attempts_total";
const RETRIES: &str = "etcd_watch_call_retries_total";
const LOST: &str = "etcd_watch_leases_lost_total";

/// Why a lease is lost, as `LeaseLost::kind` spells it.
const REASONS: [&str; 4] = ["not_found", "expired", "closed", "stopped"];

/// The metrics of one client.
pub(super) struct Metrics {
    client: SharedString,
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
        endpoint: Option<&Endpoint>,
        duration: Duration,
        attempts: u32,
    ) {
        let mut labels = vec![
            label(&self.client),
            Label::new("rpc_system_name", "grpc"),
            Label::new("rpc_method", method),
            Label::new("rpc_response_status_code", outcome.status()),
        ];
        labels.extend(outcome.error_type().map(|error| Label::new("error_type", error)));
        labels.extend(endpoint.into_iter().flat_map(server));
        metrics::histogram!(DURATION, labels).record(duration);
        let labels = vec![label(&self.client), Label::new("rpc_method", method)];
        metrics::counter!(ATTEMPTS, labels.clone()).increment(attempts.into());
        metrics::counter!(RETRIES, labels).increment(attempts.saturating_sub(1).into());
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

fn label(client: &SharedString) -> Label {
    Label::new("client", client.clone())
}

/// Where a call went.
fn server(endpoint: &Endpoint) -> Vec<Label> {
    match endpoint.address() {
        Address::Tcp { host, port } => {
            vec![Label::new("server_address", host.to_owned()), Label::new("server_port", port.to_string())]
        }
        Address::Unix { path } => vec![Label::new("server_address", path.display().to_string())],
    }
}
