//! Every operation of a client whose runtime has shut down: it ends at once and says why, wherever it is polled.
//! Clients in a `static`, shared by tests with a runtime each, come to this.

use std::{future::Future, sync::Arc};

use etcd_watch_client::{
    BoxFuture, CallError, Client, ClientBuilder, CloseReason, Compact, Delete, KeyRange, LeaseKeeper,
    LeaseLost, Mirror, MirrorRequest, OpenError, Put, Recovery, StartError, SyncError, Txn, Watch,
    cache::{Cache, CacheRequest},
    concurrency::{self, Election, Leadership, Mutex, MutexGuard, Name, Observe, Session, SessionError},
    config::Config,
    discovery::{Discovery, DiscoveryError, EndpointWatch, Registration, ServiceEndpoint},
};
use etcd_watch_testkit::{harness::wait_until, server::EmbeddedEtcd};
use etcd_watch_tokio::TokioRuntime;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::{
    sources::dead_endpoint,
    world::{Answer, DEADLINE, SECOND, Scripted, client, healthy},
};

fn name(name: &str) -> Name {
    Name::new(name).expect("it is a name")
}

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
        client.put("key", "value").await.expect("it is healthy");
        let request = || MirrorRequest::new(KeyRange::prefix("key"));
        let mut mirror = client.mirror(request()).expect("it is valid");
        mirror.next().await.expect("it goes on").expect("it lists");
        let cache = client.cache(CacheRequest::new(KeyRange::prefix("key"))).expect("it is valid");
        cache.ready().await.expect("it lists");
        let decode = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
        let config = Config::value(&client, "key", decode).expect("it is valid");
        config.ready().await.expect("it is there");
        let lease = client.lease_grant(60 * SECOND).await.expect("it is healthy");
        let session = Session::open(&client).await.expect("it is healthy");
        let mutex = Mutex::new(&session, name("mutex"));
        let election = Election::new(&session, name("election"));
        let leadership = election.campaign("me").await.expect("nobody else is there");
        let mut observe = election.observe();
        observe.next().await.expect("it goes on").expect("there is a leader");
        let discovery = Discovery::new(&client, "service").expect("it is a name");
        let endpoint = ServiceEndpoint::new("10.0.0.1:80");
        let registration = discovery.register("one", endpoint).expect("it is a name");
        registration.registered().await.expect("it is healthy");
        let mut endpoints = discovery.watch();
        endpoints.next().await.expect("it goes on").expect("it lists");
        Self {
            watch: client.watch(KeyRange::prefix("key")).expect("it is valid"),
            mirror,
            fresh_mirror: client.mirror(request()).expect("it is valid"),
            cache: Arc::new(cache),
            config,
            keeper: lease.keep_alive(),
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
}

fn is_gone<T>(result: Result<T, CallError>) -> bool {
    matches!(result, Err(CallError::RuntimeGone { .. }))
}

