//! What happened in a run, as lines to read and as one number to compare.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::report::Counts;

/// Lines that are kept for a failure.
const KEPT: usize = 200;

/// What happened: every line and every byte is in the hash, the last lines are kept.
#[derive(Debug)]
pub(super) struct Transcript {
    hash: Fnv,
    lines: VecDeque<String>,
    left_out: u64,
    last_at: Duration,
    pub(super) counts: Counts,
}

impl Transcript {
    pub(super) fn new(seed: u64) -> Self {
        let mut hash = Fnv::new();
        hash.write(&seed.to_le_bytes());
        Self { hash, lines: VecDeque::new(), left_out: 0, last_at: Duration::ZERO, counts: Counts::default() }
    }

    /// Adds a line.
    pub(super) fn note(&mut self, at: Duration, who: &str, what: fmt::Arguments<'_>) {
        let line = format!("{:>12.6} {who}: {what}", at.as_secs_f64());
        self.hash.write(line.as_bytes());
        self.last_at = at;
        self.counts.lines += 1;
        if self.lines.len() == KEPT {
            self.lines.pop_front();
            self.left_out += 1;
        }
        self.lines.push_back(line);
    }

    /// Adds bytes that were sent on a connection. They are no line.
    pub(super) fn sent(&mut self, at: Duration, connection: u64, to_member: bool, bytes: &[u8]) {
        self.hash.write(&at.as_nanos().to_le_bytes());
        self.hash.write(&connection.to_le_bytes());
        self.hash.write(&[u8::from(to_member)]);
        self.hash.write(bytes);
        self.last_at = at;
        self.counts.chunks += 1;
        self.counts.bytes += bytes.len() as u64;
    }

    /// When the last line or byte was added.
    pub(super) fn last_at(&self) -> Duration {
        self.last_at
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.0
    }

    /// The last lines, and how many came before them.
    pub(super) fn take_lines(&mut self) -> (Vec<String>, u64) {
        (std::mem::take(&mut self.lines).into(), self.left_out)
    }
}

/// FNV-1a: the same in every process, unlike the standard library's hashes.
#[derive(Debug)]
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
