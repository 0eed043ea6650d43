//! Faults that come by themselves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, lock};
use super::etcd::Etcd;
use super::fault::Fault;
use super::host::Host;
use super::link::{Direction, Link};
use super::plan::PlannedFault;

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
    /// A host is suspended, for up to 35 minutes.
    Suspend,
    /// The streams of a connection are reset, or one of them.
    Reset,
    /// A member refuses some calls before it does anything for them.
    RefusedCalls,
    /// A member does what some calls ask for, and their answers are lost.
    LostAnswers,
    /// A member withholds its windows.
    Stall,
    /// A member sends GOAWAY with an error code.
    GoAway,
    /// A member forgets all tokens, or all members do. It never comes to a cluster without
    /// [users](super::Sim::users).
    TokenExpiry,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 19] = [
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
        Self::Reset,
        Self::RefusedCalls,
        Self::LostAnswers,
        Self::Stall,
        Self::GoAway,
        Self::TokenExpiry,
    ];

    /// Whether it lasts for a time.
    pub(super) fn lasts(self) -> bool {
        match self {
            Self::Partition
            | Self::Delay
            | Self::Throttle
            | Self::Refuse
            | Self::Restart
            | Self::Lag
            | Self::LeaderLoss
            | Self::Freeze
            | Self::Suspend
            | Self::Stall => true,
            Self::Cut
            | Self::HalfOpen
            | Self::Drain
            | Self::Compaction
            | Self::Reset
            | Self::RefusedCalls
            | Self::LostAnswers
            | Self::GoAway
            | Self::TokenExpiry => false,
        }
    }

    /// How much of it there is, at random.
    fn value(self, rng: &mut fastrand::Rng) -> u64 {
        match self {
            Self::Cut => between(rng, 1, 20_000),
            Self::Delay => between(rng, 1, 3_000),
            Self::Throttle => between(rng, 100, 1_000_000),
            Self::Compaction => rng.u64(0..20),
            Self::Partition | Self::TokenExpiry => rng.u64(0..4),
            Self::RefusedCalls | Self::LostAnswers => rng.u64(1..4),
            Self::GoAway => code(rng),
            Self::Reset => 100 * rng.u64(0..10) + code(rng),
            Self::HalfOpen
            | Self::Refuse
            | Self::Restart
            | Self::Drain
            | Self::Lag
            | Self::LeaderLoss
            | Self::Freeze
            | Self::Suspend
            | Self::Stall => 0,
        }
    }
}

/// HTTP/2's error codes. `REFUSED_STREAM` is for calls that nothing was done for.
const CODES: [u64; 13] = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13];

/// Which faults come by themselves, and how often. Each is of a random kind, and between a random host and member; how
/// long it lasts is random too, from milliseconds to 16 s.
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
    number: usize,
    source: Source,
    /// What is wrong at the moment, and until when.
    active: Vec<(Duration, Fault)>,
}

/// Where faults come from.
enum Source {
    /// They are drawn.
    Random { kinds: Vec<FaultKind>, every: Duration, rng: fastrand::Rng, next: Duration },
    /// They are given, the last one first.
    Given(Vec<PlannedFault>),
}

impl Storm {
    pub(super) fn new(core: &Arc<Core>, etcd: &Etcd, faults: Faults) -> Self {
        let has_users = !etcd.users().is_empty();
        let kinds = faults.kinds.into_iter().filter(|kind| has_users || *kind != FaultKind::TokenExpiry);
        // Drawn in any case, so that a given plan changes nothing else.
        let rng = core.rng();
        let (number, given) = lock(&core.plan).begin_storm();
        let source = match given {
            Some(given) => Source::Given(given),
            None => Source::Random {
                kinds: kinds.collect(),
                every: faults.every.max(Duration::from_millis(1)),
                rng,
                next: core.now(),
            },
        };
        Self { core: core.clone(), etcd: etcd.clone(), number, source, active: Vec::new() }
    }

    /// Goes on until it is dropped; what it has broken is mended with it.
    pub(super) async fn run(mut self) {
        loop {
            let ends = self.active.iter().map(|(until, _)| *until);
            match ends.chain(self.source.next_at()).min() {
                Some(wake) => tokio::time::sleep_until(self.core.at(wake)).await,
                None => std::future::pending().await,
            }
            let now = self.core.now();
            self.active.retain(|(until, _)| *until > now);
            if self.source.next_at().is_some_and(|next| next <= now)
                && let Some(fault) = self.draw(now)
            {
                self.inject(&fault);
                lock(&self.core.plan).drawn.push(fault);
            }
        }
    }

