//! What a client tells of its calls and of the leases that it keeps.

use std::fmt;
#[cfg(feature = "metrics")]
use std::sync::Arc;

#[cfg(feature = "metrics")]
use super::metrics::Metrics;

/// What is told, and under which name.
pub(crate) struct Telemetry {
    /// Whether each call has a span.
    pub(super) has_spans: bool,
    #[cfg(feature = "metrics")]
    pub(super) metrics: Arc<Metrics>,
}

impl Telemetry {
    /// `client` is the client's name in metrics.
    #[cfg(feature = "metrics")]
    pub(crate) fn new(has_spans: bool, client: &str) -> Self {
        Self { has_spans, metrics: Arc::new(Metrics::new(client)) }
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) fn new(has_spans: bool) -> Self {
        Self { has_spans }
    }

    /// The client's name in metrics.
    #[cfg(feature = "metrics")]
    pub(crate) fn client(&self) -> &str {
        self.metrics.client()
    }

    /// A lease is kept from now on, until the value is dropped.
    pub(super) fn lease_kept(&self) -> KeptLease {
        #[cfg(feature = "metrics")]
        self.metrics.leases.kept.increment(1);
        KeptLease {
            #[cfg(feature = "metrics")]
            metrics: self.metrics.clone(),
        }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("has_spans", &self.has_spans).finish_non_exhaustive()
    }
}

/// A lease that is kept.
pub(super) struct KeptLease {
    #[cfg(feature = "metrics")]
    metrics: Arc<Metrics>,
}

#[cfg_attr(not(feature = "metrics"), expect(clippy::unused_self, reason = "without metrics nobody is told"))]
impl KeptLease {
    pub(super) fn renewed(&self) {
        #[cfg(feature = "metrics")]
        self.metrics.leases.renewals.increment(1);
    }

    pub(super) fn not_renewed(&self) {
        #[cfg(feature = "metrics")]
        self.metrics.leases.failed_renewals.increment(1);
    }

    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "it is a label"))]
    pub(super) fn lost(&self, reason: &'static str) {
        #[cfg(feature = "metrics")]
        self.metrics.leases.lost(reason);
    }
}

#[cfg(feature = "metrics")]
impl Drop for KeptLease {
    fn drop(&mut self) {
        self.metrics.leases.kept.decrement(1);
    }
}
