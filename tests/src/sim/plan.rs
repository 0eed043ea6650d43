//! The faults of a storm, as they were drawn.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::storm::FaultKind;

/// A fault of a storm, as it was drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedFault {
    /// Which of the storms of a run brings it: 0 for the first.
    pub storm: usize,
    /// When it comes, in virtual time.
    pub at: Duration,
    /// What it is.
    pub kind: FaultKind,
    /// The host that it is about, or one end of the link.
    pub host: String,
    /// The member that it is about, or the other end of the link.
    pub member: usize,
    /// How long it lasts, if it is one that does.
    pub lasts: Duration,
    /// How much of it there is: bytes, milliseconds, an error code. The transcript has it in words.
    pub value: u64,
}

impl fmt::Display for PlannedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { storm: _, at, kind, host, member, lasts, value } = self;
        write!(f, "{:>12.6} {kind:?} ({host}, member {member}, value {value}", at.as_secs_f64())?;
        if kind.lasts() { write!(f, ", for {:.3} s)", lasts.as_secs_f64()) } else { f.write_str(")") }
    }
}

/// What the storms of a run bring.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// How many storms there were.
    storms: usize,
    /// What has come.
    pub(super) drawn: Vec<PlannedFault>,
    /// What is to come, in the place of what the storms would draw.
    given: Option<Arc<[PlannedFault]>>,
}

impl Plan {
    pub(super) fn given(faults: &[PlannedFault]) -> Self {
        Self { given: Some(faults.into()), ..Self::default() }
    }

    /// Another storm begins: its number, and what it is to bring, if that is given.
    pub(super) fn begin_storm(&mut self) -> (usize, Option<Vec<PlannedFault>>) {
        let number = self.storms;
        self.storms += 1;
        let of_this = |given: &Arc<[PlannedFault]>| {
            given.iter().filter(|fault| fault.storm == number).cloned().rev().collect()
        };
        (number, self.given.as_ref().map(of_this))
    }
}
