//! All that the machine waits for, in order of time.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use crate::{
    Instant, StreamId, TimeoutReason,
    id_map::IdMap,
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
    of_streams: IdMap<Due>,
    of_reads: BTreeMap<(GroupId, Purpose), Due>,
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
        let before = self.of(owner);
        if before == due {
            return;
        }
        if let Some((at, reason)) = before {
            self.in_order.remove(&(at, reason, owner));
        }
        if let Some((at, reason)) = due {
            self.in_order.insert((at, reason, owner));
        }
        match (owner, due) {
            (Owner::Stream(id), Some(due)) => self.of_streams.insert(id.0.into(), due),
            (Owner::Stream(id), None) => _ = self.of_streams.remove(id.0.into()),
            (Owner::Read(id, purpose), Some(due)) => _ = self.of_reads.insert((id, purpose), due),
            (Owner::Read(id, purpose), None) => _ = self.of_reads.remove(&(id, purpose)),
        }
        self.first = self.in_order.first().map(|&(at, reason, _)| (at, reason));
    }

    /// The next deadline of an owner.
    pub(crate) fn of(&self, owner: Owner) -> Option<Due> {
        match owner {
            Owner::Stream(id) => self.of_streams.get(id.0.into()).copied(),
            Owner::Read(id, purpose) => self.of_reads.get(&(id, purpose)).copied(),
        }
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
        assert_eq!((deadlines.first(), deadlines.in_order.len(), deadlines.of_streams.len()), (None, 0, 0));
    }
}
