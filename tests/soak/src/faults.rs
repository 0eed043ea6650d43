//! The faults, and the order they come in.

use std::{fmt, time::Duration};

use fastrand::Rng;

/// What is done to the cluster, or to the way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A member is killed, and started again after a while.
    Kill,
    /// A member is asked to end, and started again at once.
    Restart,
    /// A member is stopped by a signal, and goes on after a while.
    Freeze,
    /// A member is cut off from the other two, which clients are not.
    Partition,
    /// A member is added as a learner and gets its vote; then one of the four is removed.
    Exchange,
    /// A member is lost with its data and removed, and another one takes its place.
    Replace,
    /// Members are upgraded to the next line, one after the other.
    Upgrade,
    /// Members go back to the line before, one after the other.
    Downgrade,
    /// A member runs for a while with monotonic clocks that are ahead of all others.
    OtherClock,
    /// All connections to a member are reset or closed.
    Cut,
    /// A connection to each member is cut after a number of bytes.
    CutInFrame,
    /// Nothing comes through to a member or from it for a while, and then everything.
    Hold,
    /// Connections to a member are dead, and nobody is told.
    BlackHole,
    /// The way to all members is long for a while.
    Delay,
    /// A member can't be reached for a while.
    Refuse,
    /// A part of all packets to and from a member is lost, or of all members.
    Loss,
    /// History is compacted.
    Compact,
    /// A member's database is defragmented, during which it does nothing else.
    Defragment,
    /// A member's quota is used up: the store takes no puts until it was compacted, defragmented and disarmed.
    NoSpace,
    /// A member's disk is full, of which it dies, until there is space again.
    DiskFull,
    /// All members go back to a snapshot.
    Restore,
}

/// What is hit by a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A member's process, its data or its place among the members.
    Member,
    /// The way from the clients to the members.
    Link,
    /// The store of all members.
    Store,
}

impl Fault {
    /// Every kind there is.
    pub const ALL: [Self; 21] = [
        Self::Kill,
        Self::Restart,
        Self::Freeze,
        Self::Partition,
        Self::Exchange,
        Self::Replace,
        Self::Upgrade,
        Self::Downgrade,
        Self::OtherClock,
        Self::Cut,
        Self::CutInFrame,
        Self::Hold,
        Self::BlackHole,
        Self::Delay,
        Self::Refuse,
        Self::Loss,
        Self::Compact,
        Self::Defragment,
        Self::NoSpace,
        Self::DiskFull,
        Self::Restore,
    ];

    /// What is hit by it.
    #[must_use]
    pub fn target(self) -> Target {
        match self {
            Self::Kill
            | Self::Restart
            | Self::Freeze
            | Self::Partition
            | Self::Exchange
            | Self::Replace
            | Self::Upgrade
            | Self::Downgrade
            | Self::OtherClock
            | Self::Defragment
            | Self::DiskFull => Target::Member,
            Self::Cut
            | Self::CutInFrame
            | Self::Hold
            | Self::BlackHole
            | Self::Delay
            | Self::Refuse
            | Self::Loss => Target::Link,
            Self::Compact | Self::NoSpace | Self::Restore => Target::Store,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill -9",
            Self::Restart => "restart",
            Self::Freeze => "freeze",
            Self::Partition => "partition",
            Self::Exchange => "add and remove",
            Self::Replace => "replace",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::OtherClock => "other clock",
            Self::Cut => "cut",
            Self::CutInFrame => "cut in a frame",
            Self::Hold => "hold",
            Self::BlackHole => "black hole",
            Self::Delay => "delay",
            Self::Refuse => "refuse",
            Self::Loss => "packet loss",
            Self::Compact => "compact",
            Self::Defragment => "defragment",
            Self::NoSpace => "no space",
            Self::DiskFull => "disk full",
            Self::Restore => "restore",
        })
    }
}

/// A fault that was done, and how long it lasted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Its kind.
    pub fault: Fault,
    /// When it began and ended, since the soak began.
    pub from: Duration,
    /// See [`from`](Done::from).
    pub to: Duration,
    /// What it was done to, and how.
    pub what: String,
}

/// The order faults come in: every kind but a restore comes once before any comes again, compactions twice.
#[derive(Debug)]
pub(crate) struct Deck {
    random: Rng,
    kinds: Vec<Fault>,
    cards: Vec<Fault>,
}

impl Deck {
    /// Of these kinds.
    pub(crate) fn new(seed: u64, kinds: impl IntoIterator<Item = Fault>) -> Self {
        let kinds = kinds.into_iter().filter(|&kind| kind != Fault::Restore).collect();
        Self { random: Rng::with_seed(seed), kinds, cards: Vec::new() }
    }

    /// `None` if there are no kinds.
    pub(crate) fn draw(&mut self) -> Option<Fault> {
        if self.cards.is_empty() {
            self.cards.extend(&self.kinds);
            self.cards.extend(self.kinds.iter().filter(|&&kind| kind == Fault::Compact));
            self.random.shuffle(&mut self.cards);
        }
        self.cards.pop()
    }

    pub(crate) fn random(&mut self) -> &mut Rng {
        &mut self.random
    }

    /// A length of time between two.
    pub(crate) fn between(&mut self, (least, most): (Duration, Duration)) -> Duration {
        let micros = self.random.u128(least.as_micros()..=most.as_micros().max(least.as_micros()));
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_but_a_restore_comes_before_any_comes_again() {
        let mut deck = Deck::new(3, Fault::ALL);
        for _ in 0..5 {
            let round: BTreeSet<Fault> = (0..Fault::ALL.len()).filter_map(|_| deck.draw()).collect();
            assert_eq!(round.len(), Fault::ALL.len() - 1);
            assert!(!round.contains(&Fault::Restore));
        }
        assert_eq!(Deck::new(3, [Fault::Restore]).draw(), None);
    }

    #[test]
    fn a_seed_decides_the_order() {
        let order = |seed| {
            let mut deck = Deck::new(seed, Fault::ALL);
            (0..40).map(|_| deck.draw()).collect::<Vec<_>>()
        };
        assert_eq!(order(5), order(5));
        assert_ne!(order(5), order(6));
    }

    #[test]
    fn a_length_of_time_lies_between_its_bounds() {
        let mut deck = Deck::new(1, Fault::ALL);
        let (least, most) = (Duration::from_millis(10), Duration::from_millis(12));
        for _ in 0..100 {
            assert!((least..=most).contains(&deck.between((least, most))));
        }
    }
}
