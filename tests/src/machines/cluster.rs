//! The members: one log of writes, which each of them applies in its own time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_core::ServerVersion;
use etcd_watch_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, request_op::Request,
};

use super::net::LinkId;
use super::plan::{Change, KEYS, Servers, Setup};
use super::schedule::Turn;
use crate::model::{HistoryEvent, ModelConfig, ModelEtcd, ModelStream, ProgressMode, Quirks};

/// What all members agree on, in this order.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Write(Arc<TxnRequest>),
    Compact(i64),
}

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) etcd: ModelEtcd,
    pub(super) version: Option<ServerVersion>,
    pub(super) streams: BTreeMap<ModelStream, LinkId>,
    /// When it learns of each entry that it hasn't applied yet, in the log's order.
    pub(super) arriving: VecDeque<Duration>,
    pub(super) applied: usize,
    pub(super) is_up: bool,
    pub(super) frozen_until: Duration,
    pub(super) isolated_until: Duration,
    pub(super) lags_until: Duration,
    pub(super) turn: Turn,
}

/// The store of one history; a restored one is another.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) members: Vec<Member>,
    pub(super) log: Vec<Entry>,
    /// A store that has applied everything at once: its history is the truth.
    pub(super) truth: ModelEtcd,
    pub(super) backup: Option<ModelEtcd>,
    /// The histories of the stores before a restore.
    pub(super) past: Vec<Vec<Arc<HistoryEvent>>>,
    /// The last revision of each that the next one shares.
    forks: Vec<i64>,
    /// The cluster id of each.
    ids: Vec<u64>,
    /// Tokens with lower numbers are not good any more.
    pub(super) tokens_from: u64,
    /// The highest revision that was ever compacted.
    pub(super) compacted: i64,
    values: u64,
}

impl Cluster {
    pub(super) fn new(setup: &Setup, seed: u64) -> Self {
        let config = |member: usize| {
            let is_old = match setup.servers {
                Servers::Old => true,
                Servers::Mixed => member.is_multiple_of(2),
                Servers::New | Servers::Quiet | Servers::Proxy => false,
            };
            let quirks = match setup.servers {
                Servers::Proxy => Quirks::grpc_proxy(),
                _ => Quirks { progress_before_start: is_old, ..Quirks::default() },
            };
            let (version, progress) = match (is_old, setup.servers) {
                (true, _) => (ServerVersion::new(3, 4, 23), ProgressMode::Overtaking),
                (false, Servers::Quiet) => (ServerVersion::new(3, 5, 10), ProgressMode::Fixed),
                (false, _) => (ServerVersion::new(3, 5, 30), ProgressMode::Fixed),
            };
            let config = ModelConfig {
                cluster_id: 0xc1,
                member_id: 1 + member as u64,
                fragment_bytes: setup.fragment_bytes,
                watch_queue: setup.watch_queue,
                watch_batch_revisions: setup.batch_revisions,
                sync_interval: setup.sync_interval,
                progress_interval: setup.progress_interval,
                progress,
                interleave_seed: Some(seed ^ member as u64),
                quirks,
                ..ModelConfig::default()
            };
            (config, (setup.servers != Servers::Proxy).then_some(version))
        };
        let member = |at: usize| {
            let (config, version) = config(at);
            let mut etcd = ModelEtcd::new(config);
            deny_secret(&mut etcd);
            Member {
                etcd,
                version,
                streams: BTreeMap::new(),
                arriving: VecDeque::new(),
                applied: 0,
                is_up: true,
                frozen_until: Duration::ZERO,
                isolated_until: Duration::ZERO,
                lags_until: Duration::ZERO,
                turn: Turn::default(),
            }
        };
        Self {
            members: (0..setup.members).map(member).collect(),
            log: Vec::new(),
            truth: ModelEtcd::new(ModelConfig { cluster_id: 0xc1, ..ModelConfig::default() }),
            backup: None,
            past: Vec::new(),
            forks: Vec::new(),
            ids: Vec::new(),
            tokens_from: 0,
            compacted: 0,
            values: 0,
        }
    }

    /// The number of the store that is there now.
    pub(super) fn epoch(&self) -> usize {
        self.past.len()
    }

    /// The store in which someone finds themselves who had got as far as `position` in a store: one that was
    /// restored from a backup that has all of that, or the same.
    pub(super) fn successor(&self, epoch: usize, position: i64) -> usize {
        (epoch..self.epoch()).find(|&epoch| position > self.forks[epoch]).unwrap_or_else(|| self.epoch())
    }

    /// Whether a store is gone, and only its revision tells it from the one that is there now.
    pub(super) fn is_replaced_in_silence(&self, epoch: usize) -> bool {
        self.ids.get(epoch) == Some(&self.truth.config().cluster_id)
    }

