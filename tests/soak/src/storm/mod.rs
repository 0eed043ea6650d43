//! One fault after the other, with a little peace in between.

pub(crate) mod clocks;
pub(crate) mod disk;
mod history;
mod links;
mod members;
pub(crate) mod packets;
mod space;
pub(crate) mod versions;

use std::{
    collections::BTreeSet,
    fmt::Display,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use etcd_watch_client::Client;
use tokio::sync::watch;

use crate::{
    clock::Clock,
    error::SoakError,
    faults::{Deck, Done, Fault, Target},
    journal::Journal,
    recorder::Recorder,
    settings::Settings,
    world::World,
};

/// What a storm has to do with.
#[derive(Clone)]
pub(crate) struct Storm {
    pub(crate) settings: Arc<Settings>,
    pub(crate) world: Arc<World>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) direct: Client,
    pub(crate) journal: Journal,
}

const INTERVAL: Duration = Duration::from_millis(100);

/// Why a storm is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// It is time for a restore.
    Restore,
    /// Every kind of fault has been used, and time is up; or it was told to end.
    End,
}

/// What goes on from one storm to the next.
#[derive(Debug)]
pub(crate) struct Chance {
    pub(crate) deck: Deck,
    pub(crate) schedule: Schedule,
}

/// When storms are over.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    end: Instant,
    next_restore: Instant,
    /// The kinds that have not been used.
    left: BTreeSet<Fault>,
}

/// How long after its time a run goes on for the sake of kinds that have not been used.
const OVERTIME: Duration = Duration::from_secs(600);

impl Schedule {
    /// The first restore comes when every other kind of fault has been used, and the end not before it.
    pub(crate) fn new(end: Instant, next_restore: Instant, kinds: impl IntoIterator<Item = Fault>) -> Self {
        Self { end, next_restore, left: kinds.into_iter().collect() }
    }

    pub(crate) fn restored(&mut self, next: Instant) {
        self.left.remove(&Fault::Restore);
        self.next_restore = next;
    }

    /// The kinds that have not been used.
    pub(crate) fn left(&self) -> &BTreeSet<Fault> {
        &self.left
    }

    fn is_over(&self, now: Instant, restores: bool) -> Option<Over> {
        if now >= self.end + OVERTIME {
            Some(Over::End)
        } else if self.left.iter().any(|&kind| kind != Fault::Restore) {
            None
        } else if !self.left.is_empty() {
            Some(Over::Restore)
        } else if now >= self.end {
            Some(Over::End)
        } else {
            (restores && now >= self.next_restore).then_some(Over::Restore)
        }
    }
}

