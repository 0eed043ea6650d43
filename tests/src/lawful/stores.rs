//! All the stores there are in one history, the present one last, and which one the consumer believes in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use etcd_watch_client::fuzzing::list_request;
use etcd_watch_core::{KeyRange, ListRequest};
use etcd_watch_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeResponse, RequestOp,
    TxnRequest, request_op,
};

use super::settings::Keyspace;
use super::{Change, Plan, StoreAt};
use crate::model::{ModelConfig, ModelError, ModelEtcd, ProgressMode};

/// How often a watch is told how far it is, if nothing else came.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

pub(super) struct Stores {
    stores: Vec<ModelEtcd>,
    /// The one that the consumer's data is of.
    believed: usize,
    /// The present store at earlier revisions; `None` if none will be needed.
    backups: Option<Vec<ModelEtcd>>,
    /// A restored store can be told from the one before only while it is behind what was seen of that: so
    /// far it may be written.
    ceiling: i64,
    keyspace: Arc<Keyspace>,
}

impl Stores {
    pub(super) fn new(plan: &Plan, keyspace: Arc<Keyspace>, needs_backups: bool) -> Self {
        let store = ModelEtcd::new(ModelConfig {
            version: if plan.old_server { "3.5.5" } else { "3.5.30" }.to_owned(),
            progress: if plan.old_server { ProgressMode::Overtaking } else { ProgressMode::Fixed },
            fragment_bytes: plan.fragment_bytes,
            watch_batch_revisions: plan.batch_revisions,
            watch_queue: plan.watch_queue,
            progress_interval: PROGRESS_INTERVAL,
            ..ModelConfig::default()
        });
        let backups = needs_backups.then(|| vec![store.clone()]);
        Self { stores: vec![store], believed: 0, backups, ceiling: i64::MAX, keyspace }
    }

    pub(super) fn present(&self) -> &ModelEtcd {
        self.stores.last().expect("there is always one")
    }

    pub(super) fn present_mut(&mut self) -> &mut ModelEtcd {
        self.stores.last_mut().expect("there is always one")
    }

    pub(super) fn number_of_present(&self) -> usize {
        self.stores.len() - 1
    }

    fn range(&self) -> &KeyRange {
        &self.keyspace.range
    }

    /// The range at a revision of the store that the consumer's data is of.
    pub(super) fn believed_at(&self, revision: i64) -> Option<StoreAt> {
        StoreAt::new(&self.stores[self.believed], self.range(), revision)
    }

    /// What a read of the range finds now.
    pub(super) fn now(&self) -> StoreAt {
        let store = self.present();
        StoreAt::new(store, self.range(), store.revision()).expect("the store is at its revision")
    }

    /// The consumer's data is of this store from now on.
    pub(super) fn believe(&mut self, number: usize) {
        self.believed = number;
        if self.is_noticed() {
            self.ceiling = i64::MAX;
        }
    }

    /// Whether the consumer's data is of the present store.
    pub(super) fn is_noticed(&self) -> bool {
        self.believed == self.number_of_present()
    }

    /// A transaction; `None` if nothing changed.
    pub(super) fn write(&mut self, changes: &[Change]) -> Option<i64> {
        let mut keys = BTreeSet::new();
        let once = changes.iter().filter(|change| keys.insert(change.key() % self.keyspace.len()));
        let operations = once.map(|change| self.operation(*change)).collect();
        self.change(|store| {
            let request = TxnRequest { success: operations, ..TxnRequest::default() };
            store.txn(&request).expect("a lawful transaction");
        })
    }

    fn operation(&self, change: Change) -> RequestOp {
        let keyspace = &self.keyspace;
        let request = match change {
            Change::Put { key, value } => request_op::Request::RequestPut(PutRequest {
                key: keyspace.key(key).to_owned().into(),
                value: keyspace.value(key, value),
                ..PutRequest::default()
            }),
            Change::Delete { key } => request_op::Request::RequestDeleteRange(DeleteRangeRequest {
                key: keyspace.key(key).to_owned().into(),
                ..DeleteRangeRequest::default()
            }),
        };
        RequestOp { request: Some(request) }
    }

