//! A subscriber of the log may use the client in every event: nothing is logged under a lock of the client.

use std::{
    cell::Cell,
    collections::BTreeSet,
    sync::{Arc, LazyLock, Mutex, mpsc},
    time::Duration,
};

use etcd_watch_testkit::{
    harness::wait_until,
    model::ModelConfig,
    proxy::{Cut, FaultProxy},
    server::EmbeddedEtcd,
};
use etcd_watch_tokio::{
    Client, KeyRange, MirrorRequest, Overflow, WatchConfig, WatchRequest,
    cache::CacheRequest,
    concurrency::{Election, Mutex as EtcdMutex, Name, Session},
    config::Config as Followed,
    discovery::{Discovery, ServiceEndpoint},
};
use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

const DEADLINE: Duration = Duration::from_secs(60);

/// What to look at in every event.
type Look = Arc<dyn Fn() + Send + Sync>;

static LOOKS: LazyLock<Mutex<Vec<Look>>> = LazyLock::new(Mutex::default);

/// The client's events that were logged.
static SEEN: LazyLock<Mutex<BTreeSet<&'static str>>> = LazyLock::new(Mutex::default);

thread_local! {
    /// Looking at the client may log, too.
    static IS_LOOKING: Cell<bool> = const { Cell::new(false) };
}

fn look_at_everything() {
    if IS_LOOKING.replace(true) {
        return;
    }
    let looks = LOOKS.lock().expect("no panic").clone();
    looks.iter().for_each(|look| look());
    drop(looks);
    IS_LOOKING.set(false);
}

fn look_at(look: impl Fn() + Send + Sync + 'static) {
    LOOKS.lock().expect("no panic").push(Arc::new(look));
}

/// Looks at the client whenever anything is logged by anyone, at any level, and whenever a span is used.
struct Curious;

impl Subscriber for Curious {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        look_at_everything();
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {
        look_at_everything();
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target().starts_with("etcd_watch_client") {
            SEEN.lock().expect("no panic").insert(event.metadata().name());
        }
        look_at_everything();
    }

    fn enter(&self, _: &Id) {
        look_at_everything();
    }

    fn exit(&self, _: &Id) {
        look_at_everything();
    }
}

fn has_seen(name: &str) -> bool {
    SEEN.lock().expect("no panic").contains(name)
}

async fn logged(name: &str) {
    wait_until(name, DEADLINE, || has_seen(name)).await;
}

fn look_at_client(client: &Client) {
    let client = client.clone();
    look_at(move || {
        let _ = (client.stats(), client.watch_stats(), client.endpoints(), format!("{client:?}"));
    });
}

async fn leases_and_locks(client: &Client) {
    let name = |name: &str| Name::new(name).expect("a lawful name");
    let sessions = [(); 3].map(|()| Session::builder(client).ttl(Duration::from_secs(5)));
    let [one, two, three] = sessions.map(|builder| builder.open());
    let (one, two, three) =
        (one.await.expect("it opens"), two.await.expect("it opens"), three.await.expect("it opens"));
    for session in [&one, &two, &three] {
        let session = session.clone();
        look_at(move || {
            let _ = (session.remaining(), session.lost_reason(), format!("{session:?}"));
        });
    }
    let guard = Arc::new(EtcdMutex::new(&one, name("lock")).lock().await.expect("it is free"));
    let leadership =
        Arc::new(Election::new(&two, name("election")).campaign("two").await.expect("it is free"));
    let (held, led) = (guard.clone(), leadership.clone());
    look_at(move || {
        let _ = (held.is_held(), format!("{held:?}"), led.is_held(), format!("{led:?}"));
    });
    let waiter = EtcdMutex::new(&two, name("lock"));
    let waiting = tokio::spawn(async move { waiter.lock().await.map(drop) });
    logged("claim_waiting").await;
    one.close().await.expect("it closes");
    waiting.await.expect("no panic").expect("it locks");
    client.lease_revoke(two.id()).await.expect("it is revoked");
    two.lost().await;
    three.orphan();
    let keeper = client.lease_grant(Duration::from_secs(5)).await.expect("it is granted").keep_alive();
    let keeper = Arc::new(keeper);
    let kept = keeper.clone();
    look_at(move || {
        let _ = (kept.remaining(), kept.lost_reason(), format!("{kept:?}"));
    });
    client.lease_revoke(keeper.id()).await.expect("it is revoked");
    keeper.lost().await;
}

