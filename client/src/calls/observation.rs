//! One call as it is observed, for its span and its metrics. A client that observes nothing pays nothing: it neither
//! allocates nor reads a clock.

use std::sync::Arc;

#[cfg(feature = "metrics")]
use etcd_watch_core::Instant;
use tracing::{Span, field::Empty};

#[cfg(feature = "metrics")]
use super::metrics::Metrics;
use super::outcome::Outcome;
use super::telemetry::Telemetry;
use crate::{Address, Endpoint, Runtime};

/// A call under way. If it is dropped before its end, the call was given up.
pub(super) struct Observation(Option<Box<Observed>>);

struct Observed {
    /// `package.Service/Method`.
    method: &'static str,
    has_span: bool,
    /// From the first attempt on, if it has one.
    span: Span,
    attempts: u32,
    endpoint: Option<Arc<Endpoint>>,
    outcome: Outcome,
    #[cfg(feature = "metrics")]
    measured: Measured,
}

/// What is measured of a call.
#[cfg(feature = "metrics")]
struct Measured {
    metrics: Arc<Metrics>,
    runtime: Arc<dyn Runtime>,
    began: Instant,
}

impl Observation {
    /// A call of this method, `/package.Service/Method`, begins.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "it is the clock"))]
    pub(super) fn begin(telemetry: &Telemetry, path: &'static str, runtime: &Arc<dyn Runtime>) -> Self {
        if cfg!(not(feature = "metrics")) && !telemetry.has_spans {
            return Self(None);
        }
        let method = path.trim_start_matches('/');
        #[cfg(feature = "metrics")]
        telemetry.metrics.in_flight.increment(1);
        Self(Some(Box::new(Observed {
            method,
            has_span: telemetry.has_spans,
            span: Span::none(),
            attempts: 0,
            endpoint: None,
            outcome: Outcome::GIVEN_UP,
            #[cfg(feature = "metrics")]
            measured: Measured {
                metrics: telemetry.metrics.clone(),
                runtime: runtime.clone(),
                began: runtime.now(),
            },
        })))
    }

    /// The call's span, if it has one and somebody listens. It begins here or with the first attempt.
    pub(super) fn span(&mut self) -> Option<Span> {
        let observed = self.0.as_mut()?;
        observed.begin_span();
        (!observed.span.is_disabled()).then(|| observed.span.clone())
    }

    /// It is a call of this method after all. Told before its first attempt.
    pub(super) fn becomes(&mut self, path: &'static str) {
        if let Some(observed) = &mut self.0 {
            observed.method = path.trim_start_matches('/');
        }
    }

    /// An attempt begins.
    pub(super) fn attempt(&mut self) {
        if let Some(observed) = &mut self.0 {
            observed.begin_span();
            observed.attempts = observed.attempts.saturating_add(1);
        }
    }

    /// The attempt is made at this endpoint.
    pub(super) fn at(&mut self, endpoint: &Arc<Endpoint>) {
        if let Some(observed) = &mut self.0 {
            observed.endpoint = Some(endpoint.clone());
        }
    }

    /// The call is over; `endpoint` is where it was made, if it came so far.
    pub(super) fn end_at(&mut self, endpoint: Option<&Arc<Endpoint>>, outcome: impl FnOnce() -> Outcome) {
        if let Some(endpoint) = endpoint {
            self.at(endpoint);
        }
        self.end(outcome);
    }

    /// The call is over.
    pub(super) fn end(&mut self, outcome: impl FnOnce() -> Outcome) {
        if let Some(mut observed) = self.0.take() {
            observed.outcome = outcome();
        }
    }
}

/// The span of a call. Nothing of what is asked or answered is in it.
fn span(method: &'static str) -> Span {
    tracing::info_span!(
        "etcd_watch.call",
        otel.name = method,
        otel.kind = "client",
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.status_code = Empty,
        error.type = Empty,
        server.address = Empty,
        server.port = Empty,
        etcd_watch.attempts = Empty,
    )
}

impl Observed {
    fn begin_span(&mut self) {
        if self.has_span && self.span.is_none() {
            self.span = span(self.method);
        }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        {
            let Measured { metrics, runtime, began } = &self.measured;
            metrics.in_flight.decrement(1);
            let endpoint = self.endpoint.as_ref();
            let duration = runtime.now().since(*began);
            metrics.call_over(self.method, self.outcome, endpoint, duration, self.attempts);
        }
        if self.span.is_disabled() {
            return;
        }
        self.span.record("etcd_watch.attempts", self.attempts);
        self.span.record("rpc.status_code", self.outcome.status());
        if let Some(error_type) = self.outcome.error_type() {
            self.span.record("error.type", error_type);
            self.span.record("otel.status_code", "ERROR");
        }
        match self.endpoint.as_deref().map(Endpoint::address) {
            Some(Address::Tcp { host, port }) => {
                self.span.record("server.address", host);
                self.span.record("server.port", port);
            }
            Some(Address::Unix { path }) => {
                self.span.record("server.address", tracing::field::display(path.display()));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NoNetwork;

    fn begin(has_spans: bool) -> Observation {
        #[cfg(feature = "metrics")]
        let telemetry = Telemetry::new(has_spans, "mine");
        #[cfg(not(feature = "metrics"))]
        let telemetry = Telemetry::new(has_spans);
        let runtime: Arc<dyn Runtime> = Arc::new(NoNetwork);
        Observation::begin(&telemetry, "/package.Service/Method", &runtime)
    }

    #[test]
    fn nothing_is_kept_of_a_call_that_nobody_observes() {
        assert_eq!(begin(false).0.is_some(), cfg!(feature = "metrics"));
        assert_eq!(size_of::<Observation>(), size_of::<usize>());
    }

    #[test]
    fn a_span_to_which_nobody_listens_is_none() {
        assert!(begin(true).span().is_none() && begin(false).span().is_none());
    }

    #[test]
    fn what_is_observed_is_told_once() {
        let mut observation = begin(true);
        observation.attempt();
        observation.end(|| Outcome::OK);
        observation.end(|| unreachable!("the call is over"));
        assert!(observation.0.is_none());
    }
}