/// Every operation of everything that was open when the runtime shut down.
fn nothing_hangs(open: Open, elsewhere: &Elsewhere) {
    let Open {
        client,
        mut watch,
        mirror,
        fresh_mirror,
        cache,
        mut config,
        keeper,
        session,
        guard,
        leadership,
        mut observe,
        registration,
        mut endpoints,
    } = open;
    calls_are_refused(&client, elsewhere);
    let end = elsewhere.run("watch", async move { watch.try_next().await }).expect_err("it has ended");
    assert_eq!((end.reason(), end.recovery()), (&CloseReason::RuntimeGone, Recovery::NewClient));
    for mut mirror in [mirror, fresh_mirror] {
        // What it had before comes first.
        let end = elsewhere.run("mirror", async move {
            loop {
                match mirror.try_next().await {
                    Ok(event) => assert!(event.is_some(), "it says why it ends"),
                    Err(error) => return error,
                }
            }
        });
        assert_eq!(end.reason(), &CloseReason::RuntimeGone);
    }

    let old = cache.clone();
    elsewhere
        .run("cache, consistent", async move { old.consistent().await.map(drop) })
        .expect_err("it is over");
    let old = cache.clone();
    elsewhere
        .run("cache, wait_for", async move { old.wait_for(99).await.map(drop) })
        .expect_err("it is over");
    elsewhere.run("cache, closed", async move { cache.closed().await });
    elsewhere.run("config", async move { while config.changed().await.is_ok() {} });

    let lost = elsewhere.run("keeper", async move { keeper.lost().await });
    assert!(matches!(lost, LeaseLost::Stopped { .. }), "{lost}");
    let other = Mutex::new(&session, name("other"));
    elsewhere.run("lock", async move { other.lock().await.map(drop) }).expect_err("the session is lost");
    let election = Election::new(&session, name("other"));
    elsewhere.run("leader", async move {
        election.leader().await.map(drop).expect_err("no call goes out");
        election.campaign("me").await.map(drop).expect_err("the session is lost");
    });
    elsewhere.run("observe", async move { while let Some(Ok(_)) = observe.next().await {} });
    elsewhere.run("proclaim", async move {
        leadership.proclaim("me").await.expect_err("the session is lost");
        leadership.lost().await;
        leadership.resign().await.expect_err("no call goes out");
    });
    elsewhere.run("guard", async move {
        guard.lost().await;
        guard.unlock().await.expect_err("no call goes out");
    });
    let closing = session.clone();
    let closed = elsewhere.run("session, close", async move { closing.close().await });
    assert!(is_gone(closed.clone()), "{closed:?}");
    elsewhere.run("session, lost", async move { session.lost().await });

    elsewhere.run("registration", async move {
        let registered = registration.registered().await.expect_err("it is over");
        assert!(registered.to_string().contains("has shut down"), "{registered}");
        let updated = registration.update(ServiceEndpoint::new("10.0.0.2:80")).await;
        updated.expect_err("it is over");
        registration.deregister().await.expect_err("no call goes out");
    });
    let end = elsewhere.run("endpoints", async move {
        loop {
            match endpoints.next().await {
                Some(Ok(_)) => {}
                end => return end.map(Result::err),
            }
        }
    });
    assert_eq!(end, Some(Some(DiscoveryError::RuntimeGone)));
    elsewhere.run("close", async move { client.close().await });
}

/// Every operation of a client, as it comes to one whose runtime is gone already.
fn calls_are_refused(client: &Client, elsewhere: &Elsewhere) {
    let on = |what: &str, call: BoxFuture<'static, Result<(), CallError>>| {
        let result = elsewhere.run(what, call);
        assert!(is_gone(result.clone()), "{what}: {result:?}");
    };
    let c = client.clone();
    on("get", Box::pin(async move { c.get("key").await.map(drop) }));
    let c = client.clone();
    on("put", Box::pin(async move { c.put("key", "value").await.map(drop) }));
    let c = client.clone();
    on("delete", Box::pin(async move { c.delete(Delete::key("key")).await.map(drop) }));
    let c = client.clone();
    on("txn", Box::pin(async move { c.txn(Txn::new().and_then(Put::new("key", "value"))).await.map(drop) }));
    let c = client.clone();
    on("compact", Box::pin(async move { c.compact(Compact::before(2).physical()).await.map(drop) }));
    let c = client.clone();
    on("lease_grant", Box::pin(async move { c.lease_grant(60 * SECOND).await.map(drop) }));
    let c = client.clone();
    on("lease_revoke", Box::pin(async move { c.lease_revoke(7).await.map(drop) }));
    let c = client.clone();
    on("lease_keep_alive_once", Box::pin(async move { c.lease_keep_alive_once(7).await.map(drop) }));
    let c = client.clone();
    on("lease_time_to_live", Box::pin(async move { c.lease_time_to_live(7).await.map(drop) }));

    let c = client.clone();
    on("leases", Box::pin(async move { c.leases().await.map(drop) }));
    let auth = client.auth();
    on("user_list", Box::pin(async move { auth.user_list().await.map(drop) }));
    let cluster = client.cluster();
    on("members", Box::pin(async move { cluster.members().await.map(drop) }));
    let (maintenance, endpoint) = (client.maintenance(), client.endpoints().remove(0));
    let (m, at) = (maintenance.clone(), endpoint.clone());
    on("status", Box::pin(async move { m.status(at).await.map(drop) }));
    let (m, at) = (maintenance.clone(), endpoint);
    on("defragment", Box::pin(async move { m.defragment(at).await.map(drop) }));
    let m = maintenance.clone();
    on("snapshot", Box::pin(async move { m.snapshot().await.map(drop) }));
    on("move_leader", Box::pin(async move { maintenance.move_leader(7).await.map(drop) }));

    let c = client.clone();
    let synced = elsewhere.run("sync_endpoints", async move { c.sync_endpoints().await });
    assert!(matches!(synced, Err(SyncError::Call(CallError::RuntimeGone { .. }))), "{synced:?}");
    let c = client.clone();
    elsewhere.run("spread_watches", async move { c.spread_watches().await });
    let c = client.clone();
    let session = elsewhere.run("session, open", async move { Session::open(&c).await });
    assert!(matches!(session, Err(SessionError::Call(CallError::RuntimeGone { .. }))), "{session:?}");

    let range = || KeyRange::prefix("key");
    assert_eq!(client.watch(KeyRange::prefix("key")).err(), Some(OpenError::RuntimeGone));
    assert_eq!(client.mirror(MirrorRequest::new(range())).err(), Some(OpenError::RuntimeGone));
    assert!(client.cache(CacheRequest::new(range())).is_err());
    let c = client.clone();
    elsewhere.run("keeper of a lease", async move {
        let keeper = c.lease_keep_alive(7, 60 * SECOND).expect("it is valid");
        keeper.lost().await
    });
    let discovery = Discovery::new(client, "service").expect("it is a name");
    elsewhere.run("discovery", async move {
        discovery.list().await.map(drop).expect_err("no call goes out");
        discovery.add("two", ServiceEndpoint::new("10.0.0.2:80")).await.expect_err("no call goes out");
        discovery.delete("two").await.expect_err("no call goes out");
        let registration =
            discovery.register("two", ServiceEndpoint::new("10.0.0.2:80")).expect("it is a name");
        registration.registered().await.expect_err("no call goes out");
        assert!(!matches!(discovery.watch().next().await, Some(Ok(_))));
    });
    let c = client.clone();
    elsewhere.run("observe", async move {
        let mut leaders = concurrency::observe(&c, &name("election"));
        assert!(!matches!(leaders.next().await, Some(Ok(_))));
    });
}