    /// Whether a restore since the `epoch`th store has made the cluster another one.
    pub(super) fn has_other_id_since(&self, epoch: usize) -> bool {
        let id = self.truth.config().cluster_id;
        self.ids.iter().skip(epoch).any(|before| *before != id)
    }

    /// A store's history, by its number.
    pub(super) fn history(&self, epoch: usize) -> &[Arc<HistoryEvent>] {
        self.past.get(epoch).map_or_else(|| self.truth.history(), Vec::as_slice)
    }

    pub(super) fn revision(&self) -> i64 {
        self.truth.revision()
    }

    fn takes_part(&self, member: usize, now: Duration) -> bool {
        let member = &self.members[member];
        member.is_up && member.frozen_until <= now && member.isolated_until <= now
    }

    /// Whether a member belongs to a majority.
    pub(super) fn has_leader(&self, member: usize, now: Duration) -> bool {
        let healthy = (0..self.members.len()).filter(|&member| self.takes_part(member, now)).count();
        self.takes_part(member, now) && healthy * 2 > self.members.len()
    }

    /// Whether anybody can write.
    pub(super) fn has_majority(&self, now: Duration) -> bool {
        (0..self.members.len()).any(|member| self.has_leader(member, now))
    }

    /// Agrees on an entry; false if it comes to nothing.
    pub(super) fn commit(&mut self, entry: Entry) -> bool {
        let is_done = match &entry {
            Entry::Write(txn) => self.truth.txn(txn).is_ok(),
            Entry::Compact(revision) => {
                let is_done = self.truth.compact(&compaction(*revision)).is_ok();
                if is_done {
                    self.compacted = self.compacted.max(*revision);
                }
                is_done
            }
        };
        if is_done {
            self.log.push(entry);
        }
        is_done
    }

    /// Lets a member apply what it has learned of by now.
    pub(super) fn apply(&mut self, member: usize, now: Duration) {
        let log = &self.log;
        let member = &mut self.members[member];
        while member.arriving.front().is_some_and(|at| *at <= now) {
            member.arriving.pop_front();
            match &log[member.applied] {
                Entry::Write(txn) => drop(member.etcd.txn(txn)),
                Entry::Compact(revision) => drop(member.etcd.compact(&compaction(*revision))),
            }
            member.applied += 1;
        }
    }

    /// The transaction that makes changes, each with a value of its own.
    pub(super) fn transaction(&mut self, changes: &[Change]) -> TxnRequest {
        let operation = |change: &Change| {
            let request = match *change {
                Change::Put { key, bytes } => {
                    self.values += 1;
                    let mut value = self.values.to_string().into_bytes();
                    value.resize(value.len() + bytes, b'.');
                    let key = Bytes::from_static(KEYS[key].as_bytes());
                    Request::RequestPut(PutRequest { key, value: value.into(), ..PutRequest::default() })
                }
                Change::Delete { key } => Request::RequestDeleteRange(DeleteRangeRequest {
                    key: Bytes::from_static(KEYS[key].as_bytes()),
                    ..DeleteRangeRequest::default()
                }),
                Change::DeletePrefix(prefix) => {
                    let range = etcd_watch_core::KeyRange::prefix(prefix);
                    Request::RequestDeleteRange(DeleteRangeRequest {
                        key: range.start().clone(),
                        range_end: range.end().clone(),
                        ..DeleteRangeRequest::default()
                    })
                }
            };
            RequestOp { request: Some(request) }
        };
        TxnRequest { success: changes.iter().map(operation).collect(), ..TxnRequest::default() }
    }

    /// Puts the backup in the place of the store. False if there is none, or nothing has happened since.
    pub(super) fn restore(&mut self, new_cluster: bool) -> bool {
        let Some(backup) = self.backup.clone().filter(|backup| backup.revision() < self.revision()) else {
            return false;
        };
        self.past.push(self.truth.history().to_vec());
        let cluster_id = self.truth.config().cluster_id + u64::from(new_cluster);
        self.forks.push(backup.revision());
        self.ids.push(self.truth.config().cluster_id);
        self.truth = backup;
        self.truth.config_mut().cluster_id = cluster_id;
        self.log.clear();
        for member in &mut self.members {
            let config = ModelConfig { cluster_id, ..member.etcd.config().clone() };
            member.etcd = self.truth.clone();
            *member.etcd.config_mut() = config;
            deny_secret(&mut member.etcd);
            member.applied = 0;
            member.arriving.clear();
        }
        true
    }
}

fn compaction(revision: i64) -> CompactionRequest {
    CompactionRequest { revision, physical: false }
}

/// What the only key that nobody may watch is denied with.
pub(super) const DENIED: &str = "etcdserver: permission denied";

pub(super) fn deny_secret(etcd: &mut ModelEtcd) {
    etcd.allow_watches();
    etcd.deny_watches(super::plan::SECRET, "", DENIED);
}
