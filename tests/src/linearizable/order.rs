//! Real time: what had been seen before an operation began.

use std::time::Duration;

use super::history::Operation;

/// The highest revision that anybody had been told of, at every time.
#[derive(Debug)]
pub(super) struct Seen {
    base: i64,
    /// By time: the end of an operation, the highest revision in it or in one before, and whose that is.
    told: Vec<(Duration, i64, usize)>,
}

/// What had been seen by some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Floor {
    pub(super) revision: i64,
    /// The operation that was told of it; `None` for where the history begins.
    pub(super) by: Option<usize>,
}

impl Seen {
    pub(super) fn of(history: &[Operation], base: i64) -> Self {
        let answered = history.iter().enumerate();
        let mut told: Vec<_> = answered
            .filter_map(|(number, operation)| Some((operation.returned?, operation.revision()?, number)))
            .collect();
        told.sort_unstable();
        let (mut highest, mut whose) = (base, None);
        for (_, revision, number) in &mut told {
            if *revision > highest || whose.is_none() {
                (highest, whose) = (highest.max(*revision), Some(*number));
            }
            (*revision, *number) = (highest, whose.unwrap_or(*number));
        }
        Self { base, told }
    }

    /// What had been seen when something began at this time: by operations that had ended before it.
    pub(super) fn before(&self, time: Duration) -> Floor {
        let count = self.told.partition_point(|(returned, ..)| *returned < time);
        match count.checked_sub(1).map(|last| self.told[last]) {
            Some((_, revision, by)) if revision > self.base => Floor { revision, by: Some(by) },
            _ => Floor { revision: self.base, by: None },
        }
    }

    /// When a revision was there for certain: the first time that anybody had been told of it or of a later one.
    pub(super) fn first(&self, revision: i64) -> Option<Duration> {
        let place = self.told.partition_point(|(_, highest, _)| *highest < revision);
        self.told.get(place).map(|(returned, ..)| *returned)
    }
}
