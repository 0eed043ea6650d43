//! A model and a real server that are to be alike.

use std::{sync::Arc, time::Duration};

use etcd_watch_proto::etcdserverpb::{
    RangeRequest, ResponseHeader, kv_client::KvClient, watch_request::RequestUnion,
};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion, binaries::EtcdBinary},
    model::{HistoryEvent, ModelConfig, ProgressMode},
    server::EmbeddedEtcd,
};
use tokio::time::{Instant, sleep};
use tonic::transport::Endpoint;

use crate::{
    MAX_REQUEST_BYTES,
    compare::Said,
    difference::Difference,
    side::{Side, Stream},
};

/// What a real server takes on top of its largest request before it cuts a response.
const FRAGMENT_MARGIN: usize = 512 << 10;

/// How often a quiet watch that asked for it hears of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// A model and a real server that are to be alike. What is said to one is said to both.
pub(crate) struct Pair {
    /// The model's, then the real one's.
    pub(crate) sides: [Side; 2],
    pub(crate) progress: ProgressMode,
    /// Whether compaction takes a delete at its own revision.
    pub(crate) loses_deletes: bool,
    patience: Duration,
    model: EmbeddedEtcd,
    real: EtcdServer,
}

impl Pair {
    /// Starts both. The seed decides what is left to a server: when a watch catches up, and which of two responses goes
    /// first. Whatever is waited for has to come within `patience`.
    pub(crate) async fn start(binary: &EtcdBinary, seed: u64, patience: Duration) -> Self {
        let real = EtcdServer::builder(EtcdVersion::from(binary.clone()))
            .max_request_bytes(MAX_REQUEST_BYTES)
            .progress_notify_interval(PROGRESS_INTERVAL)
            .start_async()
            .await
            .expect("etcd starts");
        let header = identity(&real).await;
        let config = ModelConfig {
            // So that headers are equally large and responses are cut at the same places.
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            raft_term: header.raft_term,
            max_request_bytes: MAX_REQUEST_BYTES,
            fragment_bytes: MAX_REQUEST_BYTES + FRAGMENT_MARGIN,
            progress_interval: PROGRESS_INTERVAL,
            sync_interval: Duration::from_millis(if seed.is_multiple_of(2) { 100 } else { 0 }),
            interleave_seed: Some(seed),
            ..ModelConfig::like(binary.version)
        };
        let (progress, loses_deletes) = (config.progress, config.quirks.lose_deletes);
        let model = EmbeddedEtcd::start(config).await.expect("the model starts");
        let overtaking = progress == ProgressMode::Overtaking;
        let sides =
            [model.endpoint(), real.endpoint()].map(|endpoint| Side::new(endpoint, overtaking, patience));
        Self { sides, progress, loses_deletes, patience, model, real }
    }

    /// Closes all streams and waits until both servers have nothing left of them.
    pub(crate) async fn start_over(&mut self) -> Result<(), Box<Difference>> {
        self.sides.iter_mut().for_each(Side::start_over);
        let end = Instant::now() + self.patience;
        while self.model.with_model(|model| model.watcher_count()) > 0
            || !self.real.watcher_count().is_ok_and(|count| count == 0)
        {
            if Instant::now() > end {
                return Err(Difference::new("watches of streams that are closed", &[], &Said::default()));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    pub(crate) fn send(&self, stream: usize, request: &RequestUnion) {
        self.sides.iter().for_each(|side| side.send(stream, request.clone()));
    }

    /// Whether both sides have said enough in time.
    pub(crate) async fn hear_until(&mut self, mut enough: impl FnMut(usize, &[Stream]) -> bool) -> [bool; 2] {
        let [model, real] = &mut self.sides;
        let model = model.hear_until(|streams| enough(0, streams)).await;
        [model, real.hear_until(|streams| enough(1, streams)).await]
    }

    /// Waits until no watch is behind on either side: only then it's certain what a compaction does to them. False if
    /// that doesn't happen in time.
    pub(crate) async fn catch_up(&self) -> bool {
        let end = Instant::now() + self.patience;
        while self.model.with_model(|model| model.slow_watcher_count()) > 0
            || !self.real.slow_watcher_count().is_ok_and(|count| count == 0)
        {
            if Instant::now() > end {
                return false;
            }
            sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// The model's newest revision.
    pub(crate) fn revision(&self) -> i64 {
        self.model.with_model(|model| model.revision())
    }

    /// The number of changes there ever were.
    pub(crate) fn history_len(&self) -> usize {
        self.model.with_model(|model| model.history().len())
    }

    /// The model's history after so many changes.
    pub(crate) fn history_after(&self, count: usize) -> Vec<Arc<HistoryEvent>> {
        self.model.with_model(|model| model.history()[count..].to_vec())
    }
}

async fn identity(real: &EtcdServer) -> ResponseHeader {
    let channel = Endpoint::from_shared(real.endpoint()).expect("a URL").connect_lazy();
    let mut kv = KvClient::new(channel);
    let range = RangeRequest { key: "k".into(), ..RangeRequest::default() };
    kv.range(range).await.expect("etcd answers").into_inner().header.expect("a header")
}
