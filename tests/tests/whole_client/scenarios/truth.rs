//! What the store's history says of a queue of contenders, what the store has at this moment, and writes at the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use etcd_watch_client::{BoxError, KeyRange};
use etcd_watch_proto::etcdserverpb::{RequestOp, TxnRequest, request_op::Request};
use etcd_watch_proto::mvccpb::KeyValue;
use etcd_watch_testkit::linearizable::range_request;
use etcd_watch_testkit::model::{EventKind, HistoryEvent};
use etcd_watch_testkit::sim::Etcd;

/// Everything that has changed so far.
pub(super) fn history(etcd: &Etcd) -> Vec<Arc<HistoryEvent>> {
    etcd.look(|model| model.history().to_vec())
}

/// The keys with a prefix at this moment.
pub(crate) fn keys(etcd: &Etcd, prefix: &str) -> Vec<KeyValue> {
    let read = range_request(&KeyRange::prefix(prefix.to_owned()));
    etcd.look(|model| model.range(&read)).expect("a lawful range").kvs
}

/// Whether the lease exists at this moment.
pub(super) fn has_lease(etcd: &Etcd, id: i64) -> bool {
    etcd.look(|model| model.lease_leases().leases).iter().any(|lease| lease.id == id)
}

/// Writes at the store itself, in one transaction.
pub(super) fn write(etcd: &Etcd, requests: impl IntoIterator<Item = Request>) {
    let op = |request| RequestOp { request: Some(request) };
    let txn = TxnRequest { success: requests.into_iter().map(op).collect(), ..TxnRequest::default() };
    etcd.with_model(|model| model.txn(&txn)).expect("a lawful transaction");
}

/// A claim in a queue, from its creation to its deletion.
pub(super) struct Place {
    pub(super) key: Bytes,
    pub(super) lease: i64,
    /// Whether it was ever the first.
    pub(super) was_first: bool,
    pub(super) deleted: Option<i64>,
}

/// The queue under a prefix, revision by revision.
pub(super) struct Queue {
    /// The last put of the first key, from each revision at which that changed.
    heads: Vec<(i64, Option<Arc<HistoryEvent>>)>,
    pub(super) places: Vec<Place>,
}

impl Queue {
    pub(super) fn of(etcd: &Etcd, prefix: &str) -> Self {
        let history = history(etcd);
        let (mut queued, mut heads) = (BTreeMap::<Bytes, Arc<HistoryEvent>>::new(), Vec::new());
        let mut places: BTreeMap<i64, Place> = BTreeMap::new();
        for changes in history.chunk_by(|one, next| one.revision == next.revision) {
            for change in changes.iter().filter(|change| change.key.starts_with(prefix.as_bytes())) {
                if change.kind == EventKind::Put {
                    let key = change.key.clone();
                    let lease = change.lease;
                    let place = Place { key, lease, was_first: false, deleted: None };
                    places.entry(change.create_revision).or_insert(place);
                    queued.insert(change.key.clone(), change.clone());
                } else if let Some(gone) = queued.remove(&change.key)
                    && let Some(place) = places.get_mut(&gone.create_revision)
                {
                    place.deleted = Some(change.revision);
                }
            }
            let head = queued.values().min_by_key(|put| put.create_revision).cloned();
            let before = heads.last().and_then(|(_, head): &(i64, Option<Arc<HistoryEvent>>)| head.as_ref());
            if before.map(|head| head.revision) != head.as_ref().map(|head| head.revision) {
                if let Some(place) = head.as_ref().and_then(|head| places.get_mut(&head.create_revision)) {
                    place.was_first = true;
                }
                heads.push((changes[0].revision, head));
            }
        }
        Self { heads, places: places.into_values().collect() }
    }

    /// Who was the first at a revision: the last put of its key.
    fn first_at(&self, revision: i64) -> Option<&Arc<HistoryEvent>> {
        let after = self.heads.partition_point(|(since, _)| *since <= revision);
        self.heads.get(after.checked_sub(1)?)?.1.as_ref()
    }

    /// Every first, and every value of it, in order, with the revision since which it is that.
    pub(super) fn firsts(&self) -> impl Iterator<Item = (i64, &Arc<HistoryEvent>)> {
        self.heads.iter().filter_map(|(since, head)| Some((*since, head.as_ref()?)))
    }

    /// Each put of the key `log` has the token of whoever was the first when it was executed. How many there were.
    pub(super) fn check_log(&self, etcd: &Etcd, log: &str) -> Result<usize, BoxError> {
        let mut count = 0;
        for put in history(etcd).iter().filter(|change| change.key == log) {
            let owner = self.first_at(put.revision - 1).map(|head| head.create_revision.to_string());
            if owner.as_ref().is_none_or(|owner| put.value != *owner) {
                let at = put.revision;
                return Err(format!("the owner {:?} wrote at {at}: it was {owner:?}", put.value).into());
            }
            count += 1;
        }
        Ok(count)
    }

    /// Nobody has left the queue before its turn, unless its lease had ended.
    pub(super) fn check_places_are_kept(&self) -> Result<(), BoxError> {
        let mut left = BTreeSet::new();
        for place in &self.places {
            if left.contains(&place.lease) {
                return Err(format!("{:?} had to queue again", place.key).into());
            }
            if place.deleted.is_some() && !place.was_first {
                left.insert(place.lease);
            }
        }
        Ok(())
    }
}
