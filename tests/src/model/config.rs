//! What a model member is and how it behaves.

use std::time::Duration;

use etcd_watch_binaries::Version;
use etcd_watch_proto::etcdserverpb::ResponseHeader;

use crate::differences::Differences;

/// How a member answers a manual progress request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProgressMode {
    /// Behind the events already on their way, and only if every watch of the stream is synced; otherwise
    /// not at all. etcd 3.4.25, 3.5.8 and later.
    #[default]
    Fixed,
    /// At once, with the store's revision, ahead of the events on their way. etcd before that (etcd#15220).
    Overtaking,
}

/// In which order a transaction's operations are checked, and so for which of several reasons it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TxnChecks {
    /// All puts before all reads; of a put, whether the key it keeps something of is there before its lease. etcd 3.4
    /// and 3.5.
    #[default]
    PutsFirst,
    /// One operation after the other. etcd 3.6.
    InOrder,
    /// One after the other; of a put, its lease first. etcd 3.7.
    LeaseFirst,
}

/// Ways in which other servers and proxies differ from a member. All off by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quirks {
    /// Watch ids that clients ask for are ignored; the server assigns its own.
    pub assign_ids: bool,
    /// The `Created` reply is made up: no cluster, member or term, and as its revision the one the request
    /// started at.
    pub synthetic_created: bool,
    /// A `Created` reply lets the one behind it go first, if that one already waits.
    pub reorder_created: bool,
    /// Fragments are never made.
    pub ignore_fragment: bool,
    /// Fragments of different watches' responses take turns: etcd sends those of a response one after the other.
    pub interleave_fragments: bool,
    /// Manual progress requests are never answered.
    pub ignore_progress_requests: bool,
    /// Progress is also reported to watches that start in the future, with a revision below their start
    /// (etcd before 3.4.38, 3.5.22 and 3.6.2, etcd#20221).
    pub progress_before_start: bool,
    /// Starts below 0 are taken for revisions that are compacted, instead of refused (etcd before 3.4.40, 3.5.24 and
    /// 3.6.6, etcd#20693). If nothing was compacted yet, a real server may lose events over such a watch; the model
    /// gives it all there is.
    pub negative_start: bool,
    /// Compaction takes a delete that happened at its very revision, though watches may start there (etcd before
    /// 3.4.36 and 3.5.18, etcd#18089).
    pub lose_deletes: bool,
    /// Reads of keys only leave out the lease too, unless they are sorted by value (etcd 3.7).
    pub bare_keys: bool,
    /// Responses on watch streams carry no header at all.
    pub omit_headers: bool,
}

impl Quirks {
    /// What etcd's `grpc-proxy` does.
    #[must_use]
    pub fn grpc_proxy() -> Self {
        Self {
            assign_ids: true,
            synthetic_created: true,
            reorder_created: true,
            ignore_fragment: true,
            ignore_progress_requests: true,
            ..Self::default()
        }
    }
}

/// What a model member is and how it behaves. The defaults are those of etcd 3.5, but for
/// [`sync_interval`](Self::sync_interval).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    /// Id of the cluster, in every header; 0 is no id.
    pub cluster_id: u64,
    /// Id of the member, in every header.
    pub member_id: u64,
    /// Raft term at the start; every restart raises it.
    pub raft_term: u64,
    /// Name of the member.
    pub name: String,
    /// Where clients reach the member, as the member list tells; the embedded server fills it in if empty.
    pub client_urls: Vec<String>,
    /// Version of its software, as `Maintenance.Status` tells.
    pub version: String,
    /// Most conditions, and most operations in either branch, of one transaction.
    pub max_txn_ops: usize,
    /// Largest put or transaction, in encoded bytes.
    pub max_request_bytes: usize,
    /// Size from which a fragmented watch's response is cut, in encoded bytes: etcd's request limit and
    /// 512 KiB on top.
    pub fragment_bytes: usize,
    /// Most revisions in one response of a watch that catches up.
    pub watch_batch_revisions: usize,
    /// Responses a stream holds for its reader; past it, watches fall behind and catch up from history.
    pub watch_queue: usize,
    /// Replies to requests a stream holds before it stops wanting requests.
    pub control_queue: usize,
    /// Most watches that catch up in one pass.
    pub watchers_per_sync: usize,
    /// How often watches that are behind catch up (100 ms in etcd 3.5). Zero, the default, is whenever the
    /// stream's reader has emptied its queue: quicker, and one thing less that depends on time.
    pub sync_interval: Duration,
    /// How often a watch that asked for progress notifications gets one, if it got nothing else. etcd adds
    /// up to a tenth of jitter; the model doesn't.
    pub progress_interval: Duration,
    /// How manual progress requests are answered.
    pub progress: ProgressMode,
    /// In which order a transaction's operations are checked.
    pub txn_checks: TxnChecks,
    /// Shortest time to live of a lease, in seconds; shorter wishes get this.
    pub min_lease_ttl: i64,
    /// etcd takes replies to requests and events from two queues, whichever comes up. With a seed, so does
    /// the model; without, replies always come first.
    pub interleave_seed: Option<u64>,
    /// Differences from a plain etcd member.
    pub quirks: Quirks,
}

impl ModelConfig {
    /// That of an etcd of this version, as far as [`Differences`] tells and a model without users can be like it;
    /// otherwise by default.
    #[must_use]
    pub fn like(version: Version) -> Self {
        let differences = Differences::of(version);
        Self {
            version: version.to_string(),
            progress: if differences.early_progress { ProgressMode::Overtaking } else { ProgressMode::Fixed },
            txn_checks: differences.txn_checks,
            quirks: Quirks {
                progress_before_start: differences.progress_before_start,
                lose_deletes: differences.loses_deletes,
                negative_start: differences.negative_start,
                bare_keys: differences.bare_keys,
                ..Quirks::default()
            },
            ..Self::default()
        }
    }

    /// Whether it has `KV.RangeStream`, as etcd of its version does.
    #[must_use]
    pub fn has_range_stream(&self) -> bool {
        let version: Result<Version, _> = self.version.parse();
        version.is_ok_and(|version| Differences::of(version).range_stream)
    }

    /// The header of a response at a revision.
    pub(crate) fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term: self.raft_term,
        }
    }

    /// The progress interval, which can't be nothing at all.
    pub(super) fn progress_interval(&self) -> Duration {
        self.progress_interval.max(Duration::from_millis(1))
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            cluster_id: 0x00e7_cd00_0000_0001,
            member_id: 0x00e7_cd00_0000_0101,
            raft_term: 2,
            name: "model".to_owned(),
            client_urls: Vec::new(),
            version: "3.5.30".to_owned(),
            max_txn_ops: 128,
            max_request_bytes: 1536 * 1024,
            fragment_bytes: 2048 * 1024,
            watch_batch_revisions: 1000,
            watch_queue: 128,
            control_queue: 16,
            watchers_per_sync: 512,
            sync_interval: Duration::ZERO,
            progress_interval: Duration::from_secs(600),
            progress: ProgressMode::Fixed,
            txn_checks: TxnChecks::PutsFirst,
            min_lease_ttl: 2,
            interleave_seed: None,
            quirks: Quirks::default(),
        }
    }
}
