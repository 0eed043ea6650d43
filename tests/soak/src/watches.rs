//! The watches: as many as are wanted, of all classes, by all clients; checked as they go.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use etcd_watch_client::CloseReason;
use fastrand::Rng;

use crate::{
    checking::Progress,
    classes::{Ask, CLASSES},
    clients::NamedClient,
    clock::Clock,
    finding::Finding,
    journal::Journal,
    lags::Lags,
    ledger::Ledger,
    observer::{Name, Observer, Standing, Surroundings, is_lawful},
};

/// How long a watch lives that makes room for another one, at least and at most. Every third lives on.
const LIFETIME: std::ops::Range<u64> = 15..90;

/// The watches of all clients.
pub(crate) struct Watches {
    clients: Vec<NamedClient>,
    observers: Vec<Observer>,
    /// Places without a watch.
    free: Vec<usize>,
    random: Rng,
    opened: u64,
    around: Surroundings,
    journal: Journal,
    pub(crate) lags: Lags,
    counts: Counts,
}

/// What was counted of the watches that are no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Watches opened.
    pub opened: u64,
    /// Events checked.
    pub events: u64,
    /// Previous pairs that were missing because a compaction had taken them.
    pub compacted_pairs: u64,
    /// Previous pairs that were missing because etcd had just created the watch.
    pub early_pairs: u64,
    /// Watches that a compaction ended.
    pub compacted: u64,
    /// Watches that ended because their consumers lagged, and were opened again where they had come to.
    pub lagged: u64,
    /// Watches that ended because their store was restored.
    pub restored: u64,
}

impl Watches {
    pub(crate) fn new(
        clients: Vec<NamedClient>,
        wanted: usize,
        seed: u64,
        around: Surroundings,
        journal: Journal,
        start: Instant,
    ) -> Self {
        Self {
            clients,
            observers: Vec::new(),
            free: (0..wanted).rev().collect(),
            random: Rng::with_seed(seed),
            opened: 0,
            around,
            journal,
            lags: Lags::new(start),
            counts: Counts::default(),
        }
    }

    /// A new store: its clock, and no watches yet.
    pub(crate) fn begin(&mut self, clock: Arc<Clock>) {
        self.around.clock = clock;
        self.clear();
    }

    /// Opens watches where there are none.
    pub(crate) fn fill(&mut self, ledger: &Ledger) -> Result<(), Vec<Finding>> {
        while let Some(slot) = self.free.pop() {
            let class = CLASSES[slot % CLASSES.len()];
            let mut ask = class.ask(&mut self.random);
            if class.is_from_revision {
                let clock = &self.around.clock;
                let oldest = clock.compacted().max(clock.settled()).max(ledger.floor()) + 1;
                let from = self.random.i64(oldest.min(ledger.recorded() + 1)..=ledger.recorded() + 1);
                ask.watched.from = from;
                ask.request = ask.request.start_revision(from);
            }
            self.open(slot, ask)?;
        }
        Ok(())
    }

    fn open(&mut self, slot: usize, ask: Ask) -> Result<(), Vec<Finding>> {
        self.opened += 1;
        self.counts.opened += 1;
        let lifetime = Duration::from_secs(self.random.u64(LIFETIME));
        let retires = (!slot.is_multiple_of(3)).then(|| Instant::now() + lifetime);
        let name = Name { number: self.opened, slot, class: CLASSES[slot % CLASSES.len()], retires };
        let client = &self.clients[(slot + slot / CLASSES.len()) % self.clients.len()];
        let observer =
            Observer::open(name, client, ask, self.around.clone()).map_err(|finding| vec![finding])?;
        self.journal.note(format!("opened {observer}"));
        self.observers.push(observer);
        Ok(())
    }

