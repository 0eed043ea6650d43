//! When two states count as one.
//!
//! A state's fingerprint is a hash of the world's own small types and of what the machine prints of itself
//! for debugging, with some of it left out or told relative to something. States of one fingerprint behave
//! alike, since of the machine only this is left out:
//!
//! - **Counters** that nothing but statistics reads: `stats`, `counts`, `spares` (empty lists that are kept
//!   to be used again), `failures` and `penalty` (they lengthen a backoff up to its ceiling, which is its
//!   floor here), `peak` (it shrinks a limit down to the floor; limits start there, and grow only in a
//!   queue of more bytes than that, where floor and ceiling are the same here).
//! - **Names** that are only compared for being the same: `connection`, `next_range` and the `key` of a read
//!   (one stream and one read exist at a time, and nobody here speaks of an older one; the planted bug that
//!   does so gives it the new one's name).
//! - **Moments of the past** that nothing reads here: `opened` and `last_frame` (for probes, which are off,
//!   for progress on an interval, which is off too, and for penalties and failures), `begun` (for cancels without a
//!   reason, of which no server here sends two), `moved` (for growing limits, as above), `patience` (for deadlines that
//!   are not set).
//! - **`config`**, which is the plan's, and **`rng`**: it is asked for backoffs, whose range has one value, and
//!   for a stream's first watch id.
//!
//! That first id can be any, so ids are told by their distance from it. It is above 65,535, and no other
//! number here is in its neighbourhood: moments are thousands of times larger, sizes smaller or a power of
//! two that is out of its reach. Moments are told relative to now: the machine only compares them and adds
//! durations to them. Two hashes of 64 bits that are equal by chance would hide a state: among a million
//! states that has a probability below one in ten million.

use std::{
    collections::hash_map::DefaultHasher,
    fmt::Write,
    hash::{Hash, Hasher},
};

use etcd_watch_core::Instant;

use super::world::{Link, World};

/// Fields that are left out, with the beginnings of their values: other types have fields of these names too.
const LEFT_OUT: [&str; 17] = [
    "config: WatchConfig {",
    "rng: Rng(",
    "stats: Stats {",
    "counts: Counts {",
    "spares: Spares(",
    "next_range: ",
    "key: range ",
    "connection: ",
    "backoff: Backoff {",
    "behind: Backoff {",
    "penalty: ",
    "patience: Patience {",
    "opened: Instant(",
    "begun: Instant(",
    "last_frame: Instant(",
    "moved: Instant(",
    "peak: ",
];

/// How far watch ids may be from a stream's first.
const ID_REACH: u64 = 1 << 10;

/// Makes fingerprints; it keeps its buffer from one to the next.
#[derive(Debug, Default)]
pub(super) struct Fingerprints {
    text: String,
}

impl Fingerprints {
    pub(super) fn of(&mut self, world: &World<'_>) -> u64 {
        let mut hasher = DefaultHasher::new();
        world.store.hash(&mut hasher);
        match &world.link {
            Link::None => 0.hash(&mut hasher),
            Link::Opening(_) => 1.hash(&mut hasher),
            Link::Open { server, .. } => (2, server).hash(&mut hasher),
        }
        world.read.as_ref().map(|read| read.asked_at).hash(&mut hasher);
        for consumer in &world.consumers {
            (consumer.key.is_some(), consumer.cursor, consumer.opened_at).hash(&mut hasher);
            (consumer.is_told, consumer.has_asked, consumer.is_cancelled).hash(&mut hasher);
            consumer.is_closed.hash(&mut hasher);
        }
        (world.left, &world.stale).hash(&mut hasher);
        self.text.clear();
        // Writing to a string does not fail.
        let _ = write!(self.text, "{:?}", world.machine);
        canonical(&self.text, world.now, |piece| hasher.write(piece));
        hasher.finish()
    }
}

/// Hands out the text of a machine piece by piece, without what is left out.
fn canonical(text: &str, now: Instant, mut take: impl FnMut(&[u8])) {
    let bytes = text.as_bytes();
    let first_id = text.find("first_id: ").map_or(u64::MAX, |at| number(&bytes[at + 10..]).0);
    let mut at = 0;
    // Where what is handed out next begins.
    let mut from = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = after_string(bytes, at),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let word = at;
                while bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
                    at += 1;
                }
                let name = &text[word..at];
                if LEFT_OUT.iter().any(|field| text[word..].starts_with(field)) {
                    take(&bytes[from..word]);
                    at = after_value(bytes, at);
                    from = at;
                } else if name == "Instant" && bytes.get(at) == Some(&b'(') {
                    take(&bytes[from..at]);
                    let (nanos, digits) = number(&bytes[at + 1..]);
                    take(&nanos.wrapping_sub(now.as_nanos()).to_le_bytes());
                    at += 1 + digits;
                    from = at;
                }
            }
            b'0'..=b'9' => {
                let (value, digits) = number(&bytes[at..]);
                if (first_id..first_id.saturating_add(ID_REACH)).contains(&value) {
                    take(&bytes[from..at]);
                    take(b"#");
                    take(&(value - first_id).to_le_bytes());
                    from = at + digits;
                }
                at += digits;
            }
            _ => at += 1,
        }
    }
    take(&bytes[from..]);
}

/// The number that a text begins with, and how many digits it has.
fn number(text: &[u8]) -> (u64, usize) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let value = text[..digits]
        .iter()
        .fold(0_u64, |value, digit| value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
    (value, digits)
}

/// Where a string ends that begins at `at`.
fn after_string(text: &[u8], mut at: usize) -> usize {
    at += 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

/// Where a field's value ends: before the comma or the bracket that follows.
fn after_value(text: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => {
                at = after_string(text, at);
                continue;
            }
            b'(' | b'[' | b'{' => depth += 1,
            b',' | b')' | b']' | b'}' if depth == 0 => return at,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical_text(text: &str, now: u64) -> String {
        let mut pieces = Vec::new();
        canonical(text, Instant::from_nanos(now), |piece| pieces.extend_from_slice(piece));
        String::from_utf8_lossy(&pieces).into_owned()
    }

    #[test]
    fn what_is_left_out_goes_with_its_value_and_nothing_else_does() {
        let text = r#"W { peak: 5, a: 1, patience: Patience { x: [1, 2], last: "}, \"" }, b: "peak: 3", moved: true, key: range 3 }"#;
        assert_eq!(canonical_text(text, 5), r#"W { , a: 1, , b: "peak: 3", moved: true, }"#);
    }

    #[test]
    fn ids_and_moments_are_told_relative_to_the_first_id_and_to_now() {
        let text = |id: u64, at: u64| format!("first_id: {id}, next_id: {}, 7: Instant({at})", id + 3);
        assert_eq!(canonical_text(&text(70_000, 50), 20), canonical_text(&text(99_999, 80), 50));
        assert_ne!(canonical_text(&text(70_000, 50), 20), canonical_text(&text(70_000, 50), 30));
        assert_ne!(
            canonical_text("first_id: 70000, next_id: 70001", 0),
            canonical_text("first_id: 70000, next_id: 70002", 0)
        );
    }
}
