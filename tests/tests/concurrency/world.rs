//! One server, clients straight to it and by way of proxies, and what its store holds.

use std::{cell::Cell, time::Duration};

use etcd_watch_client::{
    Client, ClientBuilder, Compact, Delete, Get, IntoBytes, Put, WatchConfig,
    concurrency::{ContendError, Mutex, MutexGuard, Name, Session, SessionBuilder},
};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion},
    model::ModelConfig,
    proxy::{Cut, FaultProxy},
    server::EmbeddedEtcd,
};
use tokio::{task::JoinHandle, time::timeout};

use crate::runtime::On;

/// For any one thing a scenario waits for: much longer than it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A scenario that takes longer hangs.
const SCENARIO_DEADLINE: Duration = Duration::from_secs(240);

/// A lease that is renewed every few seconds, and not lost to a machine that is busy for as long.
pub(crate) const KEPT: Duration = Duration::from_secs(20);

/// A lease that a scenario sees the end of.
pub(crate) const SHORT: Duration = Duration::from_secs(8);

/// Longer than any scenario: such a lease ends only if somebody ends it.
pub(crate) const LONG: Duration = Duration::from_secs(600);

pub(crate) type Locking = JoinHandle<Result<MutexGuard, ContendError>>;

/// What a scenario runs on.
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

/// Runs a scenario to its end, or fails in time.
pub(crate) fn run<F: Future<Output = ()>>(backend: Backend, scenario: impl FnOnce(World) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("tokio starts").block_on(async {
        let scenario = scenario(World::start(backend).await);
        timeout(SCENARIO_DEADLINE, scenario).await.expect("the scenario ends in time");
    });
}

enum Server {
    Model(EmbeddedEtcd),
    Real(EtcdServer),
}

pub(crate) struct World {
    server: Server,
    on: On,
    /// Straight to the server.
    pub(crate) direct: Client,
}

/// A client by way of a proxy of its own.
pub(crate) struct Remote {
    pub(crate) proxy: FaultProxy,
    pub(crate) client: Client,
}

impl Remote {
    /// Cuts the client off until [`reconnect`](Self::reconnect).
    pub(crate) fn disconnect(&self) {
        self.proxy.refuse();
        self.proxy.cut_all(Cut::Reset);
    }

    pub(crate) fn reconnect(&self) {
        self.proxy.restore();
    }
}

impl World {
    async fn start(backend: Backend) -> Self {
        let server = match backend.server {
            ServerKind::Model => {
                Server::Model(EmbeddedEtcd::start(ModelConfig::default()).await.expect("the model starts"))
            }
            ServerKind::Real(version) => {
                Server::Real(EtcdServer::builder(version).start_async().await.expect("etcd starts"))
            }
        };
        let endpoint = endpoint(&server);
        let direct = client_on(backend.on, endpoint);
        Self { server, on: backend.on, direct }
    }

    pub(crate) fn endpoint(&self) -> String {
        endpoint(&self.server)
    }

    pub(crate) fn client(&self) -> Client {
        client_on(self.on, self.endpoint())
    }

    pub(crate) async fn remote(&self) -> Remote {
        self.remote_on(self.on).await
    }

    pub(crate) async fn remote_on(&self, on: On) -> Remote {
        let proxy = FaultProxy::start(self.endpoint()).await.expect("the proxy starts");
        let client = client_on(on, proxy.endpoint());
        Remote { proxy, client }
    }

    /// Stops the server; its data stays.
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

    pub(crate) async fn put(&self, key: &str, value: &str) -> i64 {
        let put = Put::new(key.to_owned(), value.to_owned());
        self.direct.put_with(put).await.expect("it is put").revision()
    }

    pub(crate) async fn delete(&self, key: impl IntoBytes) {
        let deleted = self.direct.delete(Delete::key(key)).await.expect("it is deleted").deleted();
        assert_eq!(deleted, 1, "it was there");
    }

    /// Throws all history away.
    pub(crate) async fn compact(&self) {
        let revision = self.put("compacted", "").await;
        self.direct.compact(Compact::before(revision).physical()).await.expect("it is compacted");
    }

    /// The keys under a name.
    pub(crate) async fn keys(&self, name: &str) -> Vec<String> {
        let kvs = self.direct.get(Get::prefix(format!("{name}/"))).await.expect("they are read").into_kvs();
        kvs.into_iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
    }

    /// Waits until there are so many keys under a name.
    pub(crate) async fn queued(&self, name: &str, count: usize) {
        self.until(&format!("{count} keys are under {name}"), async || self.keys(name).await.len() == count)
            .await;
    }

    pub(crate) async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        until(what, condition).await;
    }

    pub(crate) async fn has_lease(&self, id: i64) -> bool {
        self.direct
            .lease_time_to_live(id)
            .await
            .expect("it is told")
            .is_some_and(|it| !it.remaining.is_zero())
    }
}

fn endpoint(server: &Server) -> String {
    match server {
        Server::Model(server) => server.endpoint(),
        Server::Real(server) => server.endpoint(),
    }
}

fn client_on(on: On, endpoint: String) -> Client {
    builder_on(on, [endpoint]).connect_lazy().expect("valid settings")
}

pub(crate) fn builder_on(on: On, endpoints: impl IntoIterator<Item = String>) -> ClientBuilder {
    let quick = WatchConfig::default().backoff(
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(200),
    );
    on.builder().endpoints(endpoints).watch_config(quick)
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

/// Waits until a session's lease is renewed once more.
pub(crate) async fn renewed(session: &Session) {
    let last = Cell::new(session.remaining());
    until("the lease is renewed", async || last.replace(session.remaining()) < last.get()).await;
}

/// A session that ends only if somebody ends it.
pub(crate) async fn session(client: &Client) -> Session {
    opened(Session::builder(client).ttl(LONG)).await
}

pub(crate) async fn opened(builder: SessionBuilder) -> Session {
    within(builder.open()).await.expect("a session opens")
}

pub(crate) fn name(name: &str) -> Name {
    Name::new(name).expect("a lawful name")
}

pub(crate) fn mutex(session: &Session, name: &str) -> Mutex {
    Mutex::new(session, self::name(name))
}

/// Locks in a task.
pub(crate) fn locking(session: &Session, name: &str) -> Locking {
    let mutex = mutex(session, name);
    tokio::spawn(async move { mutex.lock().await })
}

pub(crate) async fn joined(locking: Locking) -> Result<MutexGuard, ContendError> {
    within(locking).await.expect("no panic")
}

/// The future's output, in time.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future).await.expect("it happens in time")
}
