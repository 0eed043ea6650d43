//! One server, and clients of it.

use std::time::Duration;

use etcd_watch_client::{Client, ClientBuilder, Compact, WatchConfig};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion},
    model::ModelConfig,
    proxy::FaultProxy,
    server::EmbeddedEtcd,
};
use tokio::time::timeout;

use crate::runtime::On;

/// For any one thing that is waited for: much longer than it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A scenario that takes longer hangs.
const SCENARIO_DEADLINE: Duration = Duration::from_secs(240);

#[derive(Clone, Debug)]
pub(crate) enum ServerKind {
    Model,
    Real(EtcdVersion),
}

enum Server {
    Model(EmbeddedEtcd),
    Real(EtcdServer),
}

pub(crate) struct World {
    server: Server,
    on: On,
    /// Straight to the server.
    pub(crate) client: Client,
}

/// Runs a scenario to its end, or fails in time.
pub(crate) fn run<F: Future<Output = ()>>(server: ServerKind, on: On, scenario: impl FnOnce(World) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("tokio starts").block_on(async {
        let scenario = scenario(World::start(server, on).await);
        timeout(SCENARIO_DEADLINE, scenario).await.expect("the scenario ends in time");
    });
}

impl World {
    async fn start(server: ServerKind, on: On) -> Self {
        let server = match server {
            ServerKind::Model => {
                Server::Model(EmbeddedEtcd::start(ModelConfig::default()).await.expect("the model starts"))
            }
            ServerKind::Real(version) => {
                Server::Real(EtcdServer::builder(version).start_async().await.expect("etcd starts"))
            }
        };
        let client = client(on, endpoint(&server));
        Self { server, on, client }
    }

    /// A client with connections of its own.
    pub(crate) fn client(&self) -> Client {
        client(self.on, endpoint(&self.server))
    }

    pub(crate) fn endpoint(&self) -> String {
        endpoint(&self.server)
    }

    /// A client yet to be given its endpoints.
    pub(crate) fn builder(&self) -> ClientBuilder {
        self.on.builder()
    }

    /// A client by way of a proxy, and connected.
    pub(crate) async fn remote(&self) -> (FaultProxy, Client) {
        let proxy = FaultProxy::start(endpoint(&self.server)).await.expect("the proxy starts");
        let client = client(self.on, proxy.endpoint());
        client.get("any").await.expect("it is connected");
        (proxy, client)
    }

    pub(crate) async fn put(&self, key: &str, value: &str) -> i64 {
        self.client.put(key, value).await.expect("it is put").revision()
    }

    /// The value of a key; empty if it doesn't exist.
    pub(crate) async fn value(&self, key: &str) -> String {
        let read = self.client.get(key).await.expect("it is read");
        read.first().map_or_else(String::new, |kv| kv.value_str().expect("text").to_owned())
    }

    /// Throws all history away.
    pub(crate) async fn compact(&self) {
        let revision = self.put("compacted", "").await;
        self.client.compact(Compact::before(revision).physical()).await.expect("it is compacted");
    }
}

fn endpoint(server: &Server) -> String {
    match server {
        Server::Model(server) => server.endpoint(),
        Server::Real(server) => server.endpoint(),
    }
}

fn client(on: On, endpoint: String) -> Client {
    let quick = WatchConfig::default().backoff(
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(200),
    );
    on.builder().endpoints([endpoint]).watch_config(quick).connect_lazy().expect("valid settings")
}
