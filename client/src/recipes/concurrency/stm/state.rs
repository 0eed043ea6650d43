//! What an attempt at a transaction has read, and what it is to write.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_watch_core::OwnedKeyValue;

use super::isolation::Isolation;
use crate::{Compare, Delete, Get, Put, Txn, TxnResponse, TxnResult};

/// What an attempt has read, and what it is to write.
#[derive(Debug)]
pub(super) struct State {
    isolation: Isolation,
    /// The revision that reads are of, if they are of one and something was read.
    base: Option<i64>,
    /// What the closure has read. `None` is a key that doesn't exist.
    reads: BTreeMap<Bytes, Option<OwnedKeyValue>>,
    /// What was read beforehand, and not asked for yet.
    prefetched: BTreeMap<Bytes, Option<OwnedKeyValue>>,
    writes: BTreeMap<Bytes, Write>,
    flaw: Option<Flaw>,
}

#[derive(Debug)]
enum Write {
    Put(Put, Bytes),
    Delete,
}

/// Why nothing can come of an attempt, whatever its closure makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The revision that reads are of was compacted.
    Compacted,
    /// An answer doesn't tell its revision.
    NoRevision,
}

/// How keys are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct How {
    /// The revision; 0 for the current one.
    pub(super) revision: i64,
    pub(super) serializable: bool,
}

impl State {
    pub(super) fn new(isolation: Isolation) -> Self {
        Self {
            isolation,
            base: None,
            reads: BTreeMap::new(),
            prefetched: BTreeMap::new(),
            writes: BTreeMap::new(),
            flaw: None,
        }
    }

    /// The value that the transaction gives a key itself; `None` inside if it deletes the key.
    pub(super) fn written(&self, key: &Bytes) -> Option<Option<Bytes>> {
        self.writes.get(key).map(|write| match write {
            Write::Put(_, value) => Some(value.clone()),
            Write::Delete => None,
        })
    }

    /// The pair that a key had, if it has been read; from now on it counts as read.
    pub(super) fn read(&mut self, key: &Bytes) -> Option<Option<OwnedKeyValue>> {
        if let Some(found) = self.prefetched.remove(key) {
            self.reads.entry(key.clone()).or_insert(found);
        }
        self.reads.get(key).cloned()
    }

    pub(super) fn is_known(&self, key: &Bytes) -> bool {
        self.reads.contains_key(key) || self.prefetched.contains_key(key)
    }

    pub(super) fn put(&mut self, key: Bytes, value: Bytes, lease: i64) {
        let put = Put::new(key.clone(), value.clone()).lease(lease);
        self.writes.insert(key, Write::Put(put, value));
    }

    pub(super) fn delete(&mut self, key: Bytes) {
        self.writes.insert(key, Write::Delete);
    }

    /// How the next keys are to be read.
    pub(super) fn how(&self) -> How {
        match self.base {
            // Members have that revision, but for one that lags.
            Some(base) => How { revision: base, serializable: true },
            None => How { revision: 0, serializable: !self.isolation.is_of_one_revision() },
        }
    }

    /// Takes in what was read, in the order of the keys. False if it is of another revision than what was read at the
    /// same time: it has to be read again.
    pub(super) fn take_in(&mut self, keys: Vec<Bytes>, how: How, response: TxnResponse) -> bool {
        if self.isolation.is_of_one_revision() && how.revision == 0 {
            match (response.revision(), self.base) {
                // The attempt comes to nothing. What was read is taken in all the same, so that the closure goes on.
                (..=0, _) => self.flaw = Some(Flaw::NoRevision),
                (revision, Some(base)) if revision != base => return false,
                (revision, _) => self.base = Some(revision),
            }
        }
        let found = found(response).chain(std::iter::repeat(None));
        self.prefetched.extend(keys.into_iter().zip(found));
        true
    }

    /// The revision that reads are of is gone.
    pub(super) fn compacted(&mut self) {
        self.flaw = Some(Flaw::Compacted);
    }

    /// Why nothing can come of the attempt, if so.
    pub(super) fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    /// Whether it is to write anything.
    pub(super) fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    /// What is to be written, under the conditions of the isolation level; if they don't hold, what was read is read
    /// again.
    pub(super) fn request(&self) -> Txn {
        let mut txn = Txn::new();
        if self.isolation.checks_reads() {
            for (key, found) in &self.reads {
                let mod_revision = found.as_ref().map_or(0, |kv| kv.mod_revision);
                txn = txn.when(Compare::mod_revision(key).equals(mod_revision)).or_else(Get::key(key));
            }
        }
        if self.isolation.checks_writes()
            && let Some(base) = self.base
        {
            // A key that was read, too, is checked already.
            for key in self.writes.keys().filter(|key| !self.reads.contains_key(*key)) {
                txn = txn.when(Compare::mod_revision(key).less_than(base + 1));
            }
        }
        self.writes.iter().fold(txn, |txn, (key, write)| match write {
            Write::Put(put, _) => txn.and_then(put.clone()),
            Write::Delete => txn.and_then(Delete::key(key)),
        })
    }

    /// What the next attempt begins with: what this one has read, as the refusal of its commit says that it is now.
    pub(super) fn after_conflict(self, refusal: TxnResponse) -> Self {
        let mut next = Self::new(self.isolation);
        let now = How { revision: 0, serializable: false };
        // The first that it takes in sets the revision.
        next.take_in(self.reads.into_keys().collect(), now, refusal);
        next
    }
}