async fn followers(client: &Client) {
    let request =
        CacheRequest::new(KeyRange::prefix("c/")).typed(|_, value| str::from_utf8(value).map(str::to_owned));
    let cache = client.cache(request).expect("a lawful request");
    let seen = cache.clone();
    look_at(move || {
        let _ = (seen.snapshot(), seen.status(), seen.stats(), format!("{seen:?}"));
    });
    cache.ready().await.expect("it lists");
    let subscription = cache.subscribe(KeyRange::prefix("c/")).expect("a lawful request");
    let config = Followed::value(client, "config", |bytes: &[u8]| str::from_utf8(bytes).map(str::to_owned));
    let config = config.expect("a lawful request");
    let seen = config.clone();
    look_at(move || {
        let _ = (seen.current(), seen.error(), seen.revision(), format!("{seen:?}"));
    });
    for key in ["c/1", "config"] {
        client.put(key, &b"\xff"[..]).await.expect("it is put");
    }
    logged("cache_undecodable").await;
    logged("config_undecodable").await;
    drop(subscription);

    let service = Discovery::new(client, "service").expect("a lawful name");
    let registration =
        Arc::new(service.register("one", ServiceEndpoint::new("10.0.0.1:1")).expect("it is lawful"));
    let seen = registration.clone();
    look_at(move || {
        let _ = (seen.state(), seen.failure(), seen.losses(), format!("{seen:?}"));
    });
    registration.registered().await.expect("it is registered");
    client.delete(registration.key().to_owned()).await.expect("it is deleted");
    logged("registration_lost").await;
    cache.close();
}

async fn scenario() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let proxy = FaultProxy::start(etcd.endpoint()).await.expect("a free port");
    let small = WatchConfig::default().buffer_bytes(4 << 10);
    let builder =
        etcd_watch_tokio::builder().endpoints([proxy.endpoint(), etcd.endpoint()]).watch_config(small);
    let client = builder.connect().await.expect("it serves");
    look_at_client(&client);
    look_at_client(&client.namespaced("app/").expect("not empty"));

    // A consumer that is too slow, streams that are lost, and endpoints that change.
    let request = WatchRequest::new(KeyRange::prefix("slow/")).overflow(Overflow::Replay);
    let slow = Arc::new(client.watch(request).expect("a lawful request"));
    let seen = slow.clone();
    look_at(move || {
        let _ = (seen.stats(), seen.resume_revision(), format!("{seen:?}"));
    });
    let mut mirror = client.mirror(MirrorRequest::new(KeyRange::prefix("m/"))).expect("a lawful request");
    mirror.next().await.expect("it goes on").expect("it goes well");
    for number in 0..16 {
        client.put(format!("slow/{number}"), vec![0; 1 << 10]).await.expect("it is put");
    }
    logged("watch_slow").await;
    proxy.cut_all(Cut::Reset);
    proxy.refuse();
    client.get("any").await.expect("it is read elsewhere");
    client.set_endpoints([etcd.endpoint()]).expect("a lawful endpoint");
    logged("endpoints_changed").await;
    leases_and_locks(&client).await;
    followers(&client).await;
    client.close().await;
}

#[test]
fn a_subscriber_may_use_the_client_in_every_event() {
    tracing::subscriber::set_global_default(Curious).expect("the only one");
    let (done, ended) = mpsc::channel();
    // On a thread that is left alone when it hangs.
    std::thread::spawn(move || {
        tokio::runtime::Runtime::new().expect("a runtime").block_on(scenario());
        done.send(()).expect("it is waited for");
    });
    let ended = ended.recv_timeout(3 * DEADLINE);
    let seen = SEEN.lock().expect("no panic").clone();
    assert!(ended.is_ok(), "it hangs, or has failed; seen: {seen:?}");
    for name in
        ["watch_created", "stream_opened", "session_closed", "session_lost", "lease_lost", "claim_lost"]
    {
        assert!(seen.contains(name), "{name} is not in {seen:?}");
    }
}