    /// The fault that is due. Each has random numbers of its own.
    fn draw(&mut self, now: Duration) -> Option<PlannedFault> {
        let (kinds, mut rng) = match &mut self.source {
            Source::Given(given) => return given.pop(),
            Source::Random { kinds, every, rng, next } => {
                let mut rng = rng.fork();
                *next = now + every.mul_f64(2.0 * rng.f64()) + Duration::from_millis(1);
                (kinds, rng)
            }
        };
        let names: Vec<String> = lock(&self.core.hosts).keys().cloned().collect();
        if names.is_empty() || kinds.is_empty() {
            return None;
        }
        let kind = kinds[rng.usize(..kinds.len())];
        let longest = if kind == FaultKind::Suspend { 3_600_000 } else { 30_000 };
        Some(PlannedFault {
            storm: self.number,
            at: now,
            kind,
            host: names[rng.usize(..names.len())].clone(),
            member: rng.usize(..self.etcd.members()),
            lasts: Duration::from_millis(between(&mut rng, 5, longest)),
            value: kind.value(&mut rng),
        })
    }

    fn inject(&mut self, planned: &PlannedFault) {
        let &PlannedFault { kind, ref host, member, lasts, value, .. } = planned;
        // Without the faults before it, a run may take another course.
        if !lock(&self.core.hosts).contains_key(host) {
            return;
        }
        let (machine, link) =
            (Host::named(&self.core, &self.etcd, host), Link::between(&self.core, host, member));
        let small = u32::try_from(value).unwrap_or(u32::MAX);
        let fault = match kind {
            FaultKind::Cut => return link.cut_after(value),
            FaultKind::HalfOpen => return link.forget_connections(),
            FaultKind::Drain => return self.etcd.drain(member),
            FaultKind::Compaction => {
                let behind = i64::try_from(value).unwrap_or(i64::MAX);
                // What is compacted already needn't be compacted again.
                let _ = self.etcd.compact(self.etcd.revision() - behind);
                return;
            }
            FaultKind::Reset => return reset(&link, small),
            FaultKind::RefusedCalls => return link.refuse_calls(small),
            FaultKind::LostAnswers => return link.lose_answers(small),
            FaultKind::GoAway => return self.etcd.go_away(member, small),
            FaultKind::TokenExpiry => return self.etcd.forget_tokens((value > 1).then_some(member)),
            FaultKind::Partition => match value {
                0 => link.hold(Direction::ToMember),
                1 => link.hold(Direction::ToHost),
                _ => link.partition(),
            },
            FaultKind::Delay => link.delay(Duration::from_millis(value)),
            FaultKind::Throttle => link.throttle(value),
            FaultKind::Refuse => link.refuse(),
            FaultKind::Restart => self.etcd.stop(member),
            FaultKind::Lag => self.etcd.lag(member),
            FaultKind::LeaderLoss => self.etcd.lose_leader(),
            FaultKind::Freeze => machine.freeze(),
            FaultKind::Suspend => machine.suspend(),
            FaultKind::Stall => link.stall(),
        };
        self.active.push((self.core.now() + lasts, fault));
    }
}

impl Source {
    fn next_at(&self) -> Option<Duration> {
        match self {
            Self::Random { next, .. } => Some(*next),
            Self::Given(given) => given.last().map(|fault| fault.at),
        }
    }
}

/// The last two digits are the code, those before say which stream; from 5 on, all of them.
fn reset(link: &Link, value: u32) {
    match (value / 100, value % 100) {
        (stream @ 0..5, code) => link.reset_stream(stream as usize, code),
        (_, code) => link.reset_streams(code),
    }
}

fn code(rng: &mut fastrand::Rng) -> u64 {
    CODES[rng.usize(..CODES.len())]
}

/// A random number of a random size: from `least` to about the power of two at or below `most`.
fn between(rng: &mut fastrand::Rng, least: u64, most: u64) -> u64 {
    let bits = rng.u32(least.max(1).ilog2()..=most.ilog2());
    rng.u64(..=(1_u64 << bits)).saturating_add(least).min(most)
}
