//! Behind etcd's gRPC proxy, which loses watches once their tokens have expired.

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

/// Longer than the tokens last: a probe's is an expired one.
const PROBE: Duration = Duration::from_secs(5);

/// A client of alice's, by way of etcd's proxy.
fn alice(world: &World, proxy: &GrpcProxy, probe: Option<Duration>) -> Client {
    let config = WatchConfig::default().probe(probe).probe_timeout(Duration::from_secs(3));
    let builder = world.builder().endpoints([proxy.endpoint()]).watch_config(config);
    builder.user("alice", PASSWORD).connect_lazy().expect("valid settings")
}

/// A watch through etcd's proxy, which has lost it: the proxy's own connection to the server was cut, the proxy goes on
/// with the watch's token, and that has expired.
async fn lose(world: &World, client: &Client) -> Observer {
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

pub(crate) async fn without_probes_a_watch_that_the_proxy_has_lost_stays_silent(setup: Setup) {
    let world = World::start(setup).await;
    let proxy = GrpcProxy::start(&world.server, world.proxy.endpoint()).await.expect("the proxy starts");
    let client = alice(&world, &proxy, None);
    let mut observer = lose(&world, &client).await;
    let last = world.put("a/1", "last").await;
    assert!(
        timeout(SILENCE, observer.check_through(&world, last)).await.is_err(),
        "nothing is heard any more"
    );
    assert_eq!(client.stats().reconnects, 0, "and nobody notices");
}

pub(crate) async fn with_probes_it_is_noticed_and_goes_on_without_a_loss(setup: Setup) {
    let world = World::start(setup).await;
    let proxy = GrpcProxy::start(&world.server, world.proxy.endpoint()).await.expect("the proxy starts");
    let client = alice(&world, &proxy, Some(PROBE));
    let mut observer = lose(&world, &client).await;
    let since = Instant::now();
    let last = world.put("a/1", "last").await;
    observer.check_through(&world, last).await;
    println!("all came after {:?}: {:?}", since.elapsed(), client.stats());
    assert_eq!(client.stats().deaf, 1);
    let last = world.put("a/2", "afterwards").await;
    observer.check_through(&world, last).await;
}
