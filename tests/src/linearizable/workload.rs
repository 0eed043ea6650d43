//! Calls at random.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use etcd_watch_client::cache::Cache;
use etcd_watch_core::KeyRange;
use etcd_watch_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request as Op,
};
use fastrand::Rng;

use super::{recorder::RecordedClient, translate::range_request};

/// How long the shortest leases live, in seconds: etcd gives no less.
const TTL: u32 = 2;
/// How many revisions back a read of the past goes, at most.
const PAST: i64 = 20;

/// Which calls there are beside reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// Grants and ends of leases, and puts that hang keys on them.
    pub leases: bool,
    /// Renewals of leases. Some versions let a leader that is none any longer answer them; the lease then seems to end
    /// before its time.
    pub renewals: bool,
    /// Reads at revisions of the past, which a compaction may have taken.
    pub past: bool,
    /// Reads of keys without their values: 3.7 and the lines before tell different things of those, and a cluster may have
    /// members of both.
    pub bare_reads: bool,
    /// One call in so many is given up before it has ended; 0 for none.
    pub given_up: u32,
}

/// One client that makes calls at random, one after the other. The same seed chooses the same, as far as answers go the
/// same way.
#[derive(Debug)]
pub struct Workload {
    client: RecordedClient,
    prefix: String,
    keys: u32,
    kinds: Kinds,
    random: Rng,
    /// The revision at which a key was last changed, as far as this client has heard.
    heard: BTreeMap<Bytes, i64>,
    newest: i64,
    lease: i64,
}

