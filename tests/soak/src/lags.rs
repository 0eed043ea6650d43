//! How long deliveries took.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long deliveries took, from the acknowledgement of a write to its arrival at a consumer: by class of watch, and
/// by second for those whose consumers are eager.
#[derive(Debug)]
pub(crate) struct Lags {
    start: Instant,
    worst: BTreeMap<&'static str, Worst>,
    by_second: BTreeMap<u64, Duration>,
}

/// The worst of a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worst {
    /// How many deliveries were measured.
    pub deliveries: u64,
    /// The longest time between a write's acknowledgement and its delivery.
    pub lag: Duration,
    /// When that one was delivered, since the soak began.
    pub at: Duration,
}

impl Lags {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, worst: BTreeMap::new(), by_second: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, class: &'static str, is_eager: bool, lag: Duration, at: Instant) {
        let at = at.saturating_duration_since(self.start);
        let worst = self.worst.entry(class).or_default();
        worst.deliveries += 1;
        if lag > worst.lag {
            (worst.lag, worst.at) = (lag, at);
        }
        if is_eager {
            let worst = self.by_second.entry(at.as_secs()).or_default();
            *worst = lag.max(*worst);
        }
    }

    /// The worst of each class.
    pub(crate) fn worst(&self) -> Vec<(&'static str, Worst)> {
        self.worst.iter().map(|(&class, &worst)| (class, worst)).collect()
    }

    /// The worst of the eager ones in each second that had any.
    pub(crate) fn by_second(&self) -> Vec<(u64, Duration)> {
        self.by_second.iter().map(|(&second, &worst)| (second, worst)).collect()
    }
}