/// The pairs that were found by a transaction's reads of one key each.
fn found(response: TxnResponse) -> impl Iterator<Item = Option<OwnedKeyValue>> {
    response.into_results().into_iter().map(|result| match result {
        TxnResult::Get(get) => get.into_first(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use etcd_watch_proto::{
        etcdserverpb::{
            RangeResponse, ResponseHeader, ResponseOp, TxnResponse as Sent, response_op::Response,
        },
        mvccpb::KeyValue,
    };

    use super::*;

    /// An answer at this revision, with these keys and the revisions of their last changes.
    fn answer(revision: i64, keys: &[(&str, i64)]) -> TxnResponse {
        let responses = keys.iter().map(|&(key, mod_revision)| {
            let kv = KeyValue { key: key.to_owned().into(), mod_revision, ..Default::default() };
            let kvs = if mod_revision > 0 { vec![kv] } else { Vec::new() };
            let range = RangeResponse { kvs, ..Default::default() };
            ResponseOp { response: Some(Response::ResponseRange(range)) }
        });
        let responses = responses.collect();
        let header = ResponseHeader { revision, ..Default::default() };
        Sent { header: Some(header), succeeded: false, responses }.into()
    }

    fn keys(keys: &[&str]) -> Vec<Bytes> {
        keys.iter().map(|key| key.to_string().into()).collect()
    }

    fn mod_revision(state: &mut State, key: &'static str) -> Option<i64> {
        state.read(&key.into()).map(|found| found.map_or(0, |kv| kv.mod_revision))
    }

    /// It has read `a`, which was last changed at 5, and `b`, which doesn't exist, at 7; it writes `b` and `c`.
    fn state(isolation: Isolation) -> State {
        let mut state = State::new(isolation);
        let how = state.how();
        assert!(state.take_in(keys(&["a", "b", "d"]), how, answer(7, &[("a", 5), ("b", 0), ("d", 6)])));
        assert_eq!((mod_revision(&mut state, "a"), mod_revision(&mut state, "b")), (Some(5), Some(0)));
        state.put("b".into(), "1".into(), 9);
        state.put("c".into(), "2".into(), 0);
        state.delete("c".into());
        state
    }

    #[test]
    fn the_conditions_of_a_commit_are_those_of_its_level() {
        let writes = |txn: Txn| txn.and_then(Put::new("b", "1").lease(9)).and_then(Delete::key("c"));
        let reads = || {
            Txn::new()
                .when(Compare::mod_revision("a").equals(5))
                .or_else(Get::key("a"))
                .when(Compare::mod_revision("b").equals(0))
                .or_else(Get::key("b"))
        };
        let both = reads().when(Compare::mod_revision("c").less_than(8));
        assert_eq!(state(Isolation::SerializableSnapshot).request(), writes(both));
        assert_eq!(state(Isolation::Serializable).request(), writes(reads()));
        assert_eq!(state(Isolation::RepeatableReads).request(), writes(reads()));
        assert_eq!(state(Isolation::ReadCommitted).request(), writes(Txn::new()));
    }

    #[test]
    fn without_a_read_nothing_is_compared() {
        let mut blind = State::new(Isolation::SerializableSnapshot);
        assert!(!blind.has_writes());
        blind.put("c".into(), "2".into(), 0);
        assert_eq!(blind.request(), Txn::new().and_then(Put::new("c", "2")));
        assert!(blind.has_writes());
    }

    #[test]
    fn reads_are_of_the_revision_of_the_first_where_the_level_says_so() {
        for isolation in [Isolation::SerializableSnapshot, Isolation::Serializable] {
            assert_eq!(State::new(isolation).how(), How { revision: 0, serializable: false });
            assert_eq!(state(isolation).how(), How { revision: 7, serializable: true });
        }
        for isolation in [Isolation::RepeatableReads, Isolation::ReadCommitted] {
            assert_eq!(state(isolation).how(), How { revision: 0, serializable: true });
        }
    }

    #[test]
    fn of_two_first_reads_at_once_the_later_is_made_again() {
        let mut state = State::new(Isolation::Serializable);
        let how = state.how();
        assert!(state.take_in(keys(&["a"]), how, answer(7, &[("a", 5)])));
        assert!(!state.take_in(keys(&["b"]), how, answer(8, &[("b", 8)])));
        assert!(!state.is_known(&"b".into()));
        let again = state.how();
        assert!(state.take_in(keys(&["b"]), again, answer(9, &[("b", 3)])));
        assert_eq!((mod_revision(&mut state, "b"), state.how().revision), (Some(3), 7));
    }

    #[test]
    fn after_a_conflict_what_was_read_is_there_at_the_revision_of_the_refusal() {
        let mut next = state(Isolation::Serializable).after_conflict(answer(12, &[("a", 11), ("b", 10)]));
        assert_eq!(next.how().revision, 12);
        assert!(!next.has_writes() && !next.is_known(&"d".into()));
        assert_eq!(next.request(), Txn::new(), "it has to be asked for first");
        assert_eq!((mod_revision(&mut next, "a"), mod_revision(&mut next, "b")), (Some(11), Some(10)));
    }

    #[test]
    fn an_answer_without_a_revision_is_a_flaw_where_one_is_needed() {
        let mut state = State::new(Isolation::Serializable);
        let how = state.how();
        assert!(state.take_in(keys(&["a"]), how, answer(0, &[("a", 5)])));
        assert_eq!((state.flaw(), mod_revision(&mut state, "a")), (Some(Flaw::NoRevision), Some(5)));
        assert!(state.take_in(keys(&["a", "b"]), how, answer(7, &[("a", 5)])));
        assert_eq!(
            state.read(&"b".into()),
            Some(None),
            "a result that is missing is not asked for again and again"
        );
        let mut state = State::new(Isolation::RepeatableReads);
        assert!(state.take_in(keys(&["a"]), how, answer(0, &[("a", 5)])));
        assert_eq!((state.flaw(), mod_revision(&mut state, "a")), (None, Some(5)));
    }
}
