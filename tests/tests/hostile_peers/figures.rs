//! What a client takes while a peer is hostile, and the most that it may take.

use std::fmt;

use crate::log::Lines;

/// The most that a minute may take, and that may be held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections that are opened to the peer.
    pub(crate) attempts: u64,
    /// Calls and streams that the peer is asked for. Peers that speak HTTP/2 by hand don't count them.
    pub(crate) calls: u64,
    /// Of level info and above.
    pub(crate) lines: u64,
    pub(crate) debug_lines: u64,
    /// How often tasks of the client are polled, in all.
    pub(crate) polls: u64,
    /// Of the peer, the network and the lawful member too.
    pub(crate) bytes: usize,
}

impl Bounds {
    pub(crate) const USUAL: Self =
        Self { attempts: 45, calls: 120, lines: 55, debug_lines: 250, polls: 2_500, bytes: 1 << 20 };
}

/// What a minute took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) attempts: u64,
    pub(crate) calls: u64,
    pub(crate) lines: Lines,
    pub(crate) polls: u64,
    pub(crate) bytes: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempts, calls, lines, polls, bytes } = self;
        write!(f, "{attempts} attempts, {calls} calls, {} lines + {} debug", lines.told, lines.debug)?;
        write!(f, ", {polls} polls, {} KiB", bytes / 1024)
    }
}

impl Figures {
    /// What is over the bounds.
    pub(crate) fn over(&self, bounds: &Bounds) -> Vec<&'static str> {
        let all = [
            ("attempts", self.attempts > bounds.attempts),
            ("calls", self.calls > bounds.calls),
            ("log lines", self.lines.told > bounds.lines),
            ("debug lines", self.lines.debug > bounds.debug_lines),
            ("polls", self.polls > bounds.polls),
            ("bytes", self.bytes > bounds.bytes),
        ];
        all.into_iter().filter_map(|(what, is_over)| is_over.then_some(what)).collect()
    }

    /// The larger one of each figure.
    pub(crate) fn most(&self, other: &Self) -> Self {
        Self {
            attempts: self.attempts.max(other.attempts),
            calls: self.calls.max(other.calls),
            lines: Lines {
                told: self.lines.told.max(other.lines.told),
                debug: self.lines.debug.max(other.lines.debug),
            },
            polls: self.polls.max(other.polls),
            bytes: self.bytes.max(other.bytes),
        }
    }
}
