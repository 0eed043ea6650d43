//! A watch that is consumed in the background, and what it has delivered since the last look.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use etcd_watch_client::{CloseReason, Overflow, ResponseKind, Watch, WatchRequest};
use etcd_watch_testkit::checks::{Received, Violation};
use fastrand::Rng;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    checking::{Arrived, Progress},
    classes::{Ask, Class, Pace},
    clients::NamedClient,
    clock::Clock,
    finding::Finding,
    lags::Lags,
    ledger::{Ledger, revision_of},
    sabotage::Saboteur,
};

/// A watch that is consumed in the background.
pub(crate) struct Observer {
    pub(crate) name: Name,
    client: &'static str,
    request: WatchRequest,
    progress: Progress,
    /// What was acknowledged when it was opened; a watch from now on begins behind it.
    after: i64,
    opened: Instant,
    log: Arc<Log>,
    consuming: JoinHandle<()>,
}

/// Which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) number: u64,
    /// Decides client and class: when one ends, another one takes its place.
    pub(crate) slot: usize,
    pub(crate) class: Class,
    /// When it is to make room for another one.
    pub(crate) retires: Option<Instant>,
}

/// What all observers share.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) clock: Arc<Clock>,
    pub(crate) saboteur: Saboteur,
    /// While it is set, no consumer rests.
    pub(crate) hurry: watch::Receiver<bool>,
    /// How many events were delivered.
    pub(crate) delivered: Arc<AtomicU64>,
}

#[derive(Default)]
struct Log(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// The first revision that it is to see.
    created: Option<i64>,
    creations: u32,
    /// The last revision that came, or up to which nothing is to come any more.
    reached: i64,
    arrived: VecDeque<Arrived>,
    end: Option<CloseReason>,
}

/// What an observer has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It goes on.
    Open,
    /// It has ended, and everything that it delivered is checked.
    Ended(CloseReason),
}

impl Observer {
    /// Opens a watch and consumes it; without a start in `ask` it is from now on.
    ///
    /// # Errors
    /// If the client refuses it, which is a finding.
    pub(crate) fn open(
        name: Name,
        client: &NamedClient,
        ask: Ask,
        around: Surroundings,
    ) -> Result<Self, Finding> {
        let (after, opened) = (around.clock.newest(), Instant::now());
        let Ask { request, watched } = ask;
        let watch = client.client.watch(request.clone()).map_err(|error| Finding {
            who: format!("a watch of {} ({})", client.name, name.class.name),
            what: format!("it was refused: {error}"),
            details: Vec::new(),
        })?;
        let log = Arc::new(Log::default());
        let random = Rng::with_seed(name.number);
        let consuming = tokio::spawn(consume(watch, name.class.pace, log.clone(), around, random));
        let (client, progress) = (client.name, Progress::new(watched));
        Ok(Self { name, client, request, progress, after, opened, log, consuming })
    }