    pub(super) fn delete_all(&mut self) -> Option<i64> {
        let all =
            DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), ..DeleteRangeRequest::default() };
        self.change(|store| {
            store.delete_range(&all).expect("a lawful delete");
        })
    }

    pub(super) fn lease(&mut self, key: usize, value: u32, seconds: u32, now: Duration) -> Option<i64> {
        let (key, value) = (self.keyspace.key(key).to_owned(), self.keyspace.value(key, value));
        self.change(|store| {
            let grant = LeaseGrantRequest { id: 0, ttl: seconds.into() };
            let lease = store.lease_grant(&grant, now).expect("a lawful lease").id;
            let put = PutRequest { key: key.into(), value, lease, ..PutRequest::default() };
            store.put(&put).expect("a lawful put");
        })
    }

    /// The one way to write; `None` if nothing changed.
    fn change(&mut self, change: impl FnOnce(&mut ModelEtcd)) -> Option<i64> {
        let before = self.present().revision();
        if before >= self.ceiling {
            return None;
        }
        change(self.present_mut());
        self.keep_backup();
        Some(self.present().revision()).filter(|revision| *revision != before)
    }

    fn keep_backup(&mut self) {
        let present = self.stores.last().expect("there is always one");
        if let Some(backups) = &mut self.backups
            && backups.last().is_none_or(|last| last.revision() < present.revision())
        {
            backups.push(present.clone());
        }
    }

    /// To what revision history was compacted; `None` if it was already.
    pub(super) fn compact(&mut self, behind: i64) -> Option<i64> {
        let revision = self.present().revision() - behind;
        let request = CompactionRequest { revision, physical: false };
        (revision > 0 && self.present_mut().compact(&request).is_ok()).then_some(revision)
    }

    /// Leases end, which may change something, and progress is reported; not in a store that must not go on.
    pub(super) fn tick(&mut self, now: Duration) -> Option<i64> {
        (self.ceiling == i64::MAX).then(|| self.change(|store| store.handle_timeout(now))).flatten()
    }

    /// Another cluster's store takes this one's place.
    pub(super) fn replace(&mut self, plan: &Plan, changes: &[Change]) {
        let needs_backups = self.backups.is_some();
        let mut fresh = Self::new(plan, self.keyspace.clone(), needs_backups);
        for change in changes {
            fresh.write(&[*change]);
        }
        let mut store = fresh.stores.remove(0);
        store.config_mut().cluster_id += self.stores.len() as u64;
        self.stores.push(store);
        self.backups = needs_backups.then(|| vec![self.present().clone()]);
        self.ceiling = i64::MAX;
    }

    /// A backup takes the present store's place, of a revision that is lower than the one `seen`; what that
    /// revision is. `None` if there is none, or if yet another change of stores is not noticed.
    pub(super) fn restore(&mut self, seen: i64, back: i64, now: Duration) -> Option<i64> {
        let backups = self.backups.as_mut().filter(|_| self.believed + 1 == self.stores.len())?;
        let is_older = |store: &ModelEtcd| store.revision() <= seen.saturating_sub(back.max(1));
        let end = backups.partition_point(is_older);
        backups.truncate(end.max(1));
        let mut restored = backups.last().filter(|store| is_older(store))?.clone();
        restored.restart(now);
        self.ceiling = seen - 1;
        self.stores.push(restored);
        Some(self.present().revision())
    }

    /// A client that knows too little to notice a restored store is about to watch: the backup was restored
    /// to a new cluster then.
    pub(super) fn dispel_doubt(&mut self, known: i64) {
        if self.ceiling < i64::MAX && known <= self.ceiling {
            let number = self.stores.len() as u64;
            self.present_mut().config_mut().cluster_id += 1000 + number;
            self.ceiling = i64::MAX;
        }
    }

    /// Answers a page of a list.
    pub(super) fn list(&self, request: &ListRequest) -> Result<RangeResponse, ModelError> {
        self.present().range(&list_request(request))
    }
}
