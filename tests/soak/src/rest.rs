//! What happens between storms: everything comes to rest and is compared, stores go back, and in the end nothing is
//! left behind.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use etcd_watch_client::{CallError, CloseReason};
use etcd_watch_testkit::harness::RestoreAs;
use tokio::sync::OwnedRwLockWriteGuard;

use crate::{
    clock::Clock,
    error::SoakError,
    faults::{Done, Fault},
    finding::Finding,
    recorder::read_any,
    soak::{Epoch, Soak, Stop},
    writers::write_mark,
};

/// Nobody writes while it is held.
pub(crate) type Peace = OwnedRwLockWriteGuard<Arc<Clock>>;

const INTERVAL: Duration = Duration::from_millis(20);
/// How much a store has to have gone on after its snapshot, in revisions: keys that go with their leases are not to
/// take it there again before anybody looks.
const GOES_BACK: i64 = 100;

impl Soak {
    /// No more writes but a mark; waits until everything has come to it, and compares all copies with the store.
    pub(crate) async fn come_to_rest(&mut self, epoch: &Epoch) -> Result<Peace, Stop> {
        let peace = self.gate.clone().write_owned().await;
        let _ = self.hurry.send_replace(true);
        let mark = self.mark(epoch).await?;
        self.journal.note(format!("everything comes to rest at the mark {mark}"));
        let end = Instant::now() + self.settings.patience;
        while !self.watches.are_checked(mark) {
            self.look(epoch).await?;
            if Instant::now() >= end {
                let recorded = epoch.recorder.recorded();
                if recorded < mark {
                    let what = format!("it has come to {recorded}, not to the last mark, at {mark}");
                    return Err(Finding::of("the recorder", what).into());
                }
                let what =
                    format!("it has not come to the last mark, at {mark}, or can't be checked up to there");
                let late = self.watches.unchecked(mark).map(|one| one.finding(what.clone()));
                return Err(late.collect::<Vec<_>>().into());
            }
            tokio::time::sleep(INTERVAL).await;
        }
        self.compare_with_the_store(epoch).await?;
        self.check_calls(epoch)?;
        Ok(peace)
    }

    /// Holds the calls that were written down against what was recorded.
    fn check_calls(&mut self, epoch: &Epoch) -> Result<(), Stop> {
        if let Some(callers) = &self.callers {
            self.calls += callers.check(&epoch.recorder.calls(), self.world.version)?;
        }
        Ok(())
    }

    /// A last write that every watch sees.
    async fn mark(&self, epoch: &Epoch) -> Result<i64, Stop> {
        let end = Instant::now() + self.settings.patience;
        loop {
            match write_mark(&self.direct, &epoch.clock).await {
                Ok(revision) => return Ok(revision),
                Err(source) if Instant::now() >= end => {
                    return Err(SoakError::Call { action: "write the last mark", source }.into());
                }
                Err(_) => tokio::time::sleep(INTERVAL).await,
            }
        }
    }

    /// Waits until every replica, and the ledger, is what a member tells now, key by key.
    async fn compare_with_the_store(&self, epoch: &Epoch) -> Result<(), Stop> {
        self.wait_for_the_store(|revision, state| {
            let is_same = epoch.recorder.ledger().state_at(revision).is_some_and(|known| known == *state);
            let what = || format!("what was recorded is not the store at revision {revision}");
            if is_same { Ok(()) } else { Err(Finding::of("the recorder", what())) }
        })
        .await
    }

    /// Waits until every replica is what a member tells now, and something else holds of it; what doesn't hold is a
    /// finding when patience is at its end.
    async fn wait_for_the_store(
        &self,
        also: impl Fn(i64, &crate::ledger::State) -> Result<(), Finding>,
    ) -> Result<(), Stop> {
        let end = Instant::now() + self.settings.patience;
        loop {
            let (revision, state) = read_any(&self.world.endpoints).await?;
            let mut differs = also(revision, &state).err();
            for replica in &self.replicas {
                differs = differs.or(match replica.sample()? {
                    Some(sample) => replica.compare(&sample, &state).err(),
                    None => Some(replica.finding("it lists its keys, and comes to no end")),
                });
            }
            match differs {
                None => return Ok(()),
                Some(finding) if Instant::now() >= end => return Err(finding.into()),
                Some(_) => tokio::time::sleep(INTERVAL).await,
            }
        }
    }

