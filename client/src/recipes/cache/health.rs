//! How a cache is doing.

use std::{sync::Arc, time::Duration};

use super::{Cache, error::CacheError, shared::CacheStatus, shared::Shared};
use crate::{
    BoxFuture, Health, Monitor, NeverReady, Verdict, WatchError, toolkit::Monitored, toolkit::WaitList,
};

impl<P: Send + Sync + 'static> Cache<P> {
    /// How it is doing: [`Health`] says what that means. It is ready from its first state on, unless it has been away
    /// for longer than [`unready_after`](super::CacheRequest::unready_after).
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared().health()
    }

    /// A handle to wait for changes of [`health`](Self::health).
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor::new(self.alive.0.clone())
    }
}

impl<P: Send + Sync + 'static> Monitored for Shared<P> {
    fn health(&self) -> Health {
        self.judged()
    }

    fn changes(&self) -> Vec<&WaitList> {
        let mut changes = self.mirror.source().changes();
        changes.push(&self.monitoring);
        changes
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.runtime.sleep(duration)
    }
}

impl<P> Shared<P> {
    /// The mirror's health, with a verdict of the cache's own.
    pub(super) fn judged(&self) -> Health {
        let (revision, is_listed, end) = {
            let published = self.read();
            let end = match &published.status {
                CacheStatus::Ended(error) => Some(never_ready(error)),
                _ => None,
            };
            (published.snapshot.revision(), published.state > 0, end)
        };
        let health = self.mirror.health();
        let turns_at = self.unready_after.zip(health.away_since()).map(|(limit, since)| since + limit);
        let is_over = turns_at.is_some_and(|at| at <= health.made_at());
        let verdict = match end {
            Some(why) => Verdict::Ended(why),
            // The cache's task will hear of it.
            None if ends_with_client(health.verdict()) => health.verdict().clone(),
            None if is_listed && !is_over => Verdict::Ready,
            None => Verdict::NotReady,
        };
        let turns_at = turns_at.filter(|_| matches!(verdict, Verdict::Ready));
        health
            .with_verdict(verdict)
            .with_published_revision(Some(revision).filter(|&revision| revision > 0))
            .turning_at(turns_at)
    }
}

fn ends_with_client(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Ended(NeverReady::ClientClosed | NeverReady::RuntimeGone))
}

/// What the end of a cache means for those who wait for it.
fn never_ready(error: &CacheError) -> NeverReady {
    match error {
        CacheError::Closed => NeverReady::Closed,
        CacheError::Ended(ended) => match NeverReady::from(WatchError::reason(ended).clone()) {
            NeverReady::Ended(_) | NeverReady::Closed => NeverReady::Ended(Arc::new(error.clone())),
            of_client => of_client,
        },
        error => NeverReady::Ended(Arc::new(error.clone())),
    }
}
