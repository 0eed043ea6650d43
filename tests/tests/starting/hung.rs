//! A member that hangs is first in the list: its system takes connections, and it says nothing.

use std::future::Future;

use etcd_watch_testkit::{
    harness::{EtcdCluster, EtcdVersion, wait_until},
    model::ModelConfig,
    server::EmbeddedEtcd,
};
use etcd_watch_tokio::{Client, KeyRange, concurrency::Session};
use tokio::time::timeout;

use crate::{AT_ONCE, DEADLINE, LIMIT, created, log::Log, silent, url};

/// Its time limits are so long that whatever waits for one of them is found out.
fn lazy(endpoints: impl IntoIterator<Item = String>) -> Client {
    let builder = etcd_watch_tokio::builder().endpoints(endpoints);
    builder.dial_timeout(LIMIT).request_timeout(LIMIT).connect_lazy().expect("valid settings")
}

async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(AT_ONCE, work).await.unwrap_or_else(|_| panic!("{what} waits for the member that hangs"))
}

/// Does everything once, each with a client of its own.
async fn everything_goes_past_the_first(endpoints: impl Fn() -> Vec<String>) {
    let (log, _guard) = Log::start();
    let client = || lazy(endpoints());
    in_time("a read", client().get("key")).await.expect("it is read");
    in_time("a write", client().put("key", "value")).await.expect("it is written");
    in_time("a lease", client().lease_grant(std::time::Duration::from_secs(60)))
        .await
        .expect("it is granted");
    drop(in_time("a session", Session::open(&client())).await.expect("it is opened"));
    let client = client();
    let mut watch = client.watch(KeyRange::prefix("key")).expect("it is opened");
    in_time("a watch", created(&watch)).await;
    client.put("key", "value").await.expect("it is written");
    let response = in_time("an event", watch.next()).await.expect("it goes on").expect("it does not end");
    assert_eq!(response.events().count(), 1);
    assert_eq!(log.named("endpoint_answers"), [""; 0], "it has never answered");
}

#[tokio::test]
async fn a_silent_server_costs_a_moment() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let (_listener, hung) = silent().await;
    everything_goes_past_the_first(|| vec![url(hung), etcd.endpoint()]).await;
}

#[tokio::test]
async fn a_frozen_follower_costs_a_moment() {
    let cluster = EtcdCluster::builder(EtcdVersion::V3_5).start_async().await.expect("the cluster starts");
    let leader = cluster.wait_for_leader().await.expect("there is one");
    let others = cluster.all_but(leader);
    let frozen = cluster.member(others[0]);
    frozen.pause().expect("it is frozen");
    let endpoints = [frozen, cluster.member(others[1]), cluster.member(leader)].map(|each| each.endpoint());
    everything_goes_past_the_first(|| endpoints.to_vec()).await;
    frozen.resume().expect("it goes on");
}

#[tokio::test]
async fn a_server_that_hangs_is_tried_last_from_then_on_and_named_in_the_log() {
    let (log, _guard) = Log::start();
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let (_listener, hung) = silent().await;
    let builder = etcd_watch_tokio::builder().endpoints([url(hung), etcd.endpoint()]);
    let client = builder.dial_timeout(DEADLINE / 60).connect().await.expect("one of them answers");
    let order: Vec<_> = client.endpoints().iter().map(ToString::to_string).collect();
    assert_eq!(order, [etcd.endpoint(), url(hung)]);
    wait_until("the log says that it hangs", DEADLINE, || !log.named("endpoint_failed").is_empty()).await;
    let failed = log.named("endpoint_failed").concat();
    assert!(failed.contains(&url(hung)) && failed.contains("no answer within 1s"), "{failed}");
}
