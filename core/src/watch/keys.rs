//! The keys of a watch, in little memory.

use alloc::boxed::Box;

use bytes::Bytes;

use crate::{KeyRange, range::is_prefix_end};

/// The keys of one watch: what a [`KeyRange`] says, in one allocation in the usual cases. A client may have very many
/// watches, and each has its keys for as long as it lives, while a `KeyRange` is needed for a moment only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// One key.
    One(Box<[u8]>),
    /// Every key with this prefix, which has a byte below 255.
    Prefix(Box<[u8]>),
    /// Every key from this one on.
    From(Box<[u8]>),
    /// Any other range.
    Between(Box<KeyRange>),
}

impl Keys {
    pub(crate) fn of(range: &KeyRange) -> Self {
        let (start, end) = (&range.start()[..], &range.end()[..]);
        match end {
            b"" => Self::One(start.into()),
            b"\0" => Self::From(start.into()),
            _ if is_prefix_end(start, end) => Self::Prefix(start.into()),
            _ => Self::Between(Box::new(range.clone())),
        }
    }

    pub(crate) fn to_range(&self) -> KeyRange {
        match self {
            Self::One(key) => KeyRange::key(&key[..]),
            Self::Prefix(prefix) => KeyRange::prefix(&prefix[..]),
            Self::From(key) => KeyRange::from_key(&key[..]),
            Self::Between(range) => KeyRange::clone(range),
        }
    }

    /// The first key, as on the wire.
    pub(crate) fn start(&self) -> Bytes {
        match self {
            Self::One(key) | Self::Prefix(key) | Self::From(key) => Bytes::copy_from_slice(key),
            Self::Between(range) => range.start().clone(),
        }
    }

    /// Whether `key` is one of them.
    #[inline]
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(own) => key == &own[..],
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::From(first) => key >= &first[..],
            Self::Between(range) => range.contains(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn they_are_what_the_range_says() {
        let ranges: Vec<KeyRange> = [
            KeyRange::key("b"),
            KeyRange::prefix("b"),
            KeyRange::prefix(&b"b\xff\xff"[..]),
            KeyRange::prefix(&b"\xff"[..]),
            KeyRange::prefix(""),
            KeyRange::from_key("b"),
            KeyRange::all(),
        ]
        .into_iter()
        .chain(
            [("b", "bb"), ("ba", "c"), ("b", "d"), ("b", "c")]
                .map(|(start, end)| KeyRange::range(start, end).expect("a range with keys in it")),
        )
        .collect();
        let parts = [&b""[..], b"\0", b"a", b"b", b"c", b"\xff"];
        let keys: Vec<Vec<u8>> =
            parts.iter().flat_map(|one| parts.iter().map(|other| [*one, *other].concat())).collect();
        for range in &ranges {
            let own = Keys::of(range);
            assert_eq!((&own.to_range(), &own.start()), (range, range.start()));
            for key in &keys {
                assert_eq!(own.contains(key), range.contains(key), "{key:?} in {range:?}");
            }
            for other in &ranges {
                assert_eq!(own == Keys::of(other), range == other, "{range:?} and {other:?}");
            }
        }
    }
}
