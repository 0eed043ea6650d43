//! How a watch is doing, told from what the machine and the driver know.

use std::sync::{Arc, OnceLock};

use etcd_watch_core::{CloseReason, Instant, WatchKey, WatchState};

use crate::{
    health::{Contact, Health, Monitored, NeverReady, Verdict},
    sync::WaitList,
    watch::{
        hub::{Hub, State},
        links::Link,
    },
};

/// Why a watch has ended, and when, once its handle has taken that or is gone.
pub(crate) type Ending = Arc<OnceLock<(CloseReason, Instant)>>;

/// A watch, for those who monitor it. It doesn't keep the client running.
#[derive(Clone)]
pub(crate) struct MonitoredWatch {
    hub: Arc<Hub>,
    key: WatchKey,
    ending: Ending,
}

impl MonitoredWatch {
    pub(crate) fn new(hub: Arc<Hub>, key: WatchKey, ending: Ending) -> Self {
        Self { hub, key, ending }
    }

    fn look(&self, state: &State, now: Instant) -> Option<Health> {
        let stats = state.machine.watch_stats(self.key)?;
        let verdict = match stats.state {
            WatchState::Active => Verdict::Ready,
            WatchState::Closed => {
                let reason = state.machine.close_reason(self.key).cloned();
                Verdict::Ended(reason.map_or(NeverReady::Closed, NeverReady::from))
            }
            _ => Verdict::NotReady,
        };
        let link = stats.stream.and_then(|stream| state.links.get(stream.stream()));
        let mut contact = link.map(Link::contact).cloned().unwrap_or_default();
        contact.hear(stats.stream.and_then(|stream| state.machine.last_frame(stream)));
        if stats.state == WatchState::AwaitingRevision
            && let Some((at, error)) = state.links.read_error()
        {
            // The client's own errors have no destructor that could do harm under the lock.
            let _ = contact.failed(*at, error.clone());
        }
        let away = (stats.state != WatchState::Active).then_some(stats.since);
        let known = |revision: i64| Some(revision).filter(|&revision| revision > 0);
        Some(
            Health::new(now, verdict, contact)
                .with_away_since(away)
                .with_observed_revision(known(stats.resume_revision.saturating_sub(1)))
                .with_published_revision(known(stats.taken_revision)),
        )
    }
}

impl Monitored for MonitoredWatch {
    fn health(&self) -> Health {
        let now = self.hub.now();
        let health = self.look(&self.hub.lock(), now);
        health.unwrap_or_else(|| {
            // Its handle tells the reason right after it has taken the end, and wakes everybody then.
            let (verdict, at) = match self.ending.get().cloned() {
                Some((reason, at)) => (Verdict::Ended(reason.into()), at),
                None => (Verdict::NotReady, now),
            };
            Health::new(now, verdict, Contact::default()).with_away_since(Some(at))
        })
    }

    fn changes(&self) -> Vec<&WaitList> {
        vec![self.hub.monitoring()]
    }
}
