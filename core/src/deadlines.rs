//! All that the machine waits for, in order of time.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use crate::{
    Instant, StreamId, TimeoutReason,
    key::{GroupId, Purpose},
};

/// Whose a deadline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// A stream's, its connection's included.
    Stream(StreamId),
    /// A group's read.
    Read(GroupId, Purpose),
}

/// When something is due, and why.
pub(crate) type Due = (Instant, TimeoutReason);

/// The next deadline of each owner, in order: the first one is known at any time, and a change costs no more with
/// many owners than with few.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deadlines {
    in_order: BTreeSet<(Instant, TimeoutReason, Owner)>,
    by_owner: BTreeMap<Owner, Due>,
    /// The first of `in_order`, kept so that it can be told without a search.
    first: Option<Due>,
}

impl Deadlines {
    /// The next deadline of all.
    pub(crate) fn first(&self) -> Option<Due> {
        self.first
    }

    /// An owner's next deadline is now this one.
    pub(crate) fn set(&mut self, owner: Owner, due: Option<Due>) {
        let before = self.by_owner.get(&owner).copied();
        if before == due {
            return;
        }
        if let Some((at, reason)) = before {
            self.in_order.remove(&(at, reason, owner));
        }
        match due {
            Some((at, reason)) => {
                self.in_order.insert((at, reason, owner));
                self.by_owner.insert(owner, (at, reason));
            }
            None => {
                self.by_owner.remove(&owner);
            }
        }
        self.first = self.in_order.first().map(|&(at, reason, _)| (at, reason));
    }

    /// The next deadline of an owner.
    pub(crate) fn of(&self, owner: Owner) -> Option<Due> {
        self.by_owner.get(&owner).copied()
    }

    /// The owners of all deadlines that have passed, the earliest first.
    pub(crate) fn passed(&self, now: Instant) -> Vec<Owner> {
        self.in_order.iter().take_while(|&&(at, ..)| at <= now).map(|&(.., owner)| owner).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_deadline_is_told_through_every_change() {
        let at = Instant::from_nanos;
        let [one, two] = [1, 2].map(|number| Owner::Stream(StreamId(number)));
        let mut deadlines = Deadlines::default();
        assert_eq!(deadlines.first(), None);
        deadlines.set(one, Some((at(9), TimeoutReason::Linger)));
        deadlines.set(two, Some((at(5), TimeoutReason::Probe)));
        assert_eq!(deadlines.first(), Some((at(5), TimeoutReason::Probe)));
        deadlines.set(two, Some((at(11), TimeoutReason::Probe)));
        assert_eq!(deadlines.first(), Some((at(9), TimeoutReason::Linger)));
        assert_eq!((deadlines.passed(at(8)), deadlines.passed(at(11))), (Vec::new(), [one, two].into()));
        deadlines.set(one, None);
        assert_eq!(deadlines.passed(at(11)), [two]);
        deadlines.set(two, None);
        assert_eq!((deadlines.first(), deadlines.in_order.len(), deadlines.by_owner.len()), (None, 0, 0));
    }
}
