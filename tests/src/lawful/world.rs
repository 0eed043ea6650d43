//! One run of a history: the stores, the network, the clock, and whoever consumes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use etcd_watch_core::{Instant, WatchConfig};

use super::link::Link;
use super::record::{self, Record};
use super::stores::Stores;
use super::{Broken, Change, Coverage, History, Sight, Step};

/// What waits for less than this is waited for, rather than left for a step that lets time pass.
const SOON: Duration = Duration::from_secs(2);

/// The most rounds that it may take to come to rest.
const ROUNDS: usize = 5_000;

/// How often, at the end, to wait for what isn't due in a moment.
const LAST_WAITS: usize = 20;

/// The side of the consumer: what stands between it and the client's machine.
pub(super) trait Side {
    /// Does what its machine says.
    fn settle(&mut self, world: &mut World) -> Result<(), Broken>;
    /// A list that is asked for is answered; false if none is.
    fn answer(&mut self, world: &mut World) -> Result<bool, Broken>;
    /// A list that is asked for fails; false if none is, or if it can't.
    fn refuse(&mut self, world: &mut World) -> bool;
    /// The consumer takes one thing; false if there is none.
    fn take(&mut self, world: &mut World) -> Result<bool, Broken>;
    fn ask_progress(&mut self, world: &mut World);
    fn restart(&mut self, world: &mut World) -> Result<(), Broken>;
    /// The consumer is to crash after so many crash points, or not to.
    fn crash(&mut self, points: Option<u32>);
    fn next_timeout(&self) -> Option<Instant>;
    fn handle_timeout(&mut self, now: Instant);
    /// The highest revision of its store that the consumer has been told of.
    fn seen(&self) -> i64;
    /// The revision that the consumer is at.
    fn reached(&self) -> i64;
    /// Why it is not at the newest revision, as far as can be told; and what is wrong with that.
    fn stalled(&self, world: &World) -> Broken;
    /// It is told to end.
    fn end(&mut self, world: &mut World) -> Result<(), Broken>;
}

/// What a run came to.
pub(super) struct Run {
    pub(super) outcome: Result<(), Broken>,
    pub(super) coverage: Coverage,
    pub(super) transcript: Vec<String>,
}

pub(super) struct World {
    pub(super) now: Instant,
    elapsed: Duration,
    pub(super) stores: Stores,
    pub(super) link: Link,
    pub(super) record: Record,
    pub(super) config: WatchConfig,
    pub(super) history: History,
}

impl World {
    pub(super) fn new(history: &History, is_written: bool) -> Self {
        let plan = history.plan();
        let ms = Duration::from_millis;
        let config = WatchConfig::default()
            .overflow(plan.overflow)
            .buffer_bytes(plan.buffer_bytes)
            .batch_events(plan.batch_events)
            .max_revision_bytes(plan.max_revision_bytes)
            .lag_deadline(ms(1000))
            .backoff(ms(1), ms(10), ms(100));
        let needs_backups = history.steps().iter().any(|step| matches!(step, Step::Restore { .. }));
        Self {
            now: Instant::from_nanos(1),
            elapsed: Duration::ZERO,
            stores: Stores::new(plan, history.keyspace.clone(), needs_backups),
            link: Link::new(config.clone(), plan.seed),
            record: Record::new(is_written),
            config,
            history: history.clone(),
        }
    }

    /// Runs the whole history.
    pub(super) fn run<S: Side>(mut self, side: Result<S, Broken>) -> Run {
        let outcome = side.and_then(|mut side| self.through(&mut side));
        Run { outcome, coverage: self.record.coverage.clone(), transcript: self.record.into_lines() }
    }

    fn through(&mut self, side: &mut impl Side) -> Result<(), Broken> {
        self.settle(side)?;
        for step in std::mem::take(&mut self.history.steps) {
            self.step(side, &step)?;
            self.settle(side)?;
        }
        self.finish(side)
    }

    pub(super) fn settle(&mut self, side: &mut impl Side) -> Result<(), Broken> {
        side.settle(self)?;
        self.link.settle(self.stores.present_mut());
        Ok(())
    }

    fn step(&mut self, side: &mut impl Side, step: &Step) -> Result<(), Broken> {
        match step {
            Step::Write(changes) => {
                let revision = self.stores.write(changes);
                self.note_write(step, revision);
            }
            Step::DeleteAll => {
                let revision = self.stores.delete_all();
                self.note_write(step, revision);
            }
            Step::Lease { key, value, seconds } => {
                let revision = self.stores.lease(*key, *value, *seconds, self.elapsed);
                self.note_write(step, revision);
            }
            Step::Compact { behind } => {
                if let Some(revision) = self.stores.compact(*behind) {
                    self.record.note("store", || format!("compacted up to revision {revision}"));
                }
            }
            Step::Cut => self.cut(),
            Step::Refuse => {
                if side.refuse(self) || self.link.refuse(self.now) {
                    self.record.note("network", || "refuses what was asked for".to_owned());
                }
            }
            Step::Carry(count) => {
                for _ in 0..*count {
                    if !self.carry(side)? && !self.sleep_soon(side)? {
                        break;
                    }
                }
            }
            Step::Take(count) => {
                for _ in 0..*count {
                    if !self.take(side)? {
                        break;
                    }
                }
            }
            Step::Flow => self.flow(side)?,
            Step::Wait { seconds } => {
                self.record.note("time", || format!("{seconds} s pass"));
                self.sleep(side, Duration::from_secs((*seconds).into()))?;
            }
            Step::AskProgress => side.ask_progress(self),
            Step::Restart => side.restart(self)?,
            Step::Crash { points } => side.crash(Some(*points)),
            Step::Replace(changes) => self.replace(changes),
            Step::Restore { back } => self.restore(side.seen(), *back),
        }
        Ok(())
    }

