//! What one operation does to a state: the sequential specification.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_proto::etcdserverpb::{LeaseGrantRequest, request_op};
use etcd_watch_proto::mvccpb::{Event, KeyValue, event::EventType};

use super::history::{Answer, Request};
use crate::model::{ModelConfig, ModelError, ModelEtcd};

/// Long enough for whatever is tried.
const LEASE_SECONDS: i64 = 1_000_000;

/// The pairs in scope at a revision.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) revision: i64,
    pairs: BTreeMap<Bytes, KeyValue>,
}

/// What an operation comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Done {
    pub(super) answer: Answer,
    /// The changes of the revision that it makes; none if it changes nothing.
    pub(super) events: Vec<Event>,
}

impl State {
    pub(super) fn new(revision: i64, pairs: &[KeyValue]) -> Self {
        Self { revision, pairs: pairs.iter().map(|kv| (kv.key.clone(), kv.clone())).collect() }
    }

    /// Goes on to the next revision.
    pub(super) fn apply(&mut self, events: &[Event]) {
        self.revision += 1;
        for (event, kv) in events.iter().filter_map(|event| Some((event, event.kv.as_ref()?))) {
            match event.r#type() {
                EventType::Put => drop(self.pairs.insert(kv.key.clone(), kv.clone())),
                EventType::Delete => drop(self.pairs.remove(&kv.key)),
            }
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.pairs.get(key)
    }

    /// The keys on a lease, in order.
    pub(super) fn attached(&self, lease: i64) -> impl Iterator<Item = &Bytes> {
        self.pairs.iter().filter(move |(_, kv)| kv.lease == lease).map(|(key, _)| key)
    }

    /// Whether changes are the deletes of all keys of a lease, which has some.
    pub(super) fn is_end_of(&self, lease: i64, events: &[Event]) -> bool {
        let deleted = events
            .iter()
            .map(|event| event.kv.as_ref().filter(|_| event.r#type() == EventType::Delete).map(|kv| &kv.key));
        !events.is_empty() && deleted.eq(self.attached(lease).map(Some))
    }

    /// Makes a request here, and leaves the state as it is.
    ///
    /// # Errors
    /// What etcd refuses it for.
    pub(super) fn make(&self, request: &Request, config: &ModelConfig) -> Result<Done, ModelError> {
        let pairs = self.pairs.values().cloned().collect();
        let mut store = ModelEtcd::starting_at(config.clone(), self.revision, pairs);
        grant_all(&mut store, request);
        let before = store.history().len();
        let answer = match request {
            Request::Range(range) | Request::Cached(range, _) => Answer::Range(store.range(range)?),
            Request::Put(put) => Answer::Put(store.put(put)?),
            Request::Delete(delete) => Answer::Delete(store.delete_range(delete)?),
            Request::Txn(txn) => Answer::Txn(store.txn(txn)?),
            Request::Grant(grant) => Answer::Grant(store.lease_grant(grant, Duration::ZERO)?),
            Request::Revoke(revoke) => {
                store.lease_revoke(revoke)?;
                Answer::Revoke(store.revision())
            }
            Request::KeepAlive(keep_alive) => {
                Answer::KeepAlive(store.lease_keep_alive(keep_alive, Duration::ZERO).ttl)
            }
        };
        let events = store.history()[before..].iter().map(|change| change.to_event()).collect();
        Ok(Done { answer: answer.bare(), events })
    }
}

/// The leases that it names exist: whether they do is looked at elsewhere.
fn grant_all(store: &mut ModelEtcd, request: &Request) {
    let mut grant = |id: i64| {
        if id != 0 {
            // It may be there already.
            let _granted = store.lease_grant(&LeaseGrantRequest { id, ttl: LEASE_SECONDS }, Duration::ZERO);
        }
    };
    match request {
        Request::Revoke(revoke) => grant(revoke.id),
        request => request.for_each_put(&mut |put| grant(put.lease)),
    }
}

/// Whether a request reads at revisions of its choice within a transaction, which a state alone can't answer.
pub(super) fn reads_the_past(request: &Request) -> bool {
    let Request::Txn(txn) = request else { return false };
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(request_op::Request::RequestRange(range)) => range.revision > 0,
        Some(request_op::Request::RequestTxn(txn)) => reads_the_past(&Request::Txn(txn.clone())),
        _ => false,
    })
}