    /// Saves the store, and waits until it has gone on from there.
    pub(crate) async fn save(&self, epoch: &Epoch) -> Result<PathBuf, Stop> {
        let path = self.journal.path(&format!("snapshot-{}.db", self.restores));
        self.world.save(&path).await?;
        let saved = epoch.clock.newest();
        let end = Instant::now() + self.settings.patience;
        while epoch.clock.newest() < saved + GOES_BACK {
            if Instant::now() >= end {
                let source = CallError::Timeout { method: "Put", after: self.settings.patience, last: None };
                return Err(SoakError::Call { action: "write after a snapshot", source }.into());
            }
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(path)
    }

    /// Lets the store go back, in turn as another cluster and as the same: every watch has to end and say which it
    /// was, every copy has to be the store again.
    pub(crate) async fn restore(&mut self, snapshot: &Path, epoch: Epoch) -> Result<(), Stop> {
        let identity =
            if self.restores.is_multiple_of(2) { RestoreAs::AnotherCluster } else { RestoreAs::SameCluster };
        let from = self.journal.elapsed();
        let newest = epoch.recorder.recorded();
        // It would try to go on where the store has never been.
        drop(epoch);
        self.world.restore(snapshot, identity).await?;
        self.restores += 1;
        // A snapshot is of no more use.
        let _ = std::fs::remove_file(snapshot);
        let is_right = |reason: &CloseReason| match identity {
            RestoreAs::AnotherCluster => matches!(reason, CloseReason::StoreChanged { .. }),
            RestoreAs::SameCluster => matches!(reason, CloseReason::StoreRegressed { .. }),
        };
        let end = Instant::now() + self.settings.patience;
        while !self.watches.have_ended(is_right)? {
            if Instant::now() >= end {
                let open = self.watches.open_ones();
                let what = "its store has gone back, and it has not ended";
                return Err(open.map(|one| one.finding(what)).collect::<Vec<_>>().into());
            }
            tokio::time::sleep(INTERVAL).await;
        }
        self.watches.all_restored();
        let restores = self.restores;
        self.wait_for_the_store(|_, _| Ok(())).await?;
        if let Some(one) =
            self.replicas.iter().find(|one| one.other_stores().is_some_and(|count| count < restores))
        {
            return Err(one.finding("it was not told that the store went back").into());
        }
        let (revision, _) = read_any(&self.world.endpoints).await?;
        let what = format!("from revision {newest} to {revision}, {identity:?}");
        self.journal.fault(Done { fault: Fault::Restore, from, to: self.journal.elapsed(), what });
        Ok(())
    }

    /// How often replicas listed their keys again.
    pub(crate) fn replicas_lists(&self) -> u64 {
        self.lists + self.replicas.iter().map(|replica| replica.lists()).sum::<u64>()
    }

    /// Lets go of everything, and waits until neither clients nor members hold anything.
    pub(crate) async fn leave_nothing_behind(&mut self) -> Result<(), Stop> {
        self.watches.clear();
        self.lists = self.replicas_lists();
        self.replicas.clear();
        let end = Instant::now() + self.settings.patience;
        loop {
            let held = self.held();
            self.sample();
            if held.is_empty() {
                break;
            }
            if Instant::now() >= end {
                return Err(held.into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        for client in &self.clients {
            client.client.close().await;
        }
        Ok(())
    }

    /// What is held though nobody watches any more.
    fn held(&self) -> Vec<Finding> {
        let mut held = Vec::new();
        for client in &self.clients {
            let stats = client.client.stats();
            let (watches, streams, bytes) = (stats.watches, stats.streams, stats.queued_bytes);
            if (watches, streams, bytes) != (0, 0, 0) {
                let what =
                    format!("it holds {watches} watches, {streams} streams and {bytes} bytes for nobody");
                held.push(Finding::of(client.name, what));
            }
        }
        match self.world.server_watchers() {
            Some(0) => {}
            Some(count) => {
                held.push(Finding::of("the cluster", format!("it holds {count} watches of nobody")))
            }
            None => held.push(Finding::of("the cluster", "it does not tell how many watches it holds")),
        }
        held
    }
}
