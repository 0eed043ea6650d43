//! How a mirror is doing, as those who monitor it see it while its consumer polls it.

use std::{
    error::Error as StdError,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use etcd_watch_core::Instant;

use crate::{
    Endpoint,
    calls::end::End,
    health::{Contact, Health, Monitored, NeverReady, Verdict},
    sync::{WaitList, lock},
    watch::{hub::Hub, monitored::MonitoredWatch},
};

/// What is known of a mirror. The mirror writes it when a list begins or ends, and when its watch comes or goes; what
/// happens to the watch in between is the machine's to tell. It doesn't keep the client running.
pub(crate) struct MirrorRecord {
    hub: Arc<Hub>,
    stage: Mutex<Stage>,
    /// The revision that the fold of what was taken is at; 0 in the middle of a list.
    synced: AtomicI64,
    goal: Goal,
    changes: WaitList,
}

/// The revision that the consumer has to come to before the mirror has caught up. A task that has found it not reached is
/// woken once it is; other events wake nobody.
#[derive(Default)]
struct Goal {
    /// Up to this revision the consumer has dealt with everything; 0 in the middle of a list.
    at: AtomicI64,
    /// The lowest revision that somebody has found not reached; 0 for none.
    wanted: AtomicI64,
}

impl Goal {
    /// Whether the consumer has come to this revision. If not, `came` will say so once it has.
    fn is_reached(&self, revision: i64) -> bool {
        let is_there = || self.at.load(Ordering::SeqCst) >= revision;
        if is_there() {
            return true;
        }
        let lower = |wanted| (wanted == 0 || revision < wanted).then_some(revision);
        let _ = self.wanted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lower);
        // Either this sees what `came` has written, or `came` sees what this has.
        is_there()
    }

    /// The consumer has come to this revision. Whether somebody waits for that.
    fn came(&self, revision: i64) -> bool {
        if self.at.swap(revision, Ordering::SeqCst) == revision {
            return false;
        }
        let wanted = self.wanted.load(Ordering::SeqCst);
        wanted > 0 && revision >= wanted && self.wanted.swap(0, Ordering::SeqCst) > 0
    }
}

#[derive(Clone)]
struct Stage {
    /// Whether what was taken is a state of the store.
    is_synced: bool,
    watch: Option<Watched>,
    /// Since when it doesn't follow the store, while it doesn't for another reason than that its watch has left the
    /// server.
    away: Instant,
    /// Whom lists were read from.
    contact: Contact,
    end: Option<NeverReady>,
}

/// The mirror's watch.
#[derive(Clone)]
struct Watched {
    watch: MonitoredWatch,
    /// Since when it is away if it has never been on a server.
    opened: Option<Instant>,
}

impl MirrorRecord {
    /// Of a mirror that begins; one that resumes is synced.
    pub(crate) fn new(hub: Arc<Hub>, synced: Option<i64>) -> Self {
        let away = hub.now();
        let contact = Contact::default();
        let stage = Stage { is_synced: synced.is_some(), watch: None, away, contact, end: None };
        let synced = AtomicI64::new(synced.unwrap_or(0));
        Self { hub, stage: Mutex::new(stage), synced, goal: Goal::default(), changes: WaitList::default() }
    }

    fn change(&self, change: impl FnOnce(&mut Stage)) {
        let replaced = {
            let mut stage = lock(&self.stage);
            // What it holds is dropped without the lock.
            let before = stage.clone();
            change(&mut stage);
            before
        };
        drop(replaced);
        self.changes.wake_all();
    }

    /// What was handed out is the store at this revision; `None` in the middle of a list.
    pub(crate) fn synced(&self, revision: Option<i64>) {
        let revision = revision.unwrap_or(0);
        let before = self.synced.swap(revision, Ordering::Relaxed);
        if (before == 0) == (revision == 0) {
            return;
        }
        let away = self.away_or_now();
        self.change(|stage| {
            stage.is_synced = revision != 0;
            stage.away = away;
        });
    }

    /// The consumer has dealt with everything up to this revision, or with a part of a list.
    pub(crate) fn digested(&self, revision: Option<i64>) {
        if self.goal.came(revision.unwrap_or(0)) {
            self.changes.wake_all();
        }
    }

