//! How a watch is doing, told from what the machine and the driver know.

use std::sync::Arc;

use etcd_watch_core::{Instant, WatchKey, WatchState};

use crate::{
    health::{Contact, Health, Missed, Monitored, NeverReady, Verdict},
    sync::WaitList,
    watch::{
        hub::{Ending, Hub, State},
        links::Link,
    },
};

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
        let is_away = stats.state != WatchState::Active;
        let missed = Missed { through: stats.missed_through, since: stats.behind_since };
        let known = |revision: i64| Some(revision).filter(|&revision| revision > 0);
        Some(
            Health::new(now, verdict, contact)
                .with_away_since(is_away.then_some(stats.behind_since))
                .with_missed((!is_away && missed.through > 0).then_some(missed))
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
            // It was written before the machine could be seen without the watch.
            let (verdict, since) = match self.ending.get().cloned() {
                Some((reason, since)) => (Verdict::Ended(reason.into()), since),
                None => (Verdict::NotReady, now),
            };
            Health::new(now, verdict, Contact::default()).with_away_since(Some(since))
        })
    }

    fn changes(&self) -> Vec<&WaitList> {
        vec![self.hub.monitoring()]
    }
}
