//! Values that are no endpoints: the log hears of each, and with the feature `metrics` they are counted.

use super::endpoint::DecodeError;

/// Where those of one target are told.
#[derive(Debug)]
pub(super) struct Garbage {
    #[cfg(feature = "metrics")]
    found: metrics::Counter,
}

impl Garbage {
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "it is the label"))]
    pub(super) fn of(target: &str) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            found: crate::toolkit::counter(
                "etcd_watch_discovery_undecodable_total",
                "Values under a target that are no endpoints.",
                metrics::Label::new("target", target.to_owned()),
            ),
        }
    }

    /// Never told is the value: metadata can be anything.
    pub(super) fn found(&self, name: &str, error: &DecodeError) {
        tracing::warn!(name: "endpoint_undecodable", endpoint = name, %error, "an endpoint can't be decoded");
        #[cfg(feature = "metrics")]
        self.found.increment(1);
    }
}
