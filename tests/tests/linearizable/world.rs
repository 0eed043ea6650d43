//! Servers behind proxies, clients that make calls, and what comes of them.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use bytes::Bytes;
use etcd_watch_client::{
    Client, KeyRange, WatchConfig,
    cache::{Cache, CacheRequest},
};
use etcd_watch_proto::etcdserverpb::{PutRequest, RangeRequest};
#[cfg(unix)]
use etcd_watch_testkit::harness::{EtcdCluster, EtcdServer, EtcdVersion};
use etcd_watch_testkit::{
    linearizable::{Checked, Kinds, RecordedClient, Recorder, Truth, Workload, check},
    model::ModelConfig,
    proxy::FaultProxy,
    server::EmbeddedEtcd,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{faults, history, runtime::On};

/// For any one thing a test waits for: much longer than it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Short, so that calls are given up by the client, too.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a read of a cache is waited for while links are cut.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often something is tried that takes a while.
const INTERVAL: Duration = Duration::from_millis(100);

/// The keys that are written and read: few, so that operations meet.
const PREFIX: &str = "k/";
const KEYS: u32 = 5;

const CLIENTS_PER_RUNTIME: usize = 2;

/// Which server.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Model,
    #[cfg(unix)]
    Real(EtcdVersion),
    /// Three members.
    #[cfg(unix)]
    Cluster(EtcdVersion),
}

enum Server {
    Model(EmbeddedEtcd),
    #[cfg(unix)]
    Real(EtcdServer),
    #[cfg(unix)]
    Cluster(EtcdCluster),
}

/// Servers, and a proxy in front of each.
pub(crate) struct World {
    server: Server,
    pub(crate) links: Vec<FaultProxy>,
}

/// What was done in a world.
pub(crate) struct Run<'a> {
    world: &'a World,
    pub(crate) recorder: Recorder,
}

impl World {
    pub(crate) async fn start(kind: Kind) -> Self {
        let server = match kind {
            Kind::Model => {
                Server::Model(EmbeddedEtcd::start(ModelConfig::default()).await.expect("the model starts"))
            }
            #[cfg(unix)]
            Kind::Real(version) => {
                Server::Real(EtcdServer::builder(version).start_async().await.expect("etcd starts"))
            }
            #[cfg(unix)]
            Kind::Cluster(version) => {
                let cluster = EtcdCluster::builder(version).start_async().await;
                Server::Cluster(cluster.expect("the cluster starts"))
            }
        };
        let mut world = Self { server, links: Vec::new() };
        for endpoint in world.endpoints() {
            world.links.push(FaultProxy::start(endpoint).await.expect("the proxy starts"));
        }
        world
    }

    /// Past the proxies.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        match &self.server {
            Server::Model(server) => vec![server.endpoint()],
            #[cfg(unix)]
            Server::Real(server) => vec![server.endpoint()],
            #[cfg(unix)]
            Server::Cluster(cluster) => cluster.endpoints(),
        }
    }

    #[cfg(unix)]
    pub(crate) fn cluster(&mut self) -> (&mut EtcdCluster, &[FaultProxy]) {
        match &mut self.server {
            Server::Cluster(cluster) => (cluster, &self.links),
            _ => panic!("it is no cluster"),
        }
    }

    pub(crate) fn model(&self) -> &EmbeddedEtcd {
        match &self.server {
            Server::Model(server) => server,
            #[cfg(unix)]
            _ => panic!("it is no model"),
        }
    }

    /// What the server answers by.
    fn config(&self) -> ModelConfig {
        match &self.server {
            Server::Model(_) => ModelConfig::default(),
            #[cfg(unix)]
            Server::Real(server) => ModelConfig::like(server.version()),
            #[cfg(unix)]
            Server::Cluster(cluster) => ModelConfig::like(cluster.member(0).version()),
        }
    }

    pub(crate) fn strike(&self, seed: u64) -> impl Future<Output = ()> {
        faults::strike(&self.links, seed)
    }

    /// Makes calls on every runtime for so long, while something else happens.
    pub(crate) async fn run(
        &self,
        seed: u64,
        lasts: Duration,
        meanwhile: impl Future<Output = ()>,
    ) -> Run<'_> {
        let recorder = Recorder::new();
        let callers = Callers::start(&recorder, &self.link_endpoints(), seed, lasts);
        tokio::select! {
            () = callers.finish() => {}
            () = async { meanwhile.await; std::future::pending().await } => {}
        }
        self.links.iter().for_each(FaultProxy::restore);
        Run { world: self, recorder }
    }

    pub(crate) fn link_endpoints(&self) -> Vec<String> {
        self.links.iter().map(FaultProxy::endpoint).collect()
    }

    pub(crate) fn run_of(&self, recorder: Recorder) -> Run<'_> {
        Run { world: self, recorder }
    }
}