impl Storm {
    /// Goes on until it is over; everything is whole then.
    pub(crate) async fn rage(
        self,
        chance: &mut Chance,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Over, SoakError> {
        let Chance { deck, schedule } = chance;
        let restores = self.settings.faults.contains(&Fault::Restore);
        loop {
            if *stop.borrow() {
                return Ok(Over::End);
            }
            if let Some(over) = schedule.is_over(Instant::now(), restores) {
                return Ok(over);
            }
            let peace = deck.between(self.settings.peace);
            // Whether there was peace or it was told to stop.
            let _ = tokio::time::timeout(peace, stop.wait_for(|&stop| stop)).await.is_ok();
            if !*stop.borrow()
                && let Some(fault) = deck.draw()
                && self.strike(fault, deck).await?
            {
                schedule.left.remove(&fault);
            }
        }
    }

    /// Does a fault, and makes up for it; whether it was done.
    async fn strike(&self, fault: Fault, deck: &mut Deck) -> Result<bool, SoakError> {
        let from = self.journal.elapsed();
        let members = self.world.numbers().await;
        let member = members[deck.random().usize(..members.len())];
        let lasts = deck.between(self.settings.fault);
        let what = match fault {
            Fault::Exchange => self.exchange(lasts, deck).await?,
            Fault::Replace => self.replace(member, lasts, deck).await?,
            Fault::Upgrade => self.upgrade(deck).await?,
            Fault::Downgrade => self.downgrade(deck).await?,
            Fault::OtherClock => self.other_clock(member, lasts, deck).await?,
            Fault::Defragment => self.defragment(member).await?,
            Fault::DiskFull => self.fill_disk(member, lasts).await?,
            Fault::NoSpace => self.use_up_space(member, lasts, deck).await?,
            Fault::Loss => self.lose_packets(member, lasts, deck).await?,
            Fault::Compact | Fault::Restore => self.compact(deck).await,
            _ if fault.target() == Target::Link => self.strike_link(fault, member, lasts, deck).await,
            _ => self.strike_member(fault, member, lasts, deck).await?,
        };
        Ok(self.note(fault, from, what))
    }

    /// Writes down what a fault was, if it was done; whether it was.
    fn note(&self, fault: Fault, from: Duration, what: Option<String>) -> bool {
        let done = what.map(|what| Done { fault, from, to: self.journal.elapsed(), what });
        let is_done = done.is_some();
        done.into_iter().for_each(|done| self.journal.fault(done));
        is_done
    }

    /// A fault goes on; more may come on top of it.
    async fn meanwhile(&self, lasts: Duration, deck: &mut Deck) {
        tokio::time::sleep(lasts / 2).await;
        let fault = match deck.random().u32(..6) {
            0 | 1 => Some(Fault::Cut),
            2 => Some(Fault::Compact),
            _ => None,
        };
        if let Some(fault) = fault.filter(|fault| self.settings.faults.contains(fault)) {
            let from = self.journal.elapsed();
            let what = match fault {
                Fault::Compact => self.compact(deck).await,
                _ => {
                    let member = deck.random().usize(..self.world.links.len());
                    self.strike_link(fault, member, Duration::ZERO, deck).await
                }
            };
            self.note(fault, from, what);
        }
        tokio::time::sleep(lasts / 2).await;
    }

    /// Repeats an attempt until it succeeds or `settings.patience` has passed.
    async fn until<T, E: Display, F: Future<Output = Result<T, E>>>(
        &self,
        what: &'static str,
        attempt: impl Fn() -> F,
    ) -> Result<T, SoakError> {
        let end = Instant::now() + self.settings.patience;
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(last) if Instant::now() >= end => {
                    return Err(SoakError::Waited { what, last: last.to_string() });
                }
                Err(_) => tokio::time::sleep(INTERVAL).await,
            }
        }
    }
}

/// Runs a command to its end, which has to be a good one.
fn run(command: &mut Command) -> Result<(), SoakError> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(SoakError::io(format!("run {shown}")))?;
    if output.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(SoakError::Command { command: shown, output })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_over_when_its_time_is_and_every_kind_has_been_used_but_not_for_ever() {
        let now = Instant::now();
        let (end, later) = (now + Duration::from_secs(10), now + Duration::from_secs(11));
        let mut schedule = Schedule::new(end, end + OVERTIME, [Fault::Cut, Fault::Restore]);
        assert_eq!((schedule.is_over(now, true), schedule.is_over(later, true)), (None, None));
        assert_eq!(schedule.is_over(end + OVERTIME, true), Some(Over::End));
        schedule.left.remove(&Fault::Cut);
        assert_eq!(schedule.is_over(now, true), Some(Over::Restore));
        schedule.restored(now);
        assert_eq!(schedule.is_over(now, true), Some(Over::Restore));
        schedule.restored(end + OVERTIME);
        assert_eq!((schedule.is_over(now, true), schedule.is_over(later, true)), (None, Some(Over::End)));
        assert!(schedule.left().is_empty());
        assert_eq!(Schedule::new(end, now, [Fault::Cut]).left().len(), 1);
        assert_eq!(Schedule::new(end, now, []).is_over(now, false), None, "no restores");
    }
}
