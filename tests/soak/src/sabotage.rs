//! What shows that the checks notice: deliveries, calls and contenders that are tampered with on purpose.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use etcd_watch_testkit::{checks::Received, linearizable::Operation};

use crate::settings::Sabotage;

/// Tampers with what consumers receive, with what is written down of calls and with what contenders do, if it was told to.
/// Its clones count together.
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
            _ => 0,
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
            received.events.retain(|_| !self.is_one_in(every));
        }
    }

    /// Whether a contender writes, after its turn, without the condition that it is its turn.
    pub(crate) fn writes_without_condition(&self) -> bool {
        self.sabotage == Some(Sabotage::WriteUnfenced)
    }

    /// Whether a contender takes the lock without waiting for its turn.
    pub(crate) fn jumps_the_queue(&self) -> bool {
        self.sabotage == Some(Sabotage::JumpQueue)
    }

    /// Whether a contender believes in its turn, whatever it hears.
    pub(crate) fn believes(&self) -> bool {
        self.sabotage == Some(Sabotage::Believe)
    }

    /// Whether an observer is not told of this leader.
    pub(crate) fn misses_a_leader(&self) -> bool {
        matches!(self.sabotage, Some(Sabotage::MissLeader(every)) if self.is_one_in(every))
    }

    fn is_one_in(&self, every: u64) -> bool {
        (self.seen.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(every.max(1))
    }
}
