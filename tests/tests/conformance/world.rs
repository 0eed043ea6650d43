//! One server of some kind behind a fault proxy, and what a scenario does to it.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use etcd_watch_client::{
    Client, ClientBuilder, Compact, Delete, Get, KeyRange, Put, ServerVersion, Stats, Txn, WatchConfig,
};
use etcd_watch_proto::{
    etcdserverpb::{
        WatchCreateRequest, WatchRequest as WireRequest, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
    mvccpb::Event,
};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion, wait_until},
    model::ModelConfig,
    proxy::{Cut, FaultProxy},
    server::EmbeddedEtcd,
};
use tokio::time::timeout;

use crate::runtime::On;

/// For any one thing a scenario waits for: much longer than it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A scenario that takes longer hangs.
const SCENARIO_DEADLINE: Duration = Duration::from_secs(400);

/// Which kind of server a scenario runs against, and what its clients run on.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) server: ServerKind,
    pub(crate) on: On,
}

#[derive(Clone, Debug)]
pub(crate) enum ServerKind {
    Model,
    Real(EtcdVersion),
}

/// How the server is to differ from one with default settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) progress_interval: Option<Duration>,
    pub(crate) max_request_bytes: Option<usize>,
}

/// Runs a scenario to its end, or fails in time.
pub(crate) fn run<F: Future<Output = ()>>(server: ServerKind, on: On, scenario: impl FnOnce(Backend) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("tokio starts").block_on(async {
        let scenario = scenario(Backend { server, on });
        timeout(SCENARIO_DEADLINE, scenario).await.expect("the scenario ends in time");
    });
}

enum Server {
    Model(EmbeddedEtcd),
    Real(EtcdServer),
}

impl Server {
    fn endpoint(&self) -> String {
        match self {
            Self::Model(server) => server.endpoint(),
            Self::Real(server) => server.endpoint(),
        }
    }
}

/// One server behind a fault proxy.
pub(crate) struct World {
    server: Server,
    on: On,
    /// Between the server and the clients made by [`client`](World::client).
    pub(crate) proxy: FaultProxy,
    /// A client past the proxy, to write with.
    pub(crate) direct: Client,
    /// What has been read of the store's history so far: compaction takes it away.
    history: Mutex<Vec<Event>>,
}

impl World {
    pub(crate) async fn start(backend: Backend) -> Self {
        Self::with(backend, Setup::default()).await
    }

    pub(crate) async fn with(backend: Backend, setup: Setup) -> Self {
        let server = match backend.server {
            ServerKind::Model => {
                let mut config = ModelConfig::default();
                if let Some(interval) = setup.progress_interval {
                    config.progress_interval = interval;
                }
                if let Some(bytes) = setup.max_request_bytes {
                    config.max_request_bytes = bytes;
                    config.fragment_bytes = bytes + (512 << 10);
                }
                Server::Model(EmbeddedEtcd::start(config).await.expect("the model starts"))
            }
            ServerKind::Real(version) => {
                let mut builder = EtcdServer::builder(version);
                if let Some(interval) = setup.progress_interval {
                    builder = builder.progress_notify_interval(interval);
                }
                if let Some(bytes) = setup.max_request_bytes {
                    builder = builder.max_request_bytes(bytes);
                }
                Server::Real(builder.start_async().await.expect("etcd starts"))
            }
        };
        let proxy = FaultProxy::start(server.endpoint()).await.expect("the proxy starts");
        let direct = backend.on.builder().endpoints([server.endpoint()]);
        let direct = direct.connect_lazy().expect("valid settings");
        Self { server, on: backend.on, proxy, direct, history: Mutex::default() }
    }

    /// The model, for what only it can do.
    pub(crate) fn model(&self) -> &EmbeddedEtcd {
        match &self.server {
            Server::Model(server) => server,
            Server::Real(_) => panic!("the scenario is for the model only"),
        }
    }

    /// A client by way of the proxy.
    pub(crate) fn client(&self) -> Client {
        self.client_with(quick())
    }

    pub(crate) fn client_with(&self, config: WatchConfig) -> Client {
        self.builder().watch_config(config).connect_lazy().expect("valid settings")
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        let builder = self.on.builder();
        builder.endpoints([self.proxy.endpoint()]).watch_config(quick())
    }

    /// Whether the server's manual progress replies stay behind events.
    pub(crate) fn orders_progress(&self) -> bool {
        match &self.server {
            Server::Model(_) => true,
            Server::Real(server) => {
                let version = server.version().to_string();
                let mut parts = version.split('.').map(|part| part.parse().expect("a number"));
                let mut next = || parts.next().expect("three parts");
                ServerVersion::new(next(), next(), next()).orders_manual_progress()
            }
        }
    }

    pub(crate) async fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> i64 {
        let put = Put::new(key.as_ref().to_vec(), value.as_ref().to_vec());
        self.direct.put_with(put).await.expect("it is put").revision()
    }

    pub(crate) async fn delete(&self, range: KeyRange) -> i64 {
        self.direct.delete(Delete::new(range)).await.expect("it is deleted").revision()
    }