impl Workload {
    /// Calls about so many keys that have a prefix.
    #[must_use]
    pub fn new(
        client: RecordedClient,
        prefix: impl Into<String>,
        keys: u32,
        kinds: Kinds,
        seed: u64,
    ) -> Self {
        Self {
            client,
            prefix: prefix.into(),
            keys: keys.max(1),
            kinds,
            random: Rng::with_seed(seed),
            heard: BTreeMap::new(),
            newest: 0,
            lease: 0,
        }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &RecordedClient {
        &self.client
    }

    /// Makes one call, or gives it up. What comes of it is written down.
    pub async fn step(&mut self, cache: Option<&Cache>) {
        if self.kinds.given_up > 0 && self.random.u32(..self.kinds.given_up) == 0 {
            let patience = Duration::from_micros(self.random.u64(..5_000));
            // It is written down that it has not ended.
            let _ended = tokio::time::timeout(patience, self.call(cache)).await;
        } else {
            self.call(cache).await;
        }
    }

    async fn call(&mut self, cache: Option<&Cache>) {
        match self.random.u32(..100) {
            0..22 => self.put().await,
            22..30 => self.delete().await,
            30..45 => self.txn().await,
            45..55 => self.conditional().await,
            55..75 => self.read().await,
            75..85 if self.kinds.leases => self.lease().await,
            _ => match cache {
                Some(cache) => self.cached(cache).await,
                None => self.read().await,
            },
        }
    }

    fn key(&mut self) -> Bytes {
        format!("{}{}", self.prefix, self.random.u32(..self.keys)).into()
    }

    /// One key, or all of them.
    fn range(&mut self) -> (Bytes, Bytes) {
        if self.random.bool() {
            return (self.key(), Bytes::new());
        }
        let all = KeyRange::prefix(self.prefix.clone());
        (all.start().clone(), all.end().clone())
    }

    fn value(&self) -> Bytes {
        format!("v{}", self.client.recorder().unique()).into()
    }

    fn put_request(&mut self) -> PutRequest {
        let hangs = self.kinds.leases && self.lease != 0 && self.random.u32(..4) == 0;
        PutRequest {
            key: self.key(),
            value: self.value(),
            lease: if hangs { self.lease } else { 0 },
            prev_kv: self.random.bool(),
            ..PutRequest::default()
        }
    }

    /// Of one key, or of several, but never of those that hang on leases alone.
    fn delete_request(&mut self) -> DeleteRangeRequest {
        let (one, other) = (self.key(), self.key());
        let (key, range_end) = match self.random.u32(..6) {
            0 if one != other => (one.clone().min(other.clone()), one.max(other)),
            _ => (one, Bytes::new()),
        };
        DeleteRangeRequest { key, range_end, prev_kv: self.random.bool() }
    }

    fn range_request(&mut self) -> RangeRequest {
        let (key, range_end) = self.range();
        RangeRequest {
            key,
            range_end,
            limit: if self.random.u32(..4) == 0 { self.random.i64(1..4) } else { 0 },
            count_only: self.random.u32(..8) == 0,
            keys_only: self.kinds.bare_reads && self.random.u32(..8) == 0,
            ..RangeRequest::default()
        }
    }

    async fn put(&mut self) {
        let put = self.put_request();
        let key = put.key.clone();
        if let Ok(put) = self.client.put(put).await {
            let revision = put.header.unwrap_or_default().revision;
            self.heard.insert(key, revision);
            self.newest = self.newest.max(revision);
        }
    }

    async fn delete(&mut self) {
        let delete = self.delete_request();
        if let Ok(delete) = self.client.delete(delete).await {
            self.newest = self.newest.max(delete.header.unwrap_or_default().revision);
        }
    }

    async fn read(&mut self) {
        let mut range = self.range_request();
        match self.random.u32(..5) {
            0 => range.serializable = true,
            1 if self.kinds.past && self.newest > PAST => {
                range.revision = self.newest - self.random.i64(..PAST);
            }
            _ => {}
        }
        if let Ok(read) = self.client.get(range).await {
            for kv in read.kvs {
                self.heard.insert(kv.key, kv.mod_revision);
            }
            self.newest = self.newest.max(read.header.unwrap_or_default().revision);
        }
    }

    /// A condition that often holds.
    fn condition(&mut self) -> Compare {
        let key = self.key();
        let (target, with) = match (self.random.u32(..3), self.heard.get(&key)) {
            (0, Some(heard)) => (CompareTarget::Mod, TargetUnion::ModRevision(*heard)),
            (1, Some(heard)) => (CompareTarget::Create, TargetUnion::CreateRevision(*heard)),
            _ => (CompareTarget::Version, TargetUnion::Version(self.random.i64(..3))),
        };
        let result =
            [CompareResult::Equal, CompareResult::Greater, CompareResult::Less, CompareResult::NotEqual];
        let result = result[self.random.usize(..result.len())];
        let with = Some(with);
        Compare {
            result: result.into(),
            target: target.into(),
            key,
            target_union: with,
            ..Compare::default()
        }
    }

    async fn txn(&mut self) {
        let compare = (0..self.random.u32(..3)).map(|_| self.condition()).collect();
        let branches = [self.branch(), self.branch()];
        let [success, failure] = branches;
        if let Ok(txn) = self.client.txn(TxnRequest { compare, success, failure }).await {
            self.newest = self.newest.max(txn.header.unwrap_or_default().revision);
        }
    }

    /// Reads of all keys around puts of several, none twice, or around a delete.
    fn branch(&mut self) -> Vec<RequestOp> {
        let read = range_request(&KeyRange::prefix(self.prefix.clone()));
        let mut ops = vec![Op::RequestRange(read.clone())];
        match self.random.u32(..4) {
            0 => {}
            1 => ops.push(Op::RequestDeleteRange(self.delete_request())),
            _ => {
                let mut puts: BTreeMap<Bytes, PutRequest> = BTreeMap::new();
                for _ in 0..self.random.u32(1..4) {
                    let put = self.put_request();
                    puts.insert(put.key.clone(), put);
                }
                ops.extend(puts.into_values().map(Op::RequestPut));
            }
        }
        ops.push(Op::RequestRange(read));
        ops.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
    }

    /// A write under the condition that a key is as it was heard of.
    async fn conditional(&mut self) {
        let put = self.put_request();
        let heard = self.heard.get(&put.key).copied();
        // What comes of it is written down.
        let _answer = match (self.random.u32(..3), heard) {
            (0, Some(heard)) => self.client.delete_if(put.key, heard).await,
            (1, Some(heard)) => self.client.update_if(put, heard).await,
            _ => self.client.create(put).await,
        };
    }

    async fn lease(&mut self) {
        if self.lease == 0 {
            // Its id is as unique as a value.
            let id = i64::try_from(self.client.recorder().unique()).unwrap_or(i64::MAX);
            // Puts try it even if it may not have been granted.
            self.lease = id;
            let _granted = self.client.grant(id, TTL).await;
            return;
        }
        match self.random.u32(..8) {
            0..3 if self.kinds.renewals => drop(self.client.keep_alive_once(self.lease).await),
            3 => {
                let lease = std::mem::take(&mut self.lease);
                let _ended = self.client.revoke(lease).await;
            }
            // It runs out, with the keys on it.
            4 => self.lease = 0,
            _ => {
                // A key that nobody else puts, nor deletes, for it to be there when the lease runs out.
                let key = format!("{}lease{}", self.prefix, self.lease).into();
                let put = PutRequest { key, lease: self.lease, ..self.put_request() };
                let _put = self.client.put(put).await;
            }
        }
    }

    async fn cached(&mut self, cache: &Cache) {
        // What comes of it is written down.
        let _read = match self.random.u32(..4) {
            0 => self.client.consistent(cache).await,
            1 if self.newest > 0 => self.client.wait_for(cache, self.newest).await,
            2 => {
                let limit = Duration::from_millis(self.random.u64(..200));
                self.client.snapshot_within(cache, limit).await
            }
            _ => self.client.snapshot(cache).await,
        };
    }
}