    fn note_write(&mut self, step: &Step, revision: Option<i64>) {
        let Some(revision) = revision else { return };
        let keyspace = &self.history.keyspace;
        self.record.note("store", || format!("{} (revision {revision})", record::write(keyspace, step)));
    }

    fn cut(&mut self) {
        if self.link.cut(self.now, self.stores.present_mut()) {
            self.record.saw(Sight::Cut);
            self.record.note("network", || "the connection breaks".to_owned());
        }
    }

    fn replace(&mut self, changes: &[Change]) {
        self.cut();
        let plan = *self.history.plan();
        self.stores.replace(&plan, changes);
        let now = self.stores.now();
        self.record.note("store", || format!("replaced by another cluster's, at {}", record::contents(&now)));
    }

    fn restore(&mut self, seen: i64, back: i64) {
        self.cut();
        if let Some(revision) = self.stores.restore(seen, back, self.elapsed) {
            self.record.note("store", || format!("restored from a backup of revision {revision}"));
        }
    }

    /// The network carries one thing; false if there is none.
    fn carry(&mut self, side: &mut impl Side) -> Result<bool, Broken> {
        let mut carried = side.answer(self)? || self.link.open(self.now, self.stores.present_mut());
        if !carried && let Some(response) = self.link.carry(self.now, self.stores.present_mut()) {
            carried = true;
            if response.is_fragment {
                self.record.saw(Sight::Fragments);
            }
        }
        self.settle(side)?;
        Ok(carried)
    }

    fn take(&mut self, side: &mut impl Side) -> Result<bool, Broken> {
        let taken = side.take(self)?;
        self.settle(side)?;
        Ok(taken)
    }

    fn sleep(&mut self, side: &mut impl Side, duration: Duration) -> Result<(), Broken> {
        self.elapsed += duration;
        self.now = self.now + duration;
        if let Some(revision) = self.stores.tick(self.elapsed) {
            self.record.saw(Sight::LeaseEnded);
            self.record.note("store", || format!("leases end, and their keys (revision {revision})"));
        }
        self.link.watcher.handle_timeout(self.now);
        side.handle_timeout(self.now);
        self.settle(side)
    }

    /// The client's process is gone, with its connections, and is back.
    pub(super) fn restart_client(&mut self) {
        self.record.saw(Sight::Restarted);
        self.record.note("consumer", || "is started again".to_owned());
        self.link.cut(self.now, self.stores.present_mut());
        self.link = Link::new(self.config.clone(), self.history.plan().seed);
    }

    fn next_timeout(&self, side: &impl Side) -> Option<Duration> {
        let timeouts = [self.link.watcher.poll_timeout(), side.next_timeout()];
        timeouts.into_iter().flatten().min().map(|at| at.since(self.now))
    }

    /// Waits for what is due in a moment; false if nothing is.
    fn sleep_soon(&mut self, side: &mut impl Side) -> Result<bool, Broken> {
        match self.next_timeout(side).filter(|after| *after <= SOON) {
            Some(after) => self.sleep(side, after).map(|()| true),
            None => Ok(false),
        }
    }

    /// Everything works as it should, until nothing more happens in a moment.
    fn flow(&mut self, side: &mut impl Side) -> Result<(), Broken> {
        for _ in 0..ROUNDS {
            let carried = self.carry(side)?;
            let taken = self.take(side)?;
            if !carried && !taken && !self.sleep_soon(side)? {
                return Ok(());
            }
        }
        Err(side.stalled(self))
    }

    /// Nothing fails any more, one more key is put, and the consumer has to come to that.
    fn finish(&mut self, side: &mut impl Side) -> Result<(), Broken> {
        self.record.note("", || "from here on nothing fails".to_owned());
        side.crash(None);
        self.flow(side)?;
        if self.stores.is_noticed() {
            let key = self.history.keyspace.first_in_range();
            self.step(side, &Step::Write(vec![Change::Put { key, value: 0 }]))?;
        }
        let newest = self.stores.present().revision();
        for _ in 0..LAST_WAITS {
            self.flow(side)?;
            if self.stores.is_noticed() && side.reached() >= newest {
                return side.end(self);
            }
            match self.next_timeout(side) {
                Some(after) => self.sleep(side, after)?,
                None => break,
            }
        }
        Err(side.stalled(self))
    }
}

/// Calls the consumer, whose panics are failures like others.
pub(super) fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, Broken> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Broken::Panicked { message: message.unwrap_or_else(|| "with something that is no text".to_owned()) }
    })
}
