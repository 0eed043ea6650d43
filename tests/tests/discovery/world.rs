//! One server of some kind behind a fault proxy.

use std::time::Duration;

use etcd_watch_client::{
    Client, ClientBuilder, Get, WatchConfig,
    discovery::{Discovery, EndpointUpdate, EndpointWatch},
};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion},
    model::ModelConfig,
    proxy::{Cut, FaultProxy},
    server::EmbeddedEtcd,
};
use tokio::time::timeout;

use crate::runtime::On;

/// For any one thing a test waits for: much longer than it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const TARGET: &str = "services/greeter";

#[derive(Clone, Debug)]
pub(crate) enum Backend {
    Model,
    Real(EtcdVersion),
}

impl Backend {
    pub(crate) fn all() -> Vec<Self> {
        [vec![Self::Model], Self::real()].concat()
    }

    pub(crate) fn real() -> Vec<Self> {
        let versions = EtcdVersion::under_test().expect("the servers are on this machine");
        versions.into_iter().map(Self::Real).collect()
    }
}

pub(crate) enum Server {
    Model(EmbeddedEtcd),
    Real(EtcdServer),
}

/// One server, and the runtime of all its clients.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) proxy: FaultProxy,
    on: On,
}

pub(crate) async fn in_time<F: Future>(scenario: F) -> F::Output {
    timeout(2 * DEADLINE, scenario).await.expect("the scenario ends in time")
}

/// What comes within the deadline.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {DEADLINE:?} in vain until {what}"),
    }
}

impl World {
    pub(crate) async fn start(on: On, backend: Backend) -> Self {
        let server = match backend {
            Backend::Model => {
                Server::Model(EmbeddedEtcd::start(ModelConfig::default()).await.expect("the model starts"))
            }
            Backend::Real(version) => {
                Server::Real(EtcdServer::builder(version).start_async().await.expect("etcd starts"))
            }
        };
        let proxy = FaultProxy::start("http://127.0.0.1:1").await.expect("a proxy");
        let world = Self { server, proxy, on };
        world.proxy.set_upstream(world.endpoint());
        world
    }

    pub(crate) fn endpoint(&self) -> String {
        match &self.server {
            Server::Model(server) => server.endpoint(),
            Server::Real(server) => server.endpoint(),
        }
    }

    pub(crate) fn real(&mut self) -> &mut EtcdServer {
        match &mut self.server {
            Server::Real(server) => server,
            Server::Model(_) => panic!("the scenario is for real servers"),
        }
    }

    /// A client's settings by way of the proxy.
    pub(crate) fn builder(&self) -> ClientBuilder {
        self.quick(self.proxy.endpoint())
    }

    /// The service by way of the proxy, from a client of its own.
    pub(crate) fn service(&self) -> Discovery {
        let client = self.builder().connect_lazy().expect("valid settings");
        Discovery::new(&client, TARGET).expect("a good target")
    }

    /// A client past the proxy.
    pub(crate) fn direct(&self) -> Client {
        self.quick(self.endpoint()).connect_lazy().expect("valid settings")
    }

    /// The service past the proxy.
    pub(crate) fn direct_service(&self) -> Discovery {
        Discovery::new(&self.direct(), TARGET).expect("a good target")
    }

    fn quick(&self, endpoint: String) -> ClientBuilder {
        let config = WatchConfig::default().lag_deadline(Duration::from_secs(1));
        let config =
            config.backoff(Duration::from_millis(5), Duration::from_millis(10), Duration::from_millis(200));
        let (dial, request) = (Duration::from_secs(2), Duration::from_secs(5));
        let builder = self.on.builder().endpoints([endpoint]).watch_config(config);
        builder.dial_timeout(dial).request_timeout(request)
    }

    /// Lets nothing through any more, on connections old or new.
    pub(crate) fn unplug(&self) {
        self.proxy.refuse();
        self.proxy.cut_all(Cut::Reset);
    }

    pub(crate) async fn stop(&mut self) {
        match &mut self.server {
            Server::Model(server) => server.stop().await,
            Server::Real(server) => server.kill(),
        }
    }

    pub(crate) async fn restart(&mut self) {
        match &mut self.server {
            Server::Model(server) => server.restart().await.expect("the model starts again"),
            Server::Real(server) => server.restart_async().await.expect("etcd starts again"),
        }
    }
}

pub(crate) async fn next(watch: &mut EndpointWatch) -> EndpointUpdate {
    let next = soon("an update comes", watch.next()).await;
    next.expect("the watch goes on").expect("the watch does not fail")
}

/// Takes updates until the addresses, in order of names, are these.
pub(crate) async fn until_addresses(watch: &mut EndpointWatch, wanted: &[&str]) {
    let reached = async {
        while watch.endpoints().values().map(|endpoint| endpoint.addr.as_str()).ne(wanted.iter().copied()) {
            watch.try_next().await.expect("the watch does not fail").expect("the watch goes on");
        }
    };
    soon(&format!("the addresses are {wanted:?}"), reached).await;
}

/// What a key hangs on and holds.
pub(crate) async fn key(client: &Client, name: &str) -> Option<(i64, String)> {
    let answer = client.get(Get::key(format!("{TARGET}/{name}"))).await.expect("it is read");
    let kv = answer.kvs().first()?;
    Some((kv.lease, String::from_utf8(kv.value.to_vec()).expect("it is text")))
}
