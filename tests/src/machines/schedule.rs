//! Virtual time: what happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::net::LinkId;

/// Something that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wake {
    /// A client's attempt to open a stream has come to an end.
    Opened(LinkId),
    /// Something has come over a link.
    Link(LinkId),
    /// A client would notice by now that a link is dead.
    Keepalive(LinkId),
    /// A member notices that the client of a stream is gone.
    ServerGone(LinkId),
    /// A machine's timeout.
    Client(usize),
    /// A mirror's timeout, or its consumer's turn.
    Mirror(usize),
    /// A consumer's turn.
    Consumer(usize),
    /// A consumer comes back.
    Return(usize),
    /// A member's own timeout.
    Member(usize),
    /// A member learns of writes.
    Apply(usize),
    /// A member starts again.
    Start(usize),
    /// A member's streams notice that it has no leader.
    Leaderless(usize),
    /// A call arrives, waits, or is answered.
    Call(usize),
}

/// What is due, earliest first; in the order it was put there among equals.
#[derive(Clone, Debug, Default)]
pub(super) struct Schedule {
    heap: BinaryHeap<Reverse<(Duration, u64, Wake)>>,
    next: u64,
}

impl Schedule {
    pub(super) fn at(&mut self, at: Duration, wake: Wake) {
        self.next += 1;
        self.heap.push(Reverse((at, self.next, wake)));
    }

    pub(super) fn next_at(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn pop(&mut self) -> Option<(Duration, Wake)> {
        self.heap.pop().map(|Reverse((at, _, wake))| (at, wake))
    }
}

/// A turn that someone waits for, asked for as often as one likes: only the earliest counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn(Option<Duration>);

impl Turn {
    /// Whether this is earlier than what is waited for already, and so has to be put on the schedule.
    pub(super) fn ask(&mut self, at: Duration) -> bool {
        let is_earlier = self.0.is_none_or(|waits| at < waits);
        if is_earlier {
            self.0 = Some(at);
        }
        is_earlier
    }

    /// Whether a turn that has come is the one that was waited for.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let is_it = self.0 == Some(now);
        if is_it {
            self.0 = None;
        }
        is_it
    }
}
