//! What was away is ready again only once it has what it missed, and has been away since it lost its connection.

use std::time::Duration;

use etcd_watch_client::{
    Client, Health, Instant, KeyRange, Monitor, WatchConfig,
    cache::{Cache, CacheRequest, CacheStatus},
    config::Config,
};
use etcd_watch_testkit::{
    harness::wait_until,
    model::{ModelConfig, Quirks},
    proxy::{Cut, FaultProxy},
    server::EmbeddedEtcd,
};

use crate::{
    DEADLINE, On, in_time,
    kinds::{self, Kind},
    until,
};

/// How long the server keeps to itself what a watch has missed, after it has created it.
const SYNC: Duration = Duration::from_millis(1_500);

/// A cache may hardly be away.
const UNREADY_AFTER: Duration = Duration::from_millis(50);

/// A model server behind a proxy, and one of each kind that follows a range.
struct World {
    etcd: EmbeddedEtcd,
    proxy: FaultProxy,
    direct: Client,
    client: Client,
    cache: Cache,
    config: Config<String>,
    mirror: Kind,
}

fn client(endpoint: String) -> Client {
    let millis = Duration::from_millis;
    let config = WatchConfig::default().backoff(millis(5), millis(10), millis(50));
    On::Tokio.builder().endpoints([endpoint]).watch_config(config).connect_lazy().expect("valid settings")
}

impl World {
    /// All are ready.
    async fn start(model: ModelConfig) -> Self {
        let etcd = EmbeddedEtcd::start(model).await.expect("it starts");
        let proxy = FaultProxy::start(etcd.endpoint()).await.expect("the proxy starts");
        let (direct, client) = (client(etcd.endpoint()), client(proxy.endpoint()));
        in_time("a put", direct.put("h/config", "before")).await.expect("it is put");
        let request = CacheRequest::new(KeyRange::prefix("h/")).unready_after(UNREADY_AFTER);
        let cache = client.cache(request).expect("it is made");
        let text = |value: &[u8]| String::from_utf8(value.to_vec());
        let config = Config::value(&client, "h/config", text).expect("it is made");
        let mirror = kinds::mirror(&client);
        let world = Self { etcd, proxy, direct, client, cache, config, mirror };
        for (name, monitor) in world.monitors() {
            in_time(name, monitor.wait_ready()).await.expect("it is ready");
        }
        world
    }