    pub(crate) async fn txn(&self, txn: Txn) -> i64 {
        self.direct.txn(txn).await.expect("the transaction is made").revision()
    }

    /// Puts `count` revisions of keys with the prefix, many at a time; returns the last revision.
    pub(crate) async fn put_many(&self, prefix: &str, count: usize, value: &[u8]) -> i64 {
        const AT_ONCE: usize = 32;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..AT_ONCE.min(count) {
            let (client, prefix, value) = (self.direct.clone(), prefix.to_owned(), value.to_vec());
            writers.spawn(async move {
                let mut last = 0;
                for index in (writer..count).step_by(AT_ONCE) {
                    let put = Put::new(format!("{prefix}{}", index % 100), value.clone());
                    last = client.put_with(put).await.expect("it is put").revision();
                }
                last
            });
        }
        writers.join_all().await.into_iter().max().unwrap_or(0)
    }

    pub(crate) async fn revision(&self) -> i64 {
        self.direct.get(Get::key("any")).await.expect("it is read").revision()
    }

    /// Compacts the store, once the history up to there has been read.
    pub(crate) async fn compact(&self, revision: i64) {
        self.history().await;
        self.direct.compact(Compact::before(revision).physical()).await.expect("it is compacted");
    }

    /// Kills the server; its data stays.
    pub(crate) async fn kill(&mut self) {
        match &mut self.server {
            Server::Model(server) => server.stop().await,
            Server::Real(server) => server.kill(),
        }
    }

    /// Starts it again, and waits until the direct client has reached it.
    pub(crate) async fn restart(&mut self) {
        match &mut self.server {
            Server::Model(server) => server.restart().await.expect("the model starts again"),
            Server::Real(server) => server.restart_async().await.expect("etcd starts again"),
        }
        self.revision().await;
    }

    /// Cuts the clients off until [`reconnect`](World::reconnect).
    pub(crate) fn disconnect(&self) {
        self.proxy.refuse();
        self.proxy.cut_all(Cut::Reset);
    }

    pub(crate) fn reconnect(&self) {
        self.proxy.restore();
    }

    pub(crate) fn watcher_count(&self) -> Option<u64> {
        match &self.server {
            Server::Model(server) => Some(server.with_model(|model| model.watcher_count()) as u64),
            Server::Real(server) => server.watcher_count().ok(),
        }
    }

    /// Waits until the server holds so many watches.
    pub(crate) async fn watchers(&self, count: u64) {
        let what = format!("the server holds {count} watches");
        let started = Instant::now();
        let last = || self.watcher_count();
        while last() != Some(count) {
            assert!(started.elapsed() < DEADLINE, "{what}; it holds {:?}", last());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Every change of the store so far, compacted ones too, by a plain watch straight to the server.
    pub(crate) async fn history(&self) -> Vec<Event> {
        let revision = self.revision().await;
        let known = self.history.lock().expect("no panic").last().map_or(1, revision_of_event);
        if known < revision {
            let read = timeout(DEADLINE, read_history(self.server.endpoint(), known + 1, revision));
            let mut new = read.await.expect("the history is read in time");
            self.history.lock().expect("no panic").append(&mut new);
        }
        let history = self.history.lock().expect("no panic").clone();
        if let Server::Model(server) = &self.server {
            let model: Vec<_> = server.with_model(|model| {
                model.history().iter().map(|event| (event.revision, event.key.clone())).collect()
            });
            let read = history.iter().map(|event| (revision_of_event(event), key_of(event)));
            assert!(read.eq(model), "the model's watches agree with its history");
        }
        history
    }
}

/// The default settings, but for a backoff that doesn't make scenarios long.
pub(crate) fn quick() -> WatchConfig {
    WatchConfig::default().backoff(
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(200),
    )
}

/// Waits until the client's counters are as they should be.
pub(crate) async fn stats(client: &Client, what: &str, mut wanted: impl FnMut(Stats) -> bool) {
    wait_until(what, DEADLINE, || wanted(client.stats())).await;
}

fn revision_of_event(event: &Event) -> i64 {
    event.kv.as_ref().expect("events have keys").mod_revision
}

fn key_of(event: &Event) -> bytes::Bytes {
    event.kv.as_ref().expect("events have keys").key.clone()
}

/// Watches everything, with the generated client and nothing of ours around it.
async fn read_history(endpoint: String, from: i64, through: i64) -> Vec<Event> {
    let create = WatchCreateRequest {
        key: b"\0"[..].into(),
        range_end: b"\0"[..].into(),
        start_revision: from,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let request = WireRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    requests.send(request).await.expect("there is room");
    let endpoint = tonic::transport::Endpoint::from_shared(endpoint).expect("an endpoint");
    let mut client =
        WatchClient::new(endpoint.connect().await.expect("it serves")).max_decoding_message_size(usize::MAX);
    let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut responses = client.watch(receiver).await.expect("the stream opens").into_inner();
    let mut history: Vec<Event> = Vec::new();
    while history.last().is_none_or(|event| revision_of_event(event) < through) {
        let response = responses.message().await.expect("the stream goes on").expect("it does not end");
        assert!(!response.canceled, "the history from {from} on is there: {response:?}");
        history.extend(response.events);
    }
    history
}
