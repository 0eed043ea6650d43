//! How much was compared, so that a run that compared nothing is noticed.

use std::{fmt, ops::AddAssign};

/// How much was compared. What both sides said counts once.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) scripts: usize,
    pub(crate) steps: usize,
    pub(crate) calls: usize,
    pub(crate) comparisons: usize,
    pub(crate) created: usize,
    pub(crate) refused: usize,
    pub(crate) cancelled: usize,
    pub(crate) compacted: usize,
    pub(crate) events: usize,
    /// Batches of which the limits were compared too.
    pub(crate) exact_batches: usize,
    /// Parts of batches, besides the first of each.
    pub(crate) parts: usize,
    pub(crate) progress_replies: usize,
    pub(crate) notifications: usize,
    /// Cancels that overtook events on one side and not on the other.
    pub(crate) cut: usize,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, more: Self) {
        self.scripts += more.scripts;
        self.steps += more.steps;
        self.calls += more.calls;
        self.comparisons += more.comparisons;
        self.created += more.created;
        self.refused += more.refused;
        self.cancelled += more.cancelled;
        self.compacted += more.compacted;
        self.events += more.events;
        self.exact_batches += more.exact_batches;
        self.parts += more.parts;
        self.progress_replies += more.progress_replies;
        self.notifications += more.notifications;
        self.cut += more.cut;
    }
}

impl Figures {
    /// What should have been compared and wasn't.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let all = [
            ("refused creates", self.refused),
            ("cancelled watches", self.cancelled),
            ("watches ended by compaction", self.compacted),
            ("batches compared exactly", self.exact_batches),
            ("fragments", self.parts),
            ("answers to progress requests", self.progress_replies),
            ("progress notifications", self.notifications),
        ];
        all.into_iter().filter(|(_, count)| *count == 0).map(|(what, _)| what).collect()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scripts, steps, calls, comparisons, created, refused, cancelled, compacted, .. } = self;
        let Self { events, exact_batches, parts, progress_replies, notifications, cut, .. } = self;
        write!(
            f,
            "{scripts} scripts of {steps} steps, {calls} calls, {comparisons} comparisons; {created} watches \
             created, {refused} refused, {cancelled} cancelled, {compacted} ended by compaction; {events} events, \
             {exact_batches} batches compared exactly, {parts} further fragments; {progress_replies} progress \
             replies, {notifications} notifications, {cut} cancels raced with events"
        )
    }
}
