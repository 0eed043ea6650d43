//! What shows that the checks notice: deliveries and calls that are tampered with on purpose.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use etcd_watch_testkit::{checks::Received, linearizable::Operation};

use crate::settings::Sabotage;

/// Tampers with what consumers receive and with what is written down of calls, if it was told to. Its clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Saboteur {
    sabotage: Option<Sabotage>,
    seen: Arc<AtomicU64>,
}

impl Saboteur {
    /// The first event to go is by the seed.
    pub(crate) fn new(sabotage: Option<Sabotage>, seed: u64) -> Self {
        let first = match sabotage {
            Some(Sabotage::DropEvent(every)) => fastrand::Rng::with_seed(seed).u64(..every.max(1)),
            Some(Sabotage::ForgetCall(_)) | None => 0,
        };
        Self { sabotage, seen: Arc::new(AtomicU64::new(first)) }
    }

    pub(crate) fn meddle_with_calls(&self, history: &mut Vec<Operation>) {
        if let Some(Sabotage::ForgetCall(every)) = self.sabotage {
            let mut numbers = 1_u64..;
            history.retain(|_| numbers.next().is_none_or(|number| !number.is_multiple_of(every.max(1))));
        }
    }

    pub(crate) fn meddle(&self, received: &mut Received) {
        if let Some(Sabotage::DropEvent(every)) = self.sabotage {
            let is_lost = |seen: u64| seen.is_multiple_of(every.max(1));
            received.events.retain(|_| !is_lost(self.seen.fetch_add(1, Ordering::Relaxed) + 1));
        }
    }
}
