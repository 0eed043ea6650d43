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
    hash: Hash,
    lines: VecDeque<String>,
    left_out: u64,
    last_at: Duration,
    pub(super) counts: Counts,
}

impl Transcript {
    pub(super) fn new(seed: u64) -> Self {
        let mut hash = Hash::new();
        hash.word(seed);
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
        self.hash.word(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
        self.hash.word(connection << 1 | u64::from(to_member));
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

/// FxHash over words of eight bytes: quick, and the same in every process, unlike the standard library's hashes.
#[derive(Debug)]
struct Hash(u64);

impl Hash {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn word(&mut self, word: u64) {
        // The product's upper bits depend on all lower ones, and are rotated to where they reach the others next.
        self.0 = (self.0.rotate_left(26) ^ word).wrapping_mul(0xf135_7aea_2e62_a9c5);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(pieces: &[&[u8]]) -> u64 {
        let mut hash = Hash::new();
        pieces.iter().for_each(|piece| hash.write(piece));
        hash.0
    }

    #[test]
    fn each_byte_and_each_border_between_pieces_is_in_the_hash() {
        let bytes: Vec<u8> = (0..21).collect();
        let whole = hash(&[&bytes]);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(hash(&[&other]), whole, "byte {at}");
            assert_ne!(hash(&[&bytes[..at], &bytes[at..]]), whole, "a border at {at}");
        }
        assert_ne!(hash(&[&[0; 7]]), hash(&[&[0; 8]]));
    }
}
