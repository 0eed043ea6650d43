//! What is told of a run.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// What happened in a run that ended well, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// How many runs this is of.
    pub runs: u64,
    /// Virtual time.
    pub virtual_time: Duration,
    /// How long clients lived, by the clocks of their hosts: two clients in a run of an hour have two hours, but for the
    /// time for which a host was suspended.
    pub client_time: Duration,
    /// Real time.
    pub wall_time: Duration,
    /// What was counted.
    pub counts: Counts,
    /// A number that follows from every line of the transcript and every byte on the network, with their virtual times:
    /// two runs with the same one were the same. Of several runs, the sum of theirs, in whatever order they ran.
    pub hash: u64,
}

/// What was counted in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections that were made.
    pub connections: u64,
    /// Pieces in which bytes were sent.
    pub chunks: u64,
    /// Bytes that were sent.
    pub bytes: u64,
    /// How often a task of some host was polled.
    pub polls: u64,
    /// Lines of the transcript.
    pub lines: u64,
    /// Faults that were injected.
    pub faults: u64,
}

impl Report {
    /// How many seconds were simulated in a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.virtual_time.as_secs_f64() / self.wall_time.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl AddAssign<&Self> for Report {
    fn add_assign(&mut self, other: &Self) {
        self.runs += other.runs;
        self.virtual_time += other.virtual_time;
        self.client_time += other.client_time;
        self.wall_time += other.wall_time;
        self.hash = self.hash.wrapping_add(other.hash);
        self.counts.connections += other.counts.connections;
        self.counts.chunks += other.counts.chunks;
        self.counts.bytes += other.counts.bytes;
        self.counts.polls += other.counts.polls;
        self.counts.lines += other.counts.lines;
        self.counts.faults += other.counts.faults;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, virtual_time, client_time, wall_time, counts, hash } = self;
        let Counts { connections, chunks, bytes, polls, lines: _, faults } = counts;
        write!(
            f,
            "{runs} runs, {:.1} simulated hours and {:.1} client-hours in {:.1} s ({:.0} s in a second): {faults} faults, \
             {connections} connections, {bytes} bytes in {chunks} pieces, {polls} polls; hash {hash:016x}",
            virtual_time.as_secs_f64() / 3600.0,
            client_time.as_secs_f64() / 3600.0,
            wall_time.as_secs_f64(),
            self.rate(),
        )
    }
}

/// Why a run did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The scenario returned an error.
    Error(String),
    /// The scenario, or a task of some host, panicked.
    Panic(String),
    /// The scenario went on for longer than the limit of virtual time.
    Limit {
        /// The limit.
        limit: Duration,
        /// When something happened last. Long before the limit, everybody waits for somebody: a deadlock.
        last_event: Duration,
    },
    /// Tasks went on and on at one moment of virtual time.
    Livelock,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(what) => f.write_str(what),
            Self::Panic(what) => write!(f, "a panic: {what}"),
            Self::Limit { limit, last_event } => write!(
                f,
                "the scenario has not ended after {limit:?} of virtual time; nothing was sent or noted after {:.6} s",
                last_event.as_secs_f64()
            ),
            Self::Livelock => f.write_str("tasks wake each other on and on, and time stands still"),
        }
    }
}

/// A run that did not end well. [`Display`](fmt::Display) shows the end of the transcript, the cause and the seed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The seed: the same run follows from it.
    pub seed: u64,
    /// Why it did not end well.
    pub cause: Cause,
    /// When, in virtual time.
    pub at: Duration,
    /// The last lines of the transcript.
    pub transcript: Vec<String>,
    /// How many lines came before those.
    pub left_out: u64,
    /// As [`Report::hash`].
    pub hash: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.left_out > 0 {
            writeln!(f, "({} lines before these)", self.left_out)?;
        }
        for line in &self.transcript {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {}: after {:.6} s: {}", self.seed, self.at.as_secs_f64(), self.cause)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_runs_does_not_depend_on_their_order() {
        let run = |seed: u64| Report {
            runs: 1,
            virtual_time: Duration::from_secs(seed),
            client_time: Duration::from_secs(2 * seed),
            hash: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ..Report::default()
        };
        let sum = |seeds: [u64; 3]| {
            let mut sum = Report::default();
            seeds.into_iter().for_each(|seed| sum += &run(seed));
            sum
        };
        assert_eq!(sum([1, 2, 3]), sum([3, 1, 2]));
        assert_ne!(sum([1, 2, 3]).hash, sum([1, 2, 4]).hash);
        assert!(sum([1, 2, 3600]).to_string().contains(" and 2.0 client-hours "), "{}", sum([1, 2, 3600]));
    }
}
