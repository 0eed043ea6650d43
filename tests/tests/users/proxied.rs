//! Behind etcd's gRPC proxy, which loses watches once their tokens have expired: when its own connection to the server
//! breaks, it resumes them with these tokens, is refused, and tells nobody.

use std::time::{Duration, Instant};

use etcd_watch_client::{Client, WatchConfig};
use etcd_watch_testkit::harness::GrpcProxy;
use tokio::time::timeout;

use crate::{
    expiry::expired,
    world::{Observer, PASSWORD, Setup, World, sleep_until},
};

/// How long a watch that has been lost is listened to.
const SILENCE: Duration = Duration::from_secs(8);

/// Longer than tokens last, so that the tokens of probes have expired too.
const PROBE: Duration = Duration::from_secs(5);

/// A server, the fault proxy, and etcd's proxies behind that.
struct Proxied {
    world: World,
    proxies: Vec<GrpcProxy>,
}

impl Proxied {
    async fn start(setup: Setup, proxies: usize) -> Self {
        let mut proxied = Self { world: World::start(setup).await, proxies: Vec::new() };
        let world = &proxied.world;
        for _ in 0..proxies {
            let proxy = GrpcProxy::start(&world.server, world.proxy.endpoint()).await;
            proxied.proxies.push(proxy.expect("the proxy starts"));
        }
        proxied
    }

    /// A client of alice's, by way of etcd's proxies.
    fn alice(&self, probe: Option<Duration>) -> Client {
        let config = WatchConfig::default().probe(probe).probe_timeout(Duration::from_secs(3));
        let builder = self.world.builder().endpoints(self.proxies.iter().map(GrpcProxy::endpoint));
        builder.watch_config(config).user("alice", PASSWORD).connect_lazy().expect("valid settings")
    }

    /// A watch that its proxy has lost.
    async fn lose(&self, client: &Client) -> Observer {
        let world = &self.world;
        let mut observer = Observer::running(client, "a/").await;
        let first = world.put("a/1", "first").await;
        observer.check_through(world, first).await;
        sleep_until(expired()).await;
        world.cut();
        let last = world.put("a/1", "unheard").await;
        let heard = timeout(Duration::from_secs(1), observer.check_through(world, last)).await;
        assert!(heard.is_err(), "the proxy has not lost it");
        observer
    }

    /// A watch that its proxy has lost goes on, and nothing is missing.
    async fn lose_and_recover(&self) {
        let (world, client) = (&self.world, self.alice(Some(PROBE)));
        let mut observer = self.lose(&client).await;
        let since = Instant::now();
        let last = world.put("a/1", "last").await;
        observer.check_through(world, last).await;
        println!("all came after {:?}: {:?}", since.elapsed(), client.stats());
        assert_eq!(client.stats().deaf, 1);
        let last = world.put("a/2", "afterwards").await;
        observer.check_through(world, last).await;
    }
}

pub(crate) async fn without_probes_a_lost_watch_stays_silent(setup: Setup) {
    let proxied = Proxied::start(setup, 1).await;
    let (world, client) = (&proxied.world, proxied.alice(None));
    let mut observer = proxied.lose(&client).await;
    let last = world.put("a/1", "last").await;
    assert!(
        timeout(SILENCE, observer.check_through(world, last)).await.is_err(),
        "nothing is heard any more"
    );
    assert_eq!(client.stats().reconnects, 0, "and nobody notices");
}

/// Not by way of 3.4's proxy: that answers nobody who watches these keys any more.
pub(crate) async fn with_probes_a_lost_watch_goes_on_at_the_same_proxy(setup: Setup) {
    Proxied::start(setup, 1).await.lose_and_recover().await;
}

pub(crate) async fn with_probes_a_lost_watch_goes_on_at_another_proxy(setup: Setup) {
    Proxied::start(setup, 2).await.lose_and_recover().await;
}
