//! One name with several addresses, as a headless service has it.

use std::{net::SocketAddr, time::Duration};

use etcd_watch_client::{Client, ClientBuilder, KeyRange};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion},
    model::ModelConfig,
    proxy::{Cut, FaultProxy},
    server::EmbeddedEtcd,
};
use tokio::time::timeout;

use crate::{AT_ONCE, LIMIT, created, silent, wrapped::Wrapped};

fn address(endpoint: &str) -> SocketAddr {
    endpoint.trim_start_matches("http://").parse().expect("an address")
}

fn builder(runtime: &Wrapped) -> ClientBuilder {
    let builder = ClientBuilder::on(runtime.clone()).endpoints(["http://etcd.example:2379"]).no_proxy();
    builder.dial_timeout(LIMIT).request_timeout(LIMIT)
}

fn lazy(runtime: &Wrapped) -> Client {
    builder(runtime).connect_lazy().expect("valid settings")
}

async fn read(client: &Client) {
    let read = timeout(AT_ONCE, client.get("key")).await.expect("it doesn't wait for the address that hangs");
    read.expect("it is read");
}

/// A client of a name whose first address is of no use, and whose others lead to this endpoint: by a proxy, and directly.
/// It reads a key by the second, loses that connection, and reads again by the third.
async fn passed_over(bad: SocketAddr, endpoint: String) -> (Client, Wrapped, FaultProxy) {
    let proxy = FaultProxy::start(endpoint.clone()).await.expect("the proxy starts");
    let [good, other] = [proxy.endpoint(), endpoint].map(|endpoint| address(&endpoint));
    let runtime = Wrapped::resolving_to(&[bad, good, other]);
    let client = lazy(&runtime);
    read(&client).await;
    assert_eq!(runtime.take_connected(), [bad, good]);
    proxy.cut_all(Cut::Reset);
    read(&client).await;
    assert_eq!(runtime.take_connected(), [other], "the bad one is not tried while another is up");
    (client, runtime, proxy)
}

#[tokio::test]
async fn an_address_that_hangs_is_passed_over_and_tried_last_from_then_on() {
    let etcd = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let (_listener, hung) = silent().await;
    let (client, runtime, _proxy) = passed_over(hung, etcd.endpoint()).await;
    assert_eq!(runtime.resolved(), 2, "a name is resolved for each connection");

    let watch = client.watch(KeyRange::prefix("key")).expect("it is opened");
    timeout(AT_ONCE, created(&watch)).await.expect("a stream goes past it, too");
}

#[tokio::test]
async fn an_address_that_refuses_is_passed_over() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let (listener, dead) = silent().await;
    drop(listener);
    let good = address(&etcd.endpoint());
    let runtime = Wrapped::resolving_to(&[dead, good]);
    read(&lazy(&runtime)).await;
    assert_eq!(runtime.take_connected(), [dead, good]);
}

#[tokio::test]
async fn an_address_that_refused_is_tried_last_from_then_on() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let (listener, dead) = silent().await;
    drop(listener);
    passed_over(dead, etcd.endpoint()).await;
}

#[tokio::test]
async fn an_address_that_hangs_for_the_whole_dial_timeout_is_tried_last_from_then_on() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let (_listener, hung) = silent().await;
    let good = address(&etcd.endpoint());
    let runtime = Wrapped::resolving_to(&[hung, good]);
    // Over before the next address would be tried beside it.
    let client = builder(&runtime).dial_timeout(Duration::from_millis(100)).connect_lazy();
    let client = client.expect("valid settings");
    read(&client).await;
    assert_eq!(runtime.take_connected(), [hung, good]);
}

#[tokio::test]
async fn an_address_that_comes_up_again_has_its_place_back() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let first = FaultProxy::start(etcd.endpoint()).await.expect("the proxy starts");
    let second = FaultProxy::start(etcd.endpoint()).await.expect("the proxy starts");
    let [one, two] = [&first, &second].map(|proxy| address(&proxy.endpoint()));
    let runtime = Wrapped::resolving_to(&[one, two]);
    let client = lazy(&runtime);
    first.refuse();
    read(&client).await;
    assert_eq!(runtime.take_connected(), [one, two]);
    first.restore();
    runtime.resolve_to(&[one]);
    second.cut_all(Cut::Reset);
    read(&client).await;
    assert_eq!(runtime.take_connected(), [one]);
    runtime.resolve_to(&[one, address(&etcd.endpoint())]);
    let watch = client.watch(KeyRange::prefix("key")).expect("it is opened");
    timeout(AT_ONCE, created(&watch)).await.expect("a stream is opened");
    assert_eq!(runtime.take_connected(), [one], "it comes before one that was never tried");
}

#[tokio::test]
async fn the_address_of_a_connection_that_broke_is_tried_last() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let first = FaultProxy::start(etcd.endpoint()).await.expect("the proxy starts");
    let second = FaultProxy::start(etcd.endpoint()).await.expect("the proxy starts");
    let [one, two] = [&first, &second].map(|proxy| address(&proxy.endpoint()));
    let runtime = Wrapped::resolving_to(&[one, two]);
    let client = lazy(&runtime);
    read(&client).await;
    first.cut_all(Cut::Reset);
    read(&client).await;
    assert_eq!(runtime.take_connected(), [one, two]);
    second.cut_all(Cut::Reset);
    read(&client).await;
    assert_eq!(runtime.take_connected(), [one]);
}

#[tokio::test]
async fn a_name_that_moves_is_followed() {
    let old = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let proxy = FaultProxy::start(old.endpoint()).await.expect("the proxy starts");
    let new = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let runtime = Wrapped::resolving_to(&[address(&proxy.endpoint())]);
    let client = lazy(&runtime);
    read(&client).await;
    runtime.resolve_to(&[address(&new.endpoint())]);
    runtime.take_connected();
    proxy.refuse();
    proxy.cut_all(Cut::Reset);
    read(&client).await;
    assert_eq!(runtime.take_connected(), [address(&new.endpoint())]);
}
