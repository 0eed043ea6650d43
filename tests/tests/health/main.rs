//! What each kind says of itself while its server is up, frozen, cut off and back; and what a cache is good for then.

mod bookmarks;
mod caught_up;
mod kinds;
#[path = "../conformance/runtime.rs"]
mod runtime;
mod staleness;
mod stories;

use std::{future::Future, time::Duration};

use etcd_watch_client::{Client, Health, Monitor, WatchConfig};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdServerBuilder, EtcdVersion},
    proxy::FaultProxy,
};
use runtime::On;

/// For any one thing that a test waits for: much longer than it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How long a stream may be silent before it is asked for a sign of life, and how long that may take.
const PROBE: Duration = Duration::from_millis(300);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, future).await;
    done.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// Waits until what a monitor tells is so.
pub(crate) async fn until(what: &str, monitor: &mut Monitor, is_so: impl Fn(&Health) -> bool) -> Health {
    let changes = async {
        let mut health = monitor.health();
        while !is_so(&health) {
            health = monitor.changed().await.unwrap_or_else(|ended| panic!("{what}: {ended}"));
        }
        health
    };
    match tokio::time::timeout(DEADLINE, changes).await {
        Ok(health) => health,
        Err(_) => panic!("{what}: not within {DEADLINE:?}: {:?}", monitor.health()),
    }
}

/// A server behind a proxy, and a client.
pub(crate) struct World {
    pub(crate) client: Client,
    /// A client past the proxy.
    pub(crate) direct: Client,
    pub(crate) proxy: FaultProxy,
    pub(crate) server: EtcdServer,
}

impl World {
    pub(crate) async fn start(on: On, version: EtcdVersion) -> Self {
        Self::start_with(on, version, |server| server).await
    }

    pub(crate) async fn start_with(
        on: On,
        version: EtcdVersion,
        change: impl FnOnce(EtcdServerBuilder) -> EtcdServerBuilder,
    ) -> Self {
        let server = change(EtcdServer::builder(version)).start_async().await.expect("etcd starts");
        let proxy = FaultProxy::start(server.endpoint()).await.expect("the proxy starts");
        let millis = Duration::from_millis;
        let config = WatchConfig::default()
            .backoff(millis(5), millis(10), millis(100))
            .probe(Some(PROBE))
            .probe_timeout(PROBE_TIMEOUT);
        let builder = |endpoint: String| {
            on.builder()
                .endpoints([endpoint])
                .watch_config(config.clone())
                .request_timeout(Duration::from_secs(2))
                .dial_timeout(Duration::from_secs(1))
        };
        let client = builder(proxy.endpoint()).connect_lazy().expect("valid settings");
        let direct = builder(server.endpoint()).connect_lazy().expect("valid settings");
        Self { client, direct, proxy, server }
    }

    pub(crate) async fn put(&self, key: &'static str) -> i64 {
        in_time("a put", self.direct.put(key, "value")).await.expect("it is put").revision()
    }
}
