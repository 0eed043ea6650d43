//! Ranges of keys.

use bytes::Bytes;

use crate::{IntoBytes, error::RequestError};

/// The keys of a request: one, those with a prefix, those between two keys, or all.
///
/// etcd's own encoding is `(key, range_end)`; the constructors build it for the usual cases.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    key: Bytes,
    range_end: Bytes,
}

impl KeyRange {
    /// One key. No key is empty: a request for the empty one is refused, with [`RequestError::EmptyKey`].
    #[must_use]
    pub fn key(key: impl IntoBytes) -> Self {
        Self { key: key.into_bytes(), range_end: Bytes::new() }
    }

    /// Every key that starts with `prefix`; the empty prefix is every key, as it is for etcdctl and Go's client.
    #[must_use]
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        let prefix = prefix.into_bytes();
        let range_end = prefix_end(&prefix);
        Self { key: or_smallest(prefix), range_end }
    }

    /// Every key from `key` on; from the empty key on it is every key.
    #[must_use]
    pub fn from_key(key: impl IntoBytes) -> Self {
        Self { key: or_smallest(key.into_bytes()), range_end: Bytes::from_static(b"\0") }
    }

    /// Every key there is.
    #[must_use]
    pub fn all() -> Self {
        Self::from_key(Bytes::new())
    }

    /// The keys from `start` up to but without `end`.
    ///
    /// # Errors
    /// [`RequestError::EmptyRange`] when `end` is not above `start`: such a watch never sees anything.
    pub fn range(start: impl IntoBytes, end: impl IntoBytes) -> Result<Self, RequestError> {
        let (key, range_end) = (or_smallest(start.into_bytes()), end.into_bytes());
        if range_end.is_empty() || (range_end != b"\0"[..] && range_end <= key) {
            return Err(RequestError::EmptyRange { start: key, end: range_end });
        }
        Ok(Self { key, range_end })
    }

    /// The first key, as on the wire.
    #[must_use]
    pub fn start(&self) -> &Bytes {
        &self.key
    }

    /// The end, as on the wire: empty for one key, `\0` for "from the key on".
    #[must_use]
    pub fn end(&self) -> &Bytes {
        &self.range_end
    }

    /// Checks that there may be keys in it.
    ///
    /// # Errors
    /// [`RequestError::EmptyKey`] for the range of one key, the empty one.
    pub fn validate(&self) -> Result<(), RequestError> {
        if self.key.is_empty() { Err(RequestError::EmptyKey) } else { Ok(()) }
    }

    /// The range for what is kept under a prefix: as if every key began with it, and no other were there.
    #[must_use]
    pub fn within(&self, prefix: &[u8]) -> Self {
        let prefixed = |key: &[u8]| Bytes::from([prefix, key].concat());
        let range_end = match &self.range_end[..] {
            b"" => Bytes::new(),
            b"\0" => prefix_end(prefix),
            end => prefixed(end),
        };
        Self { key: or_smallest(prefixed(&self.key)), range_end }
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.range_end.is_empty() {
            return self.key == key;
        }
        key >= &self.key[..] && (self.range_end == b"\0"[..] || key < &self.range_end[..])
    }
}

/// A single key.
impl<K: IntoBytes> From<K> for KeyRange {
    fn from(key: K) -> Self {
        Self::key(key)
    }
}

fn or_smallest(key: Bytes) -> Bytes {
    if key.is_empty() { Bytes::from_static(b"\0") } else { key }
}

/// The first key above every key with this prefix: the last byte that can be raised is, and what
/// follows it is cut off; where none can be, there is no end.
fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|&byte| byte != u8::MAX) {
        Some(at) => {
            let mut end = prefix[..=at].to_vec();
            end[at] += 1;
            end.into()
        }
        None => Bytes::from_static(b"\0"),
    }
}

