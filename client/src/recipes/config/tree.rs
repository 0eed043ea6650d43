//! The keys that a configuration is made of.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The keys under a prefix and their values, ordered. Keys go by what follows the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// By their whole names.
    keys: BTreeMap<Bytes, Bytes>,
    prefix: usize,
}

impl Tree {
    pub(crate) fn new(prefix: usize) -> Self {
        Self { keys: BTreeMap::new(), prefix }
    }

    /// Copies both: slices of a page or a response would keep the whole of it.
    pub(crate) fn insert(&mut self, key: &[u8], value: &[u8]) {
        self.keys.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        self.keys.remove(key);
    }

    pub(super) fn first(&self) -> Option<&[u8]> {
        self.keys.values().next().map(|value| &value[..])
    }

    /// The value of a key, by what follows the prefix in it.
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&Bytes> {
        let (whole, _) = self.keys.first_key_value()?;
        let whole = [&whole[..self.prefix.min(whole.len())], key.as_ref()].concat();
        self.keys.get(&whole[..])
    }

    /// Every key, by what follows the prefix in it, and its value; in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &Bytes)> {
        self.keys.iter().map(|(key, value)| (&key[self.prefix.min(key.len())..], value))
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_by_what_follows_the_prefix() {
        let mut tree = Tree::new(2);
        assert!(tree.is_empty() && tree.get("b").is_none());
        tree.insert(b"a/b", b"1");
        tree.insert(b"a/c/d", b"2");
        assert_eq!(tree.get("c/d"), Some(&"2".into()));
        let keys: Vec<_> = tree.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [&b"b"[..], b"c/d"]);
        tree.remove(b"a/b");
        assert_eq!((tree.len(), tree.first()), (1, Some(&b"2"[..])));
    }
}