    /// Checks what has been delivered, as far as the ledger goes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check(
        &mut self,
        ledger: &Ledger,
        clock: &Clock,
        lags: &mut Lags,
    ) -> Result<Standing, Vec<Finding>> {
        let (created, creations, arrived, end) = {
            let mut log = self.log.lock();
            let is_recorded =
                |one: &Arrived| one.received.bookmark.is_some_and(|bookmark| bookmark <= ledger.recorded());
            let count = log.arrived.iter().take_while(|one| is_recorded(one)).count();
            let arrived: Vec<Arrived> = log.arrived.drain(..count).collect();
            let is_all = log.arrived.is_empty();
            let is_known =
                |end: &CloseReason| claimed_by(end).is_none_or(|claimed| claimed <= ledger.recorded());
            let end = log.end.clone().filter(|end| is_all && is_known(end));
            (log.created, log.creations, arrived, end)
        };
        if creations > 1 {
            return Err(vec![self.finding(format!("`Created` came {creations} times"))]);
        }
        if let Some(from) = created.filter(|_| self.has_not_begun()) {
            let begun = self.progress.begins_after(self.after, from);
            begun.map_err(|broken| self.broken(vec![broken], &[], ledger))?;
        }
        if self.has_not_begun() && !arrived.is_empty() {
            return Err(vec![self.finding("it delivers what it was not created for yet")]);
        }
        let delivered = arrived.last().and_then(|last| last.received.bookmark);
        let claimed = end.as_ref().and_then(claimed_by);
        if let Some(through) = delivered.max(claimed).filter(|_| self.progress.watched.from > 0) {
            self.measure(&arrived, clock, lags);
            let shown = arrived.clone();
            let checked = self.progress.check(ledger, arrived, through);
            checked.map_err(|broken| self.broken(broken, &shown, ledger))?;
        }
        Ok(end.map_or(Standing::Open, Standing::Ended))
    }

    fn has_not_begun(&self) -> bool {
        self.progress.watched.from == 0
    }

    /// Only what was acknowledged after the watch was opened: what came before is history.
    fn measure(&self, arrived: &[Arrived], clock: &Clock, lags: &mut Lags) {
        for one in arrived {
            let mut last = 0;
            for event in &one.received.events {
                let revision = revision_of(event);
                if revision != last
                    && let Some(acknowledged) = clock.acknowledged(revision).filter(|&at| at >= self.opened)
                {
                    let lag = one.at.saturating_duration_since(acknowledged);
                    lags.add(self.name.class.name, self.name.class.pace == Pace::Eager, lag, one.at);
                }
                last = revision;
            }
        }
    }

    /// The first revision that has not been checked; of a watch that has not begun, one that it can't begin before.
    pub(crate) fn next(&self) -> i64 {
        let from = self.progress.watched.from;
        if from > 0 { from } else { self.after + 1 }
    }

    /// What another watch has to ask for to go on where this one has ended.
    pub(crate) fn rest(&self) -> Ask {
        let watched = self.progress.watched.clone();
        // So far the store was: without that, one that goes back before the watch has seen anything is waited for.
        let request = self.request.clone().start_revision(watched.from).known_store(0, watched.from - 1);
        Ask { request, watched }
    }

    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// What was checked.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether it has run on a server: only then it knows which store it is of.
    pub(crate) fn has_run(&self) -> bool {
        self.log.lock().created.is_some()
    }

    /// Whether it has come to a revision, or has ended.
    pub(crate) fn is_past(&self, revision: i64) -> bool {
        let log = self.log.lock();
        log.reached >= revision || log.end.is_some()
    }

    /// Whether it has ended, checked or not.
    pub(crate) fn end(&self) -> Option<CloseReason> {
        self.log.lock().end.clone()
    }

    pub(crate) fn finding(&self, what: impl Into<String>) -> Finding {
        Finding { who: self.to_string(), what: what.into(), details: Vec::new() }
    }

    fn broken(&self, broken: Vec<Violation>, arrived: &[Arrived], ledger: &Ledger) -> Vec<Finding> {
        let finding = |violation: &Violation| {
            let (from, through) = (violation.revision - 2, violation.revision + 2);
            let mut details: Vec<String> =
                ledger.around(from, through).iter().map(|event| format!("the store's: {event:?}")).collect();
            let events = arrived.iter().flat_map(|one| &one.received.events);
            let near = events.filter(|event| (from..=through).contains(&revision_of(event)));
            details.extend(near.map(|event| format!("delivered: {event:?}")));
            Finding { details, ..self.finding(violation.to_string()) }
        };
        broken.iter().map(finding).collect()
    }
}

impl fmt::Display for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = String::from_utf8_lossy(&self.progress.watched.key);
        let from = self.progress.watched.from;
        let (number, class) = (self.name.number, self.name.class.name);
        write!(f, "watch {number} of {} ({class}, {key}, checked up to {})", self.client, from - 1)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.consuming.abort();
    }
}

/// Some reasons say up to which revision everything was delivered.
fn claimed_by(end: &CloseReason) -> Option<i64> {
    match end {
        CloseReason::Compacted { next_revision, .. } | CloseReason::Lagged { next_revision, .. } => {
            Some(next_revision - 1)
        }
        _ => None,
    }
}

/// Whether a watch may end so while its store stays what it is: by a compaction that was asked for, or because its
/// consumer lagged and it was to end then.
pub(crate) fn is_lawful(end: &CloseReason, class: &Class, compacted: i64) -> bool {
    match end {
        CloseReason::Compacted { compact_revision, next_revision } => {
            next_revision < compact_revision && *compact_revision <= compacted
        }
        CloseReason::Lagged { .. } => class.overflow == Overflow::Fail,
        _ => false,
    }
}

async fn consume(mut watch: Watch, pace: Pace, log: Arc<Log>, mut around: Surroundings, mut random: Rng) {
    loop {
        let response = match watch.next().await {
            Some(Ok(response)) => response,
            Some(Err(error)) => {
                log.lock().end = Some(error.into_reason());
                return;
            }
            None => {
                log.lock().end = Some(CloseReason::Cancelled);
                return;
            }
        };
        let mut received = Received::from(&response);
        around.delivered.fetch_add(received.events.len() as u64, Ordering::Relaxed);
        around.saboteur.meddle(&mut received);
        let creations = watch.stats().map_or(u64::MAX, |stats| u64::from(stats.recreates) + 1);
        {
            let mut log = log.lock();
            if response.kind() == ResponseKind::Created {
                log.creations += 1;
                log.created = Some(response.resume_revision());
            }
            log.reached = log.reached.max(response.revision());
            let (at, compacted) = (Instant::now(), around.clock.compacted());
            log.arrived.push_back(Arrived { received, at, compacted, creations });
        }
        drop(response);
        let rest = pace.rest(&mut random);
        if !rest.is_zero() {
            let hurry = around.hurry.wait_for(|&hurry| hurry);
            // Whether it has rested or was hurried.
            let _ = tokio::time::timeout(rest, hurry).await.is_ok();
        }
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
