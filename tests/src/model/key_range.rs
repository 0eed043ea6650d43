//! A range of keys, as requests name it.

use std::ops::Bound;

use bytes::Bytes;

/// A range of keys, as requests name it: by a key and a range end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyRange {
    /// One key: the range end is empty.
    One(Bytes),
    /// This key and all that follow: the range end is a single zero byte.
    From(Bytes),
    /// From the first on, without the second; empty if they aren't in order.
    Between(Bytes, Bytes),
}

impl KeyRange {
    pub(super) fn new(key: &Bytes, range_end: &Bytes) -> Self {
        match range_end.as_ref() {
            [] => Self::One(key.clone()),
            [0] => Self::From(key.clone()),
            _ => Self::Between(key.clone(), range_end.clone()),
        }
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::From(first) => first.as_ref() <= key,
            Self::Between(first, end) => first.as_ref() <= key && key < end.as_ref(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Between(first, end) if first >= end)
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        if self.is_empty() || other.is_empty() {
            return false;
        }
        // Two ranges that aren't empty overlap exactly if one contains the other's first key.
        self.contains(other.first()) || other.contains(self.first())
    }

    /// Bounds for an ordered map; never inverted, as those panic.
    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        match self {
            Self::One(one) => (Bound::Included(one), Bound::Included(one)),
            Self::From(first) => (Bound::Included(first), Bound::Unbounded),
            Self::Between(first, end) if first < end => (Bound::Included(first), Bound::Excluded(end)),
            Self::Between(first, _) => (Bound::Included(first), Bound::Excluded(first)),
        }
    }

    fn first(&self) -> &[u8] {
        match self {
            Self::One(key) | Self::From(key) | Self::Between(key, _) => key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static str, end: &'static str) -> KeyRange {
        KeyRange::new(&Bytes::from_static(key.as_bytes()), &Bytes::from_static(end.as_bytes()))
    }

    #[test]
    fn an_empty_range_end_means_one_key() {
        assert!(range("b", "").contains(b"b"));
        assert!(!range("b", "").contains(b"bb"));
    }

    #[test]
    fn a_zero_range_end_means_from_the_key_on() {
        assert!(range("b", "\0").contains(b"b"));
        assert!(range("b", "\0").contains(b"z"));
        assert!(!range("b", "\0").contains(b"a"));
    }

    #[test]
    fn the_range_end_is_not_included() {
        assert!(range("b", "d").contains(b"c"));
        assert!(!range("b", "d").contains(b"d"));
    }

    #[test]
    fn an_inverted_range_is_empty_and_its_bounds_are_not_inverted() {
        let inverted = range("d", "b");
        assert!(inverted.is_empty());
        assert!(!inverted.contains(b"c"));
        let keys: std::collections::BTreeMap<Bytes, ()> = [(Bytes::from_static(b"c"), ())].into();
        assert_eq!(keys.range::<[u8], _>(inverted.bounds()).count(), 0);
    }

    #[test]
    fn ranges_overlap_when_they_share_a_key() {
        assert!(range("a", "c").overlaps(&range("b", "d")));
        assert!(range("b", "").overlaps(&range("a", "\0")));
        assert!(!range("a", "b").overlaps(&range("b", "c")));
        assert!(!range("d", "b").overlaps(&range("a", "\0")));
    }
}
