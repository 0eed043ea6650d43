//! One fault after the other, with a little peace in between.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use etcd_watch_client::{CallError, Client};
use etcd_watch_testkit::{differences::Differences, harness::HarnessError, proxy::Cut};
use tokio::sync::watch;

use crate::{
    clock::Clock,
    error::SoakError,
    faults::{Deck, Done, Fault},
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
    /// How many faults are left until each kind has been used.
    left: usize,
    has_restored: bool,
}

impl Schedule {
    /// The first restore comes when every other kind of fault has been used, and the end not before it.
    pub(crate) fn new(end: Instant, next_restore: Instant) -> Self {
        Self { end, next_restore, left: Deck::ROUND, has_restored: false }
    }

    pub(crate) fn restored(&mut self, next: Instant) {
        self.has_restored = true;
        self.next_restore = next;
    }

    fn is_over(&self, now: Instant) -> Option<Over> {
        if self.left > 0 {
            None
        } else if !self.has_restored {
            Some(Over::Restore)
        } else if now >= self.end {
            Some(Over::End)
        } else {
            (now >= self.next_restore).then_some(Over::Restore)
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
        loop {
            if *stop.borrow() {
                return Ok(Over::End);
            }
            if let Some(over) = schedule.is_over(Instant::now()) {
                return Ok(over);
            }
            let peace = deck.between(self.settings.peace);
            // Whether there was peace or it was told to stop.
            let _ = tokio::time::timeout(peace, stop.wait_for(|&stop| stop)).await.is_ok();
            if !*stop.borrow() {
                let fault = deck.draw();
                self.strike(fault, deck).await?;
                schedule.left = schedule.left.saturating_sub(1);
            }
        }
    }

    /// Does a fault, and makes up for it.
    async fn strike(&self, fault: Fault, deck: &mut Deck) -> Result<(), SoakError> {
        let from = self.journal.elapsed();
        let member = deck.random().usize(..self.world.size());
        let lasts = deck.between(self.settings.fault);
        let what = match fault {
            Fault::Kill | Fault::Restart | Fault::Freeze | Fault::Partition => {
                self.strike_member(fault, member, lasts, deck).await?
            }
            Fault::Defragment => self.defragment(member).await?,
            Fault::Compact | Fault::Restore => self.compact(deck).await,
            _ => self.strike_link(fault, member, lasts, deck).await,
        };
        if let Some(what) = what {
            self.journal.fault(Done { fault, from, to: self.journal.elapsed(), what });
        }
        Ok(())
    }

    async fn strike_member(
        &self,
        fault: Fault,
        member: usize,
        lasts: Duration,
        deck: &mut Deck,
    ) -> Result<Option<String>, SoakError> {
        let world = &self.world;
        match fault {
            Fault::Kill => {
                world.set_down(member, true);
                world.cluster.write().await.member_mut(member).kill();
                self.meanwhile(lasts, deck).await;
                world.cluster.write().await.member_mut(member).restart_async().await?;
            }
            Fault::Restart => {
                world.set_down(member, true);
                // Ends that take too long end in a kill.
                let mut cluster = world.cluster.write().await;
                let stopped = tokio::task::block_in_place(|| cluster.member_mut(member).stop());
                if let Err(error) = stopped {
                    self.journal.note(format!("member {member} was asked to end: {error}"));
                }
                cluster.member_mut(member).restart_async().await?;
            }
            Fault::Freeze => {
                world.set_down(member, true);
                world.cluster.read().await.member(member).pause()?;
                self.meanwhile(lasts, deck).await;
                world.cluster.read().await.member(member).resume()?;
            }
            _ => {
                world.cluster.read().await.partition(&[member]);
                self.meanwhile(lasts, deck).await;
                world.cluster.read().await.heal();
            }
        }
        world.cluster.read().await.member(member).wait_until_healthy().await?;
        world.set_down(member, false);
        Ok(Some(format!("member {member} for {:.1} s", lasts.as_secs_f64())))
    }

    /// A fault goes on; more may come on top of it.
    async fn meanwhile(&self, lasts: Duration, deck: &mut Deck) {
        tokio::time::sleep(lasts / 2).await;
        let fault = match deck.random().u32(..6) {
            0 | 1 => Some(Fault::Cut),
            2 => Some(Fault::Compact),
            _ => None,
        };
        if let Some(fault) = fault {
            let from = self.journal.elapsed();
            let what = match fault {
                Fault::Compact => self.compact(deck).await,
                _ => {
                    let member = deck.random().usize(..self.world.size());
                    self.strike_link(fault, member, Duration::ZERO, deck).await
                }
            };
            if let Some(what) = what {
                self.journal.fault(Done { fault, from, to: self.journal.elapsed(), what });
            }
        }
        tokio::time::sleep(lasts / 2).await;
    }

    async fn strike_link(
        &self,
        fault: Fault,
        member: usize,
        lasts: Duration,
        deck: &mut Deck,
    ) -> Option<String> {
        let link = &self.world.links[member];
        let cut = if deck.random().bool() { Cut::Reset } else { Cut::Close };
        let what = match fault {
            Fault::Cut => {
                let count = link.cut_all(cut);
                return Some(format!("{count} connections to member {member}, by {cut:?}"));
            }
            Fault::CutInFrame => {
                let bytes = deck.random().u64(..50_000);
                self.world.links.iter().for_each(|link| link.cut_next_after_bytes(bytes, cut));
                format!("a connection to each member after {bytes} bytes, by {cut:?}")
            }
            Fault::Hold => {
                link.hold();
                format!("everything to and from member {member}")
            }
            Fault::BlackHole => {
                link.black_hole();
                format!("between the clients and member {member}")
            }
            Fault::Refuse => {
                link.refuse();
                link.cut_all(cut);
                format!("connections to member {member}")
            }
            _ => {
                let delay = Duration::from_millis(deck.random().u64(10..150));
                self.world.links.iter().for_each(|link| link.set_delay(delay));
                format!("{} ms to all members", delay.as_millis())
            }
        };
        tokio::time::sleep(lasts).await;
        self.world.links.iter().for_each(|link| link.restore());
        Some(format!("{what}, for {:.1} s", lasts.as_secs_f64()))
    }

    /// `None` if the store was not asked, or refused.
    async fn compact(&self, deck: &mut Deck) -> Option<String> {
        let (recorded, least) = (self.recorder.recorded(), self.clock.compacted());
        let server = Differences::of(self.world.version);
        // As much as can be, or half of it. Some servers lose a slow watch and don't tell; on them, only history that no
        // watch needs any more is compacted.
        let recorded = if server.loses_slow_watches { self.clock.settled() } else { recorded };
        let wanted = if deck.random().bool() { recorded } else { recorded - (recorded - least).max(0) / 2 };
        let revision =
            if server.loses_deletes { self.recorder.ledger().put_at_or_before(wanted)? } else { wanted };
        if revision <= least {
            return None;
        }
        self.clock.compact(revision);
        match self.direct.compact(revision).await {
            Ok(_) => Some(format!("up to revision {revision} of {recorded}")),
            Err(CallError::MaybeExecuted { .. }) => {
                Some(format!("up to revision {revision} of {recorded}, maybe"))
            }
            Err(error) => {
                self.journal.note(format!("not compacted up to {revision}: {error}"));
                None
            }
        }
    }

    async fn defragment(&self, member: usize) -> Result<Option<String>, SoakError> {
        let etcdctl = self.world.cluster.read().await.member(member).etcdctl()?;
        match etcdctl.run(["defrag"]).await {
            Ok(_) => Ok(Some(format!("member {member}"))),
            // A machine that is busy may make it wait for longer than the program does.
            Err(HarnessError::EtcdctlFailed { output, .. }) => {
                self.journal.note(format!("member {member} was not defragmented: {output}"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
