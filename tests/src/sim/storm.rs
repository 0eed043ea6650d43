//! Faults that come by themselves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, lock};
use super::etcd::Etcd;
use super::fault::Fault;
use super::host::Host;
use super::link::{Direction, Link};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FaultKind {
    /// A connection is reset after some bytes.
    Cut,
    /// Connections become half-open.
    HalfOpen,
    /// A host and a member can't hear each other, or one of them can't hear the other.
    Partition,
    /// Everything takes longer.
    Delay,
    /// Only so many bytes come through.
    Throttle,
    /// Connections are refused.
    Refuse,
    /// A member stops, and starts again.
    Restart,
    /// A member sends GOAWAY.
    Drain,
    /// A member applies nothing.
    Lag,
    /// The leader is lost.
    LeaderLoss,
    /// History is compacted, up to the store's revision.
    Compaction,
    /// A host's tasks are starved.
    Freeze,
    /// A host is suspended, for up to an hour.
    Suspend,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::Cut,
        Self::HalfOpen,
        Self::Partition,
        Self::Delay,
        Self::Throttle,
        Self::Refuse,
        Self::Restart,
        Self::Drain,
        Self::Lag,
        Self::LeaderLoss,
        Self::Compaction,
        Self::Freeze,
        Self::Suspend,
    ];
}

/// Which faults come by themselves, and how often. Each is of a random kind, and between a random host and member; how
/// long it lasts is random too, from milliseconds to half a minute.
#[derive(Clone, Debug)]
#[must_use]
pub struct Faults {
    kinds: BTreeSet<FaultKind>,
    every: Duration,
}

impl Faults {
    /// Faults of all kinds.
    pub fn all() -> Self {
        Self::only(FaultKind::ALL)
    }

    /// Faults of these kinds.
    pub fn only(kinds: impl IntoIterator<Item = FaultKind>) -> Self {
        Self { kinds: kinds.into_iter().collect(), every: Duration::from_secs(5) }
    }

    /// No faults of this kind.
    pub fn without(mut self, kind: FaultKind) -> Self {
        self.kinds.remove(&kind);
        self
    }

    /// The mean time between the beginnings of two faults. Default: 5 s.
    pub fn every(mut self, mean: Duration) -> Self {
        self.every = mean;
        self
    }
}

/// Injects faults.
pub(super) struct Storm {
    core: Arc<Core>,
    etcd: Etcd,
    kinds: Vec<FaultKind>,
    every: Duration,
    rng: fastrand::Rng,
    /// What is wrong at the moment, and until when.
    active: Vec<(Duration, Fault)>,
}

impl Storm {
    pub(super) fn new(core: &Arc<Core>, etcd: &Etcd, faults: Faults) -> Self {
        let kinds = faults.kinds.into_iter().collect();
        let (rng, every) = (core.rng(), faults.every.max(Duration::from_millis(1)));
        Self { core: core.clone(), etcd: etcd.clone(), kinds, every, rng, active: Vec::new() }
    }

    /// Goes on until it is dropped; what it has broken is mended with it.
    pub(super) async fn run(mut self) {
        let mut next = self.core.now();
        loop {
            let wake = self.active.iter().map(|(until, _)| *until).chain([next]).min().unwrap_or(next);
            tokio::time::sleep_until(self.core.at(wake)).await;
            let now = self.core.now();
            self.active.retain(|(until, _)| *until > now);
            if next <= now {
                if !self.kinds.is_empty() {
                    let kind = self.kinds[self.rng.usize(..self.kinds.len())];
                    self.inject(kind);
                }
                next = now + self.every.mul_f64(2.0 * self.rng.f64()) + Duration::from_millis(1);
            }
        }
    }

    fn inject(&mut self, kind: FaultKind) {
        let names: Vec<String> = lock(&self.core.hosts).keys().cloned().collect();
        if names.is_empty() {
            return;
        }
        let name = &names[self.rng.usize(..names.len())];
        let member = self.rng.usize(..self.etcd.members());
        let host = Host::named(&self.core, &self.etcd, name);
        let link = Link::between(&self.core, name, member);
        let fault = match kind {
            FaultKind::Cut => return link.cut_after(self.between(1, 20_000)),
            FaultKind::HalfOpen => return link.forget_connections(),
            FaultKind::Drain => return self.etcd.drain(member),
            FaultKind::Compaction => {
                let revision = self.etcd.revision() - self.rng.i64(0..20);
                // What is compacted already needn't be compacted again.
                let _ = self.etcd.compact(revision);
                return;
            }
            FaultKind::Partition => match self.rng.u8(..4) {
                0 => link.hold(Direction::ToMember),
                1 => link.hold(Direction::ToHost),
                _ => link.partition(),
            },
            FaultKind::Delay => link.delay(Duration::from_millis(self.between(1, 3_000))),
            FaultKind::Throttle => link.throttle(self.between(100, 1_000_000)),
            FaultKind::Refuse => link.refuse(),
            FaultKind::Restart => self.etcd.stop(member),
            FaultKind::Lag => self.etcd.lag(member),
            FaultKind::LeaderLoss => self.etcd.lose_leader(),
            FaultKind::Freeze => host.freeze(),
            FaultKind::Suspend => host.suspend(),
        };
        let longest = if kind == FaultKind::Suspend { 3_600_000 } else { 30_000 };
        let until = self.core.now() + Duration::from_millis(self.between(5, longest));
        self.active.push((until, fault));
    }

    /// A random number of a random size.
    fn between(&mut self, least: u64, most: u64) -> u64 {
        let bits = self.rng.u32(least.max(1).ilog2()..=most.ilog2());
        self.rng.u64(..=(1_u64 << bits)).saturating_add(least).min(most)
    }
}
