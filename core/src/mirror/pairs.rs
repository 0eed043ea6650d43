//! The pairs of a list: a received message, and an index over it.

use alloc::vec::Vec;
use bytes::{BufMut, Bytes, BytesMut};
use core::{fmt, iter::FusedIterator, slice};

use crate::{
    DecodeError, KeyValue, OwnedKeyValue,
    wire::index::{KvIndex, Span},
};

/// Pairs in the order they were listed in. They are views on the message that they were received in: none has an
/// allocation of its own, and the message stays in memory for as long as these do.
///
/// ```
/// use etcd_watch_core::{OwnedKeyValue, Pairs};
///
/// let kv = OwnedKeyValue { key: "k1".into(), value: "v".into(), mod_revision: 3, ..OwnedKeyValue::default() };
/// let pairs = Pairs::copied([&kv])?;
/// assert_eq!((pairs.len(), pairs.bytes()), (1, 3));
/// for pair in &pairs {
///     assert_eq!((pair.key(), pair.value(), pair.mod_revision()), (&b"k1"[..], &b"v"[..], 3));
/// }
/// # Ok::<(), etcd_watch_core::DecodeError>(())
/// ```
#[derive(Clone, Default)]
pub struct Pairs {
    message: Bytes,
    index: Vec<KvIndex>,
}

impl Pairs {
    pub(crate) fn new(message: Bytes, index: Vec<KvIndex>) -> Self {
        Self { message, index }
    }

    /// Copies pairs into one buffer: for a driver that has decoded a list by itself.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] if keys and values come to 4 GiB or more.
    pub fn copied<'a>(pairs: impl IntoIterator<Item = &'a OwnedKeyValue>) -> Result<Self, DecodeError> {
        let (mut message, mut index) = (BytesMut::new(), Vec::new());
        let mut copy = |bytes: &[u8]| -> Result<Span, DecodeError> {
            let number = |number: usize| u32::try_from(number).map_err(|_| DecodeError::TooLong);
            let span = Span::new(number(message.len())?, number(bytes.len())?);
            number(message.len() + bytes.len())?;
            message.put_slice(bytes);
            Ok(span)
        };
        for kv in pairs {
            index.push(KvIndex {
                key: copy(&kv.key)?,
                value: copy(&kv.value)?,
                create_revision: kv.create_revision,
                mod_revision: kv.mod_revision,
                version: kv.version,
                lease: kv.lease,
            });
        }
        Ok(Self { message: message.freeze(), index })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The size in bytes of the message they are in.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.message.len()
    }

    /// The pair at a place.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<KeyValue<'_>> {
        self.index.get(place).map(|index| KeyValue::new(&self.message, index))
    }

    /// The first pair.
    #[must_use]
    pub fn first(&self) -> Option<KeyValue<'_>> {
        self.get(0)
    }

    /// The last pair.
    #[must_use]
    pub fn last(&self) -> Option<KeyValue<'_>> {
        self.get(self.len().checked_sub(1)?)
    }

    /// All of them, in their order.
    #[must_use]
    pub fn iter(&self) -> PairsIter<'_> {
        PairsIter { message: &self.message, index: self.index.iter() }
    }

    /// The same with the first `bytes` of each key left out: for views on the keys under a prefix. A shorter key is left
    /// empty.
    #[must_use]
    pub fn without_key_prefix(mut self, bytes: usize) -> Self {
        if bytes != 0 {
            self.index.iter_mut().for_each(|kv| kv.key.cut(bytes));
        }
        self
    }

    pub(super) fn index(&self) -> &[KvIndex] {
        &self.index
    }

    /// Those of the pairs that are at these places of the message.
    pub(super) fn part(&self, index: Vec<KvIndex>) -> Self {
        // An empty part must not keep the message in memory.
        let message = if index.is_empty() { Bytes::new() } else { self.message.clone() };
        Self { message, index }
    }
}

/// Iterates over [`Pairs`].
#[derive(Clone)]
pub struct PairsIter<'a> {
    message: &'a Bytes,
    index: slice::Iter<'a, KvIndex>,
}

impl<'a> Iterator for PairsIter<'a> {
    type Item = KeyValue<'a>;

    fn next(&mut self) -> Option<KeyValue<'a>> {
        self.index.next().map(|index| KeyValue::new(self.message, index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.index.size_hint()
    }
}

impl DoubleEndedIterator for PairsIter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.index.next_back().map(|index| KeyValue::new(self.message, index))
    }
}

impl ExactSizeIterator for PairsIter<'_> {}

impl FusedIterator for PairsIter<'_> {}

impl fmt::Debug for PairsIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<'a> IntoIterator for &'a Pairs {
    type Item = KeyValue<'a>;
    type IntoIter = PairsIter<'a>;

    fn into_iter(self) -> PairsIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().fmt(f)
    }
}

impl PartialEq for Pairs {
    /// By what is listed; how it was received doesn't matter.
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Pairs {}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &'static str, value: &'static str) -> OwnedKeyValue {
        OwnedKeyValue { key: key.into(), value: value.into(), version: 3, ..OwnedKeyValue::default() }
    }

    #[test]
    fn pairs_that_were_copied_are_equal_to_those_before() {
        let kvs = [kv("a", "1"), kv("bb", ""), kv("c", "333")];
        let pairs = Pairs::copied(&kvs).unwrap();
        assert!(pairs.iter().map(|kv| kv.to_owned()).eq(kvs.clone()));
        assert!(pairs.iter().rev().map(|kv| kv.to_owned()).eq(kvs.iter().rev().cloned()));
        assert_eq!((pairs.len(), pairs.iter().len(), pairs.bytes()), (3, 3, 8));
        assert_eq!(pairs.first().map(|kv| kv.key()), Some(&b"a"[..]));
        assert_eq!(pairs.last().map(|kv| kv.key()), Some(&b"c"[..]));
        assert_eq!(pairs.get(3), None);
        assert_eq!(Pairs::default().last(), None);
    }

    #[test]
    fn pairs_are_compared_by_what_they_are_and_not_by_where() {
        let whole = Pairs::copied(&[kv("a", "1"), kv("b", "2")]).unwrap();
        let part = whole.part(whole.index()[1..].into());
        assert_eq!(part, Pairs::copied(&[kv("b", "2")]).unwrap());
        assert_ne!(part, whole);
        assert_eq!(whole.part(Vec::new()).bytes(), 0, "nothing keeps no message");
    }

    #[test]
    fn a_prefix_is_left_out_of_the_keys_alone() {
        let pairs = Pairs::copied(&[kv("n/a", "n/1"), kv("n", "")]).unwrap().without_key_prefix(2);
        assert_eq!(pairs, Pairs::copied(&[kv("a", "n/1"), kv("", "")]).unwrap());
    }
}