fn on_a_runtime_that_is_gone(of_client: Runtime) {
    let elsewhere = Elsewhere(Runtime::new().expect("it starts"));
    let etcd = elsewhere.0.block_on(healthy());
    let open = of_client.block_on(Open::at(&etcd));
    drop(of_client);
    nothing_hangs(open, &elsewhere);
}

#[test]
fn nothing_hangs_on_a_multi_thread_runtime_that_is_gone() {
    on_a_runtime_that_is_gone(Runtime::new().expect("it starts"));
}

#[test]
fn nothing_hangs_on_a_current_thread_runtime_that_is_gone() {
    on_a_runtime_that_is_gone(Builder::new_current_thread().enable_all().build().expect("it starts"));
}

#[test]
fn calls_under_way_end_with_the_runtime_and_a_write_that_was_sent_says_so() {
    let elsewhere = Elsewhere(Runtime::new().expect("it starts"));
    let of_client = Runtime::new().expect("it starts");
    let hanging = elsewhere.0.block_on(Scripted::start(|_| Answer::Silence));
    let client = of_client.block_on(async { client([hanging.endpoint()]) });
    let dead = of_client.block_on(async { client_of_nobody().await });
    let spawn = |client: &Client| {
        let (reader, writer) = (client.clone(), client.clone());
        let read = elsewhere.0.spawn(async move { reader.get("key").await });
        (read, elsewhere.0.spawn(async move { writer.put("key", "value").await }))
    };
    let (read, write) = spawn(&client);
    let (unsent_read, unsent_write) = spawn(&dead);
    elsewhere.0.block_on(wait_until("they have been sent", DEADLINE, || hanging.requests() == 2));
    of_client.shutdown_background();
    let joined = elsewhere.run("calls under way", async move {
        let (read, write) = (read.await.expect("no panic"), write.await.expect("no panic"));
        let (unsent_read, unsent_write) =
            (unsent_read.await.expect("no panic"), unsent_write.await.expect("no panic"));
        assert!(is_gone(read) && is_gone(unsent_read) && is_gone(unsent_write));
        write
    });
    let error = joined.expect_err("it has no answer");
    assert!(matches!(error, CallError::MaybeExecuted { .. }), "{error}");
}

/// A client whose calls try again and again.
async fn client_of_nobody() -> Client {
    client([dead_endpoint().await])
}

#[test]
fn a_client_can_not_be_started_on_a_runtime_that_is_gone() {
    let elsewhere = Elsewhere(Runtime::new().expect("it starts"));
    let gone = Runtime::new().expect("it starts");
    let runtime = TokioRuntime::new(gone.handle().clone());
    gone.shutdown_background();
    let builder = ClientBuilder::on(runtime).endpoints(["127.0.0.1:1"]);
    let lazy = builder.clone().connect_lazy().expect("its settings are valid");
    calls_are_refused(&lazy, &elsewhere);
    let started = elsewhere.run("connect", async move { builder.connect().await.map(drop) });
    assert_eq!(started, Err(StartError::RuntimeGone));
}
