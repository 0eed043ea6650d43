//! Keys of the source as keys of the destination.

use std::ops::Bound;

use anyhow::bail;
use bytes::Bytes;
use etcd_watch_tokio::KeyRange;

use crate::{args::MirrorArgs, connect};

/// The end of a range without one, as on the wire.
const NO_END: &[u8] = b"\0";

/// From the source's keys to the destination's.
#[derive(Debug)]
pub(super) struct Mapping {
    source: KeyRange,
    destination: KeyRange,
    /// What the source's keys begin with, and what the destination's have instead.
    prefixes: Option<(Bytes, Bytes)>,
}

impl Mapping {
    pub(super) fn new(args: &MirrorArgs, source: KeyRange) -> Self {
        let prefix = connect::bytes(&args.keys.key);
        let other = match &args.to.dest_prefix {
            Some(other) => Some(connect::bytes(other)),
            None => args.to.no_dest_prefix.then(Bytes::new),
        };
        let Some(other) = other else { return Self::same(source) };
        Self { source, destination: KeyRange::prefix(other.clone()), prefixes: Some((prefix, other)) }
    }

    /// The same keys.
    pub(super) fn same(range: KeyRange) -> Self {
        Self { source: range.clone(), destination: range, prefixes: None }
    }

    pub(super) fn source(&self) -> &KeyRange {
        &self.source
    }

    pub(super) fn destination(&self) -> &KeyRange {
        &self.destination
    }

    /// The key at the destination.
    ///
    /// # Errors
    /// The key that is the prefix itself, where that is to be left out.
    pub(super) fn key(&self, key: &Bytes) -> anyhow::Result<Bytes> {
        let mapped = self.map(key);
        if mapped.is_empty() {
            bail!(
                "key {} would be empty at the destination, which etcd doesn't allow: give a --dest-prefix",
                key.escape_ascii()
            );
        }
        Ok(mapped)
    }

    fn map(&self, key: &[u8]) -> Bytes {
        match &self.prefixes {
            Some((from, to)) => [to, key.strip_prefix(&from[..]).unwrap_or(key)].concat().into(),
            None => Bytes::copy_from_slice(key),
        }
    }

    /// The destination's keys for a span of the source's; `None` if there can't be any.
    pub(super) fn span(&self, (after, through): (Bound<&[u8]>, Bound<&[u8]>)) -> Option<KeyRange> {
        let range = &self.destination;
        if range.end().is_empty() {
            return Some(range.clone());
        }
        let start = match after {
            Bound::Unbounded => range.start().clone(),
            Bound::Included(key) => self.map(key),
            Bound::Excluded(key) => behind(&self.map(key)),
        };
        let end = match through {
            Bound::Unbounded => range.end().clone(),
            Bound::Included(key) => behind(&self.map(key)),
            Bound::Excluded(key) => self.map(key),
        };
        if end == NO_END { Some(KeyRange::from_key(start)) } else { KeyRange::range(start, end).ok() }
    }
}

/// The smallest key above this one.
pub(super) fn behind(key: &[u8]) -> Bytes {
    [key, b"\0"].concat().into()
}

/// Whether there is a key in both.
pub(super) fn overlap(a: &KeyRange, b: &KeyRange) -> bool {
    let begins_in = |a: &KeyRange, b: &KeyRange| b.contains(a.start());
    begins_in(a, b) || begins_in(b, a)
}

/// The destination's keys in words, for a checkpoint's name.
pub(super) fn describe(range: &KeyRange) -> Vec<u8> {
    let (start, end) = (range.start(), range.end());
    let parts: [&[u8]; 4] = match &end[..] {
        b"" => [b"key/", start, b"", b""],
        _ if *range == KeyRange::prefix(start.clone()) => [b"prefix/", start, b"", b""],
        NO_END => [b"from/", start, b"", b""],
        end => [b"range/", start, b"..", end],
    };
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(from: &'static str, to: &'static str) -> Mapping {
        let prefixes = Some((Bytes::from(from), Bytes::from(to)));
        Mapping { source: KeyRange::prefix(from), destination: KeyRange::prefix(to), prefixes }
    }

    #[test]
    fn a_prefix_is_replaced_and_what_follows_it_stays() {
        let mapping = replaced("a/", "b/c/");
        assert_eq!(mapping.key(&Bytes::from("a/a/1")).expect("a key"), "b/c/a/1");
        assert_eq!(mapping.key(&Bytes::from("a/")).expect("a key"), "b/c/");
        assert!(replaced("a/", "").key(&Bytes::from("a/")).is_err());
    }

    #[test]
    fn spans_of_the_source_are_spans_of_the_destination() {
        let mapping = replaced("a/", "b/");
        let span = |after, through| mapping.span((after, through)).expect("there are keys");
        let (unbounded, one, two) = (Bound::Unbounded, &b"a/1"[..], &b"a/2"[..]);
        assert_eq!(span(unbounded, unbounded), KeyRange::prefix("b/"));
        let first = KeyRange::range("b/", "b/1\0").expect("a range");
        assert_eq!(span(unbounded, Bound::Included(one)), first);
        let middle = KeyRange::range("b/1\0", "b/2\0").expect("a range");
        assert_eq!(span(Bound::Excluded(one), Bound::Included(two)), middle);
        assert_eq!(span(Bound::Excluded(two), unbounded), KeyRange::range("b/2\0", "b0").expect("a range"));
        let root = replaced("a/", "");
        assert_eq!(root.span((Bound::Excluded(one), unbounded)), Some(KeyRange::from_key("1\0")));
    }

    #[test]
    fn ranges_that_share_a_key_overlap() {
        let range = |start: &'static str, end: &'static str| KeyRange::range(start, end).expect("a range");
        assert!(overlap(&KeyRange::prefix("a"), &KeyRange::key("ab")));
        assert!(overlap(&KeyRange::key("ab"), &KeyRange::prefix("a")));
        assert!(overlap(&range("a", "c"), &range("b", "d")));
        assert!(!overlap(&range("a", "b"), &range("b", "d")));
        assert!(!overlap(&KeyRange::key("a"), &KeyRange::key("b")));
        assert!(overlap(&KeyRange::all(), &KeyRange::key("b")));
    }
}