    /// It has a watch from now on.
    pub(crate) fn watching(&self, watch: MonitoredWatch) {
        let opened = watch.health().away_since();
        self.change(|stage| {
            stage.watch = Some(Watched { watch, opened });
            // From now on its connection is that of the watch.
            stage.contact.disconnect();
        });
    }

    /// It has no watch any more.
    pub(crate) fn unwatched(&self) {
        let health = self.health();
        let (away, contact) = (self.away_or_now(), health.into_contact());
        self.change(|stage| {
            stage.watch = None;
            stage.away = away;
            stage.contact = contact;
            stage.contact.disconnect();
        });
    }

    /// A page of a list has come from here.
    pub(crate) fn heard(&self, endpoint: Option<&Arc<Endpoint>>) {
        let now = self.hub.now();
        self.change(|stage| {
            if let Some(endpoint) = endpoint {
                stage.contact.connect(endpoint, now);
            }
            stage.contact.hear(now);
        });
    }

    /// A list has failed.
    pub(crate) fn failed(&self, error: Arc<dyn StdError + Send + Sync>) {
        let now = self.hub.now();
        self.change(|stage| {
            let _ = stage.contact.failed(now, error);
            stage.contact.disconnect();
        });
    }

    /// It has ended; what ended it first counts.
    pub(crate) fn end(&self, why: NeverReady) {
        let away = self.away_or_now();
        self.change(|stage| {
            stage.end.get_or_insert(why);
            stage.watch = None;
            stage.away = away;
        });
    }

    fn away_or_now(&self) -> Instant {
        let health = self.health();
        health.away_since().unwrap_or_else(|| health.made_at())
    }
}

impl Monitored for MirrorRecord {
    fn health(&self) -> Health {
        let stage = lock(&self.stage).clone();
        let of_watch = stage.watch.map(|watched| (watched.watch.health(), watched.opened));
        let (now, end) = (self.hub.now(), self.hub.lock().end());
        let follows = of_watch.as_ref().is_some_and(|(health, _)| health.is_ready());
        let missed = of_watch.as_ref().and_then(|(health, _)| health.missed());
        let lacks = missed.filter(|missed| !self.goal.is_reached(missed.through)).map(|missed| missed.since);
        // A watch that has never been on a server, or has not caught up since, has been away for as long as the mirror.
        let watch_left = of_watch.as_ref().and_then(|(health, opened)| {
            health.away_since().or(lacks).filter(|since| opened.is_none_or(|opened| *since > opened))
        });
        let follows = follows && lacks.is_none();
        let away = (!(follows && stage.is_synced)).then(|| watch_left.unwrap_or(stage.away));
        let verdict = match (stage.end, end) {
            (Some(why), _) => Verdict::Ended(why),
            (None, Some(End::Closed)) => Verdict::Ended(NeverReady::ClientClosed),
            (None, Some(End::RuntimeGone)) => Verdict::Ended(NeverReady::RuntimeGone),
            (None, None) if away.is_none() => Verdict::Ready,
            (None, None) => Verdict::NotReady,
        };
        let observed = of_watch.as_ref().and_then(|(health, _)| health.observed_revision());
        let contact = match of_watch {
            Some((health, _)) => health.into_contact().or(stage.contact),
            None => stage.contact,
        };
        let published = Some(self.synced.load(Ordering::Relaxed)).filter(|&revision| revision > 0);
        Health::new(now, verdict, contact)
            .with_away_since(away)
            .with_observed_revision(observed)
            .with_published_revision(published)
    }

    fn changes(&self) -> Vec<&WaitList> {
        vec![&self.changes, self.hub.monitoring()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_goal_that_was_found_not_reached_is_told_once() {
        let goal = Goal::default();
        assert!(!goal.is_reached(5) && !goal.came(4));
        assert!(goal.came(5), "it was asked for");
        assert!(goal.is_reached(5));
        assert!(!goal.came(6) && !goal.came(7), "nobody lacks anything");
    }

    #[test]
    fn of_two_goals_the_lower_one_is_told_first() {
        let goal = Goal::default();
        assert!(!goal.is_reached(5) && !goal.is_reached(9));
        assert!(goal.came(5));
        assert!(!goal.is_reached(9), "who lacks more looks again");
        assert!(goal.came(9));
    }
}