/// Tasks that make calls.
pub(crate) struct Callers(JoinSet<()>);

impl Callers {
    pub(crate) fn start(recorder: &Recorder, endpoints: &[String], seed: u64, lasts: Duration) -> Self {
        let kinds = Kinds { leases: true, renewals: true, past: true, bare_reads: true, given_up: 25 };
        let end = Instant::now() + lasts;
        let mut tasks = JoinSet::new();
        for on in On::ALL {
            let client = client(on, endpoints);
            let cache = client.cache(CacheRequest::new(KeyRange::prefix(PREFIX))).expect("it is made");
            for _ in 0..CLIENTS_PER_RUNTIME {
                let number = tasks.len() as u64;
                let recorded = recorder.client(client.clone());
                let seed = seed.wrapping_mul(1_000).wrapping_add(number);
                let workload = Workload::new(recorded, PREFIX, KEYS, kinds, seed);
                tasks.spawn(call(workload, cache.clone(), end));
            }
        }
        tasks.spawn(let_a_lease_run_out(recorder.client(client(On::Tokio, endpoints))));
        Self(tasks)
    }

    pub(crate) async fn finish(mut self) {
        while let Some(done) = self.0.join_next().await {
            done.expect("no call panics");
        }
    }
}

async fn call(mut workload: Workload, cache: Cache, end: Instant) {
    while Instant::now() < end {
        // A cache that can't be reached has no time limit of its own.
        let _gone_by = timeout(PATIENCE, workload.step(Some(&cache))).await;
        // Others are to have their turn while one is answered at once.
        sleep(Duration::from_millis(1)).await;
    }
}

/// There is at least one that does, however slow the machine is.
async fn let_a_lease_run_out(client: RecordedClient) {
    // None of those that are deleted.
    let key = Bytes::from(format!("{PREFIX}fleeting"));
    let unique = || client.recorder().unique();
    loop {
        let id = i64::try_from(unique()).expect("few");
        let value = format!("v{}", unique()).into();
        let put = PutRequest { key: key.clone(), value, lease: id, ..PutRequest::default() };
        if client.grant(id, 2).await.is_ok() && client.put(put).await.is_ok() {
            break;
        }
        sleep(INTERVAL).await;
    }
    let read = RangeRequest { key, ..RangeRequest::default() };
    // An error doesn't say that it is gone.
    while client.get(read.clone()).await.map_or(true, |read| read.count > 0) {
        sleep(INTERVAL).await;
    }
}

/// A client that tries again soon.
pub(crate) fn client(on: On, endpoints: &[String]) -> Client {
    let config = WatchConfig::default().backoff(
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(100),
    );
    on.builder()
        .endpoints(endpoints.iter().cloned())
        .watch_config(config)
        .request_timeout(REQUEST_TIMEOUT)
        .connect_lazy()
        .expect("valid settings")
}

impl Run<'_> {
    /// Holds all of it against what really happened.
    pub(crate) async fn check(&self) -> Checked {
        self.try_check().await.unwrap_or_else(|violations| {
            let history = self.recorder.history();
            for violation in &violations {
                println!("{violation}");
                if let Some(operation) = violation.operation {
                    println!("    {:?}", history[operation]);
                }
            }
            panic!("{} rules were broken", violations.len())
        })
    }

    pub(crate) async fn try_check(
        &self,
    ) -> Result<Checked, Vec<etcd_watch_testkit::linearizable::Violation>> {
        // What is still open may yet be executed: then it is not in the history, as if it had not been.
        let history = self.recorder.history();
        let truth = self.truth().await;
        check(&history, &truth, &self.world.config())
    }

    async fn truth(&self) -> Truth {
        let endpoints = self.world.endpoints();
        let direct = On::Tokio.builder().endpoints(endpoints.clone()).request_timeout(DEADLINE);
        let direct = direct.connect_lazy().expect("valid settings");
        let revision = direct.get("any").await.expect("it is read").revision();
        let mut truth = Truth::of_all();
        if revision > 1 {
            truth.extend(&history::read(endpoints[0].clone(), revision).await);
        }
        truth
    }

    /// A client whose calls are written down.
    pub(crate) fn client(&self, client: Client) -> RecordedClient {
        self.recorder.client(client)
    }
}