    /// Checks what all have delivered, as far as the ledger goes, and lets those go that have ended or grown old.
    pub(crate) fn check(&mut self, ledger: &Ledger) -> Result<(), Vec<Finding>> {
        let clock = self.around.clock.clone();
        let now = Instant::now();
        let mut number = 0;
        while let Some(observer) = self.observers.get_mut(number) {
            match observer.check(ledger, &clock, &mut self.lags)? {
                Standing::Open if observer.name.retires.is_none_or(|retires| now < retires) => number += 1,
                Standing::Open => {
                    let observer = self.observers.swap_remove(number);
                    self.remove(observer);
                }
                Standing::Ended(reason) => {
                    let observer = self.observers.swap_remove(number);
                    self.journal.note(format!("{observer} ended: {reason}"));
                    if !is_lawful(&reason, &observer.name.class, clock.compacted()) {
                        return Err(vec![
                            observer.finding(format!("it ended, and had no reason to: {reason}")),
                        ]);
                    }
                    let (slot, rest) = (observer.name.slot, observer.rest());
                    if matches!(reason, CloseReason::Lagged { .. }) {
                        self.counts.lagged += 1;
                        self.remove(observer);
                        self.free.pop();
                        self.open(slot, rest)?;
                    } else {
                        self.counts.compacted += 1;
                        self.remove(observer);
                    }
                }
            }
        }
        Ok(())
    }

    fn remove(&mut self, observer: Observer) {
        self.counts = self.counts.with(observer.progress());
        self.free.push(observer.name.slot);
    }

    /// No history before this revision is needed any more.
    pub(crate) fn next(&self) -> Option<i64> {
        self.observers.iter().map(Observer::next).min()
    }

    /// Those that were open at a moment and have not come to a revision that was written then.
    pub(crate) fn behind(&self, revision: i64, at: Instant) -> Vec<&Observer> {
        let behind = |observer: &&Observer| observer.opened() < at && !observer.is_past(revision);
        self.observers.iter().filter(behind).collect()
    }

    /// Whether all have run, and everything up to a revision has been checked.
    pub(crate) fn are_checked(&self, revision: i64) -> bool {
        self.unchecked(revision).next().is_none()
    }

    /// After a restore: whether all have ended, and for the right reason, or for one that they had before.
    ///
    /// # Errors
    /// If one ended for another reason.
    pub(crate) fn have_ended(&self, is_right: impl Fn(&CloseReason) -> bool) -> Result<bool, Vec<Finding>> {
        let mut all = true;
        for observer in &self.observers {
            match observer.end() {
                Some(reason) if is_right(&reason) => {}
                Some(reason) if is_lawful(&reason, &observer.name.class, self.around.clock.compacted()) => {}
                Some(reason) => {
                    return Err(vec![
                        observer.finding(format!("it ended after a restore, but so: {reason}")),
                    ]);
                }
                None => all = false,
            }
        }
        Ok(all)
    }

    /// Those of which not everything up to a revision is checked.
    pub(crate) fn unchecked(&self, revision: i64) -> impl Iterator<Item = &Observer> {
        self.observers.iter().filter(move |observer| !observer.has_run() || observer.next() <= revision)
    }

    /// Those that have not ended.
    pub(crate) fn open_ones(&self) -> impl Iterator<Item = &Observer> {
        self.observers.iter().filter(|observer| observer.end().is_none())
    }

    /// Lets go of all watches, since their store is gone.
    pub(crate) fn all_restored(&mut self) {
        self.counts.restored += self.observers.len() as u64;
        self.clear();
    }

    /// Lets go of all watches.
    pub(crate) fn clear(&mut self) {
        while let Some(observer) = self.observers.pop() {
            self.remove(observer);
        }
    }

    /// What was counted, of all watches.
    pub(crate) fn counts(&self) -> Counts {
        self.observers.iter().fold(self.counts, |counts, observer| counts.with(observer.progress()))
    }

    /// How many events were delivered.
    pub(crate) fn delivered(&self) -> u64 {
        self.around.delivered.load(Ordering::Relaxed)
    }
}

impl Counts {
    fn with(self, progress: &Progress) -> Self {
        Self {
            events: self.events + progress.events,
            compacted_pairs: self.compacted_pairs + progress.compacted_pairs,
            early_pairs: self.early_pairs + progress.early_pairs,
            ..self
        }
    }
}