/// Whether the range from `start` up to `end` holds the keys with the prefix `start`, and no others.
pub(crate) fn is_prefix_end(start: &[u8], end: &[u8]) -> bool {
    let Some((&last, before)) = end.split_last() else { return false };
    let Some((&raised, cut)) = start.get(before.len()..).and_then(<[u8]>::split_first) else { return false };
    // `raised` is the last byte that can be: it is not 255 itself, and all that follow it are.
    start.starts_with(before)
        && raised.checked_add(1) == Some(last)
        && cut.iter().all(|&byte| byte == u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_its_last_byte_raised() {
        assert_eq!(KeyRange::prefix("ab").end(), &b"ac"[..]);
        assert_eq!(KeyRange::prefix(&b"a\xff\xff"[..]).end(), &b"b"[..]);
        assert_eq!(KeyRange::prefix(&b"\xff\xff"[..]).end(), &b"\0"[..]);
        assert_eq!(KeyRange::prefix("").start(), &b"\0"[..]);
        assert_eq!(KeyRange::prefix(""), KeyRange::all());
    }

    #[test]
    fn the_end_of_a_prefix_is_told_from_other_ends() {
        for prefix in [&b"a"[..], b"ab", b"a\xff", b"a\xff\xff", b"\xfe\xff", b"\0"] {
            assert!(is_prefix_end(prefix, &prefix_end(prefix)), "{prefix:?}");
        }
        let others = [
            (&b"a"[..], &b"a"[..]),
            (b"a", b"c"),
            (b"a", b"b\0"),
            (b"a", b"ab"),
            (b"ab", b"b"),
            (b"a\xff", b"a\0"),
            (b"\xff", b"\0"),
            (b"a", b""),
            (b"", b"a"),
        ];
        for (start, end) in others {
            assert!(!is_prefix_end(start, end), "{start:?} to {end:?}");
        }
    }

    #[test]
    fn a_range_under_a_prefix_does_not_leave_it() {
        let within = |range: KeyRange| {
            let range = range.within(b"n/");
            (range.start().clone(), range.end().clone())
        };
        assert_eq!(within(KeyRange::key("a")), ("n/a".into(), "".into()));
        assert_eq!(within(KeyRange::prefix("a")), ("n/a".into(), "n/b".into()));
        assert_eq!(within(KeyRange::all()), ("n/\0".into(), "n0".into()));
        assert_eq!(within(KeyRange::prefix(&b"\xff"[..])), (Bytes::from_static(b"n/\xff"), "n0".into()));
    }

    #[test]
    fn an_inverted_or_empty_range_is_refused() {
        assert!(matches!(KeyRange::range("b", "a"), Err(RequestError::EmptyRange { .. })));
        assert!(matches!(KeyRange::range("a", "a"), Err(RequestError::EmptyRange { .. })));
        assert!(matches!(KeyRange::range("a", ""), Err(RequestError::EmptyRange { .. })));
        assert!(KeyRange::range("a", &b"\0"[..]).is_ok());
    }

    #[test]
    fn a_range_contains_what_the_server_would_send() {
        assert!(KeyRange::key("a").contains(b"a") && !KeyRange::key("a").contains(b"aa"));
        assert!(KeyRange::from_key("b").contains(b"c") && !KeyRange::from_key("b").contains(b"a"));
        assert!(KeyRange::all().contains(b"\0"));
        let range = KeyRange::range("b", "d").unwrap();
        assert!(range.contains(b"c") && !range.contains(b"d") && !range.contains(b"a"));
    }

    #[test]
    fn the_empty_key_is_no_key_and_the_empty_prefix_is_all_keys() {
        assert_eq!(KeyRange::key("").validate(), Err(RequestError::EmptyKey));
        for all in [KeyRange::prefix(""), KeyRange::from_key(""), KeyRange::all()] {
            assert!(all.validate().is_ok() && all.contains(b"anything"));
        }
        assert_eq!(KeyRange::from("a"), KeyRange::key("a"));
    }
}
