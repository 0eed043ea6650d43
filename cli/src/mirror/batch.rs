//! Whole revisions that go into one transaction.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_watch_tokio::{Delete, Put, Txn, TxnOp};

/// A transaction of more than one revision is no larger: far below etcd's limit on requests (1.5 MiB).
pub(super) const BYTES: usize = 512 << 10;

/// What becomes of keys: a value, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    by_key: BTreeMap<Bytes, Option<Bytes>>,
    bytes: usize,
}

impl Changes {
    /// The last word on a key counts: a transaction may have only one.
    pub(super) fn add(&mut self, key: Bytes, value: Option<Bytes>) {
        let bytes = |key: &Bytes, value: &Option<Bytes>| key.len() + value.as_ref().map_or(0, Bytes::len);
        self.bytes += bytes(&key, &value);
        if let Some(before) = self.by_key.get(&key) {
            self.bytes -= bytes(&key, before);
        }
        self.by_key.insert(key, value);
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// How many puts, and how many deletes.
    pub(super) fn counts(&self) -> (u64, u64) {
        let puts = self.by_key.values().flatten().count();
        (puts as u64, (self.len() - puts) as u64)
    }

    /// Whether both fit into one transaction of so many changes.
    pub(super) fn fits(&self, more: &Self, changes: usize) -> bool {
        self.len() + more.len() <= changes && self.bytes + more.bytes <= BYTES
    }

    pub(super) fn append(&mut self, more: Self) {
        more.by_key.into_iter().for_each(|(key, value)| self.add(key, value));
    }

    /// Parts of so many changes at most, and of no more bytes than a transaction of several has.
    pub(super) fn split(self, changes: usize) -> Vec<Self> {
        let mut parts: Vec<Self> = Vec::new();
        for (key, value) in self.by_key {
            let mut one = Self::default();
            one.add(key, value);
            match parts.last_mut() {
                Some(last) if last.fits(&one, changes) => last.append(one),
                _ => parts.push(one),
            }
        }
        parts
    }

    /// Adds the changes to a transaction that may have `max_ops` operations and has one of them already. If
    /// they are one too many, they go into transactions within it: a server counts each level for itself, the
    /// inner ones less the outer.
    pub(super) fn add_to(&self, mut txn: Txn, max_ops: usize) -> Txn {
        let ops = self.by_key.iter().map(|(key, value)| match value {
            Some(value) => TxnOp::from(Put::new(key.clone(), value.clone())),
            None => Delete::key(key.clone()).into(),
        });
        if self.len() < max_ops {
            return ops.fold(txn, Txn::and_then);
        }
        let mut halves = [Txn::new(), Txn::new()];
        for (index, op) in ops.enumerate() {
            let half = &mut halves[index % 2];
            *half = std::mem::take(half).and_then(op);
        }
        for half in halves {
            txn = txn.and_then(half);
        }
        txn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(keys: std::ops::Range<usize>, bytes: usize) -> Changes {
        let mut changes = Changes::default();
        keys.for_each(|key| changes.add(format!("{key:04}").into(), Some(vec![b'x'; bytes].into())));
        changes
    }

    #[test]
    fn the_last_word_on_a_key_counts() {
        let mut all = changes(0..2, 10);
        all.add("0000".into(), None);
        all.append(changes(1..2, 3));
        assert_eq!((all.len(), all.counts(), all.bytes), (2, (1, 1), 4 + 4 + 3));
    }

    #[test]
    fn parts_have_neither_too_many_changes_nor_too_many_bytes() {
        let by_count = changes(0..300, 1).split(127);
        assert_eq!(by_count.iter().map(Changes::len).collect::<Vec<_>>(), [127, 127, 46]);
        let by_bytes = changes(0..10, 200 << 10).split(127);
        assert!(by_bytes.iter().all(|part| part.len() == 2), "{by_bytes:?}");
        assert_eq!(changes(0..2, BYTES + 1).split(127).len(), 2);
        assert!(!changes(0..100, 1).fits(&changes(100..128, 1), 127));
        assert!(changes(0..100, 1).fits(&changes(100..127, 1), 127));
    }
}
