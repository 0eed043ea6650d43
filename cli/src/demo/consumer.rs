//! Takes what a watch delivers, and holds it against the store's history as it comes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use etcd_watch_testkit::{
    checks::{Change, Checker, Watched},
    server::EmbeddedEtcd,
};
use etcd_watch_tokio::{ResponseKind, Watch, WatchResponse};
use tokio::{
    sync::watch::Receiver,
    time::{sleep, timeout},
};

use super::{store::revision, watches::Kind};

/// How long a watch may take to catch up once the faults are over.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to ask for progress while catching up.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How far a watch has come, for all to see.
#[derive(Debug, Default)]
pub(super) struct Position {
    events: AtomicU64,
    revision: AtomicI64,
}

impl Position {
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    pub(super) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Relaxed)
    }
}

/// What came of a watch.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) checker: Checker,
    /// Events that came, repeats included.
    pub(super) received: u64,
    /// The revision it started at, and the store's when that was learned.
    pub(super) started: Option<(i64, i64)>,
    /// Everything up to the store's last revision has come, by its own word.
    pub(super) caught_up: bool,
    /// It ended by itself, and why.
    pub(super) ended: Option<String>,
}

/// A watch and whoever reads it.
pub(super) struct Consumer {
    pub(super) watch: Watch,
    pub(super) kind: Kind,
    pub(super) position: Arc<Position>,
    pub(super) etcd: Arc<EmbeddedEtcd>,
    /// The store's last revision, once nothing is written any more.
    pub(super) last: Receiver<Option<i64>>,
}

impl Consumer {
    /// Reads until everything has come, or patience is at its end.
    pub(super) async fn run(mut self) -> Outcome {
        let mut outcome = Outcome {
            checker: Checker::new(self.kind.watched()),
            received: 0,
            started: None,
            caught_up: false,
            ended: None,
        };
        while self.last.borrow().is_none() && outcome.ended.is_none() {
            let mut last = self.last.clone();
            tokio::select! {
                () = self.step(&mut outcome) => {}
                _ = last.wait_for(Option::is_some) => {}
            }
        }
        let Some(last) = *self.last.borrow() else { return outcome };
        self.kind.rest = None;
        // A watch that isn't there by then is reported as what it is: behind.
        let _ = timeout(PATIENCE, self.catch_up(&mut outcome, last)).await;
        outcome
    }

    async fn catch_up(&mut self, outcome: &mut Outcome, last: i64) {
        while outcome.ended.is_none() {
            if self.position.revision() >= last {
                outcome.caught_up = true;
                return;
            }
            tokio::select! {
                () = self.step(outcome) => {}
                () = sleep(ASK_EVERY) => {
                    // A watch that has ended says so itself.
                    self.watch.request_progress();
                }
            }
        }
    }

    /// Takes one response. What has been taken has been kept, wherever this is dropped.
    async fn step(&mut self, outcome: &mut Outcome) {
        match self.watch.next().await {
            Some(Ok(response)) => self.keep(outcome, &response),
            Some(Err(error)) => outcome.ended = Some(error.to_string()),
            None => outcome.ended = Some("it ended without a reason".to_owned()),
        }
        if let Some(rest) = self.kind.rest {
            sleep(rest).await;
        }
    }

    fn keep(&self, outcome: &mut Outcome, response: &WatchResponse) {
        if response.kind() == ResponseKind::Created {
            let from = response.resume_revision();
            if outcome.started.replace((from, revision(&self.etcd))).is_some() {
                outcome.ended = Some("it was told of its creation twice".to_owned());
            } else if self.kind.is_from_now() {
                outcome.checker = Checker::new(Watched { from, ..self.kind.watched() });
            }
        } else {
            let changes = response.events().map(Change::from);
            // Where to resume is a bookmark in all responses.
            let bookmark = Some(response.revision());
            self.etcd.with_model(|model| outcome.checker.response(model.history(), changes, bookmark));
        }
        outcome.received += response.len() as u64;
        self.position.events.fetch_add(response.len() as u64, Ordering::Relaxed);
        self.position.revision.fetch_max(response.revision(), Ordering::Relaxed);
    }
}