    fn monitors(&self) -> [(&'static str, Monitor); 3] {
        [
            ("cache", self.cache.monitor()),
            ("config", self.config.monitor()),
            ("mirror", self.mirror.monitor.clone()),
        ]
    }

    async fn put(&self, key: &'static str, value: &'static str) -> i64 {
        in_time("a put", self.direct.put(key, value)).await.expect("it is put").revision()
    }

    /// Cuts it off, and waits until that is noticed; since when each of them is away.
    async fn cut(&self) -> [Instant; 3] {
        self.proxy.refuse();
        self.proxy.cut_all(Cut::Reset);
        let mut all = Vec::new();
        for (name, mut monitor) in self.monitors() {
            let is_cut = |health: &Health| !health.is_ready() && health.endpoint().is_none();
            let health = until(name, &mut monitor, is_cut).await;
            all.push(health.away_since().expect("it is away"));
        }
        // The server has noticed it, too: the watches that it creates later are others.
        wait_until("no watches", DEADLINE, || self.etcd.with_model(|model| model.watcher_count()) == 0).await;
        all.try_into().expect("there are three")
    }

    /// Waits until the server has created all watches again.
    async fn recreated(&self) {
        self.proxy.restore();
        wait_until("the watches", DEADLINE, || self.etcd.with_model(|model| model.watcher_count()) == 3)
            .await;
        for (name, mut monitor) in self.monitors() {
            until(name, &mut monitor, |health| health.endpoint().is_some()).await;
        }
    }
}

/// Waits until it is not away any more; until then it has been since the same instant.
async fn is_back(name: &str, mut monitor: Monitor, since: Instant) {
    let back = async {
        let mut health = monitor.health();
        while let Some(away) = health.away_since() {
            assert_eq!(away, since, "{name}: the time away begins with the loss: {health:?}");
            health = monitor.changed().await.unwrap_or_else(|ended| panic!("{name}: {ended}"));
        }
        assert!(health.is_ready(), "{name}: {health:?}");
    };
    match tokio::time::timeout(DEADLINE, back).await {
        Ok(()) => {}
        Err(_) => panic!("{name}: not within {DEADLINE:?}: {:?}", monitor.health()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_is_there_when_it_is_ready_again() {
    let world = World::start(ModelConfig { sync_interval: SYNC, ..ModelConfig::default() }).await;
    let away = world.cut().await;
    let missed = world.put("h/config", "missed").await;
    world.recreated().await;
    assert_eq!(world.cache.status(), CacheStatus::Away, "its watch runs, and what it missed has not come");
    let [of_cache, of_config, of_mirror] = away;
    let [(cache, monitor), (config, monitor_of_config), (mirror, monitor_of_mirror)] = world.monitors();

    // Whichever is asked first must not be ready before it has what it missed.
    tokio::join!(
        async {
            is_back(cache, monitor, of_cache).await;
            assert!(world.cache.snapshot().revision() >= missed, "{:?}", world.cache);
            assert_eq!(world.cache.get("h/config").expect("it is there").value(), b"missed");
            assert_eq!(world.cache.status(), CacheStatus::Current);
        },
        async {
            is_back(config, monitor_of_config, of_config).await;
            assert_eq!(world.config.current().as_deref().map(String::as_str), Some("missed"));
        },
        async {
            is_back(mirror, monitor_of_mirror.clone(), of_mirror).await;
            assert!(monitor_of_mirror.health().published_revision() >= Some(missed));
        },
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_loss_before_it_has_caught_up_does_not_begin_the_time_anew() {
    let world = World::start(ModelConfig { sync_interval: SYNC, ..ModelConfig::default() }).await;
    let away = world.cut().await;
    world.put("h/config", "missed").await;
    world.recreated().await;
    assert_eq!(world.cut().await, away, "what it missed had not come");
    world.put("h/config", "missed as well").await;
    world.recreated().await;
    for ((name, monitor), since) in world.monitors().into_iter().zip(away) {
        is_back(name, monitor, since).await;
    }
    assert_eq!(world.config.current().as_deref().map(String::as_str), Some("missed as well"));

    // The next loss is another.
    let later = world.cut().await;
    assert!(later.iter().zip(&away).all(|(later, first)| later > first), "{later:?} {away:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_goes_on_while_the_keys_are_listed_again() {
    let world = World::start(ModelConfig::default()).await;
    let away = world.cut().await;
    world.put("h/config", "compacted").await;
    let last = world.put("h/config", "listed").await;
    in_time("a compaction", world.direct.compact(last)).await.expect("it is compacted");
    world.proxy.restore();
    for ((name, monitor), since) in world.monitors().into_iter().zip(away) {
        is_back(name, monitor, since).await;
    }
    assert!(world.cache.stats().lists > 1 && world.cache.snapshot().revision() >= last);
    assert_eq!(world.config.current().as_deref().map(String::as_str), Some("listed"));
}

/// The store has moved on by a key that nobody here follows, so that no event will come.
async fn elsewhere(model: ModelConfig) -> (World, i64) {
    let world = World::start(model).await;
    let away = world.cut().await;
    let moved = world.put("other", "elsewhere").await;
    world.proxy.restore();
    for ((name, monitor), since) in world.monitors().into_iter().zip(away) {
        is_back(name, monitor, since).await;
    }
    (world, moved)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_was_missed_the_server_is_asked() {
    let (world, moved) = elsewhere(ModelConfig::default()).await;
    assert!(world.cache.snapshot().revision() >= moved, "it has been told how far it is");
    in_time("an end", world.client.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_server_may_not_answer_it_is_ready_as_soon_as_its_watch_runs() {
    // It would be asked in vain.
    let quirks = Quirks { ignore_progress_requests: true, ..Quirks::default() };
    elsewhere(ModelConfig { version: "3.5.12".to_owned(), quirks, ..ModelConfig::default() }).await;
    // A proxy makes up the revision at which it created a watch.
    elsewhere(ModelConfig { quirks: Quirks::grpc_proxy(), ..ModelConfig::default() }).await;
}
