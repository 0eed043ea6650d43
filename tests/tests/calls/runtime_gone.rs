//! Every operation of a client whose runtime has shut down: it ends at once and says why, wherever it is polled.
//! Clients in a `static`, shared by tests with a runtime each, come to this.

use std::{future::Future, sync::Arc};

use etcd_watch_client::{
    CallError, Client, CloseReason, Delete, KeyRange, LeaseKeeper, Mirror, MirrorRequest, OpenError, Put, Recovery,
    StartError, Txn, Watch,
    cache::{Cache, CacheRequest},
    concurrency::{Election, Leadership, Mutex, MutexGuard, Observe, Session},
    config::Config,
    discovery::{Discovery, EndpointWatch, Registration, ServiceEndpoint},
};
use etcd_watch_testkit::server::EmbeddedEtcd;
use etcd_watch_tokio::TokioRuntime;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::world::{Answer, DEADLINE, SECOND, Scripted, builder, client, healthy};

/// Everything that a client can have open.
struct Open {
    client: Client,
    watch: Watch,
    mirror: Mirror,
    /// It is still to list.
    fresh_mirror: Mirror,
    cache: Arc<Cache>,
    config: Config<String>,
    keeper: LeaseKeeper,
    session: Session,
    guard: MutexGuard,
    leadership: Leadership,
    observe: Observe,
    registration: Registration,
    endpoints: EndpointWatch,
}

impl Open {
    async fn at(etcd: &EmbeddedEtcd) -> Self {
        let client = client([etcd.endpoint()]);
        client.put(Put::new("key", "value")).await.expect("it is healthy");
        let request = || MirrorRequest::new(KeyRange::prefix("key"));
        let mut mirror = client.mirror(request()).expect("it is valid");
        mirror.next().await.expect("it goes on").expect("it lists");
        let cache = client.cache(CacheRequest::new(KeyRange::prefix("key"))).expect("it is valid");
        cache.ready().await.expect("it lists");
        let decode = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
        let config = Config::value(&client, "key", decode).expect("it is valid");
        config.ready().await.expect("it is there");
        let lease = client.lease_grant(60, 0).await.expect("it is healthy");
        let session = Session::open(&client).await.expect("it is healthy");
        let mutex = Mutex::new(&session, "mutex").expect("it is a name");
        let election = Election::new(&session, "election").expect("it is a name");
        let leadership = election.campaign("me").await.expect("nobody else is there");
        let mut observe = election.observe();
        observe.next().await.expect("it goes on").expect("there is a leader");
        let discovery = Discovery::new(&client, "service").expect("it is a name");
        let endpoint = ServiceEndpoint::new("10.0.0.1:80").expect("it is an address");
        let registration = discovery.register("one", endpoint).expect("it is a name");
        registration.registered().await.expect("it is healthy");
        let mut endpoints = discovery.watch();
        endpoints.next().await.expect("it goes on").expect("it lists");
        Self {
            watch: client.watch_prefix("key").expect("it is valid"),
            mirror,
            fresh_mirror: client.mirror(request()).expect("it is valid"),
            cache: Arc::new(cache),
            config,
            keeper: client.lease_keep_alive(lease.id, lease.ttl).expect("it is valid"),
            guard: mutex.lock().await.expect("nobody else is there"),
            session,
            leadership,
            observe,
            registration,
            endpoints,
            client,
        }
    }
}

/// Another runtime, on which nothing may take long, hang, or go round without a pause.
struct Elsewhere(Runtime);

impl Elsewhere {
    fn run<T: Send + 'static>(&self, what: &str, work: impl Future<Output = T> + Send + 'static) -> T {
        let work = self.0.spawn(work);
        let ended = self.0.block_on(async { timeout(DEADLINE, work).await });
        ended.unwrap_or_else(|_| panic!("{what} hangs")).unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    fn call<T: Send + 'static>(
        &self,
        what: &str,
        client: &Client,
        call: impl AsyncFnOnce(Client) -> Result<T, CallError> + Send + 'static,
    ) where
        for<'a> <dyn Fn() as FnOnce<()>>::Output: Sized,
    {
        let _ = (what, client, call);
    }
}
