//! When `--until-rev` is done.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often to ask for progress: often enough that nobody waits for it, and nothing to a server.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// The revision up to which everything has to arrive, and the clock to ask by.
pub(crate) struct Until {
    revision: i64,
    clock: Interval,
}

impl Until {
    pub(crate) fn new(revision: i64) -> Self {
        let mut clock = interval(ASK_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { revision, clock }
    }

    /// Whether everything has arrived, now that everything up to this revision has.
    pub(crate) fn reached(&self, revision: i64) -> bool {
        revision >= self.revision
    }

    /// Waits until it is time to ask for progress; without an end to wait for, for ever.
    pub(crate) async fn time_to_ask(until: &mut Option<Self>) {
        match until {
            Some(until) => until.clock.tick().await,
            None => std::future::pending().await,
        };
    }
}
