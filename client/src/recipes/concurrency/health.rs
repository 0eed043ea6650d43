//! How a session is doing.

use std::{sync::Arc, time::Duration};

use super::SessionLost;
use crate::{
    BoxFuture, Health, Monitor, NeverReady, Verdict,
    toolkit::{Latch, Monitored, WaitList},
};

/// A session, for those who monitor it. It doesn't keep the lease alive.
pub(super) struct MonitoredSession {
    keeper: Monitor,
    over: Arc<Latch<SessionLost>>,
}

impl MonitoredSession {
    pub(super) fn new(keeper: Monitor, over: Arc<Latch<SessionLost>>) -> Self {
        Self { keeper, over }
    }
}

impl Monitored for MonitoredSession {
    fn health(&self) -> Health {
        let health = self.keeper.health();
        let verdict = match self.over.get() {
            None => return health,
            Some(SessionLost::Closed | SessionLost::Orphaned) => NeverReady::Closed,
            Some(lost) => match health.verdict() {
                // The client's end, or that of the runtime.
                Verdict::Ended(why @ (NeverReady::ClientClosed | NeverReady::RuntimeGone)) => why.clone(),
                _ => NeverReady::because_of(lost),
            },
        };
        health.with_verdict(Verdict::Ended(verdict)).turning_at(None)
    }

    fn changes(&self) -> Vec<&WaitList> {
        let mut changes = self.keeper.source().changes();
        changes.push(self.over.waiting());
        changes
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.keeper.source().sleep(duration)
    }
}
