//! What each runtime brings of its own: connecting, names, timers.

#![cfg(unix)]

mod common;

use std::{
    io::Read,
    net::TcpListener,
    time::{Duration, Instant},
};

use common::{DEADLINE, On, SECOND, everything_from, in_time, revisions_through, serve};
use etcd_watch_client::{CallError, Client, ClientBuilder, Endpoint, Get, StartError, WatchConfig};
use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion, wait_until_blocking};

/// A test of each for both runtimes.
macro_rules! on_both_runtimes {
    ($($name:ident)*) => {
        mod smol_runtime {
            $(#[test]
            fn $name() {
                smol::block_on(super::$name(etcd_watch_smol::builder));
            })*
        }
        mod async_std_runtime {
            $(#[test]
            fn $name() {
                async_std::task::block_on(super::$name(etcd_watch_smol::async_std::builder));
            })*
        }
    };
}

on_both_runtimes! {
    a_name_is_resolved_and_its_addresses_tried
    connecting_waits_unless_it_is_lazy
    a_client_dropped_while_it_connects_gives_its_connection_up
    a_read_that_hangs_is_made_elsewhere_in_time
    a_write_without_an_answer_may_have_been_executed
    an_idle_stream_is_reset_and_opened_again_when_needed
}

fn builder(on: On, endpoints: impl IntoIterator<Item = String>) -> ClientBuilder {
    on().endpoints(endpoints)
}

fn build(builder: ClientBuilder) -> Client {
    builder.connect_lazy().expect("valid settings")
}

fn server() -> EtcdServer {
    serve(EtcdVersion::V3_5)
}

/// Takes connections, and never says anything.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    (listener, endpoint)
}

async fn a_name_is_resolved_and_its_addresses_tried(on: On) {
    let server = server();
    // Often two addresses, of which the server listens on one.
    let endpoint = format!("http://localhost:{}", server.address().port());
    let client = build(builder(on, [endpoint.clone()]));
    client.put("key", "value").await.expect("it is put");
    assert_eq!(client.endpoints().iter().map(Endpoint::to_string).collect::<Vec<_>>(), [endpoint]);

    let nowhere = "http://no-such-host.invalid:2379".to_owned();
    let connecting = builder(on, [nowhere]).no_proxy().connect_timeout(SECOND).connect().await;
    let error = connecting.expect_err("it has no address");
    assert!(error.to_string().contains("looking up \"no-such-host.invalid\""), "{error}");
}

async fn connecting_waits_unless_it_is_lazy(on: On) {
    let (listener, endpoint) = silent();
    drop(listener);
    let waiting = builder(on, [endpoint.clone()]).connect_timeout(SECOND / 4).connect();
    let error = in_time("connecting is given up", waiting).await.expect_err("nobody listens");
    assert!(matches!(error, StartError::Unreachable { .. }), "{error}");
    builder(on, [endpoint]).connect_lazy().expect("it doesn't wait");
    let server = server();
    let waiting = builder(on, [server.endpoint()]).connect_timeout(DEADLINE);
    waiting.connect().await.expect("it answers");
}

async fn a_client_dropped_while_it_connects_gives_its_connection_up(on: On) {
    let (listener, endpoint) = silent();
    let client = build(builder(on, [endpoint]));
    let watch = client.watch(everything_from(1)).expect("it is opened");
    let (mut accepted, _) = listener.accept().expect("it connects");
    accepted.set_read_timeout(Some(DEADLINE)).expect("a socket");
    drop((client, watch));
    // It ends, or is reset, before the read's time is over.
    if let Err(error) = accepted.read_to_end(&mut Vec::new()) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
}

async fn a_read_that_hangs_is_made_elsewhere_in_time(on: On) {
    let (first, second) = (server(), server());
    let endpoints = [first.endpoint(), second.endpoint()];
    let client = build(builder(on, endpoints).request_timeout(8 * SECOND));
    client.get(Get::key("key")).await.expect("it is read");
    first.pause().expect("it runs");
    let began = Instant::now();
    client.get(Get::key("key")).await.expect("it is read");
    assert!(began.elapsed() >= 2 * SECOND, "a quarter of the time went to the one of two that hangs");
    first.resume().expect("it is there");
}

async fn a_write_without_an_answer_may_have_been_executed(on: On) {
    let server = server();
    let client = build(builder(on, [server.endpoint()]).request_timeout(3 * SECOND));
    client.put("key", "before").await.expect("it is put");
    server.pause().expect("it runs");
    let error = client.put("key", "meanwhile").await.expect_err("there is no answer");
    assert!(matches!(error, CallError::MaybeExecuted { method: "Put", .. }), "{error}");
    server.resume().expect("it runs");
    let client = build(builder(on, [server.endpoint()]));
    let last = client.put("key", "after").await.expect("it is put");
    let last = last.revision();
    let mut watch = client.watch(everything_from(last)).expect("it is opened");
    // What had no answer may have been made before that, after it, or never.
    assert_eq!(revisions_through(&mut watch, last).await.first(), Some(&last));
}

async fn an_idle_stream_is_reset_and_opened_again_when_needed(on: On) {
    let server = server();
    let config = WatchConfig::default().linger(Duration::from_millis(50));
    let client = build(builder(on, [server.endpoint()]).watch_config(config));
    let streams = || server.watch_stream_count().ok();
    let watch = client.watch(everything_from(1)).expect("it is opened");
    wait_until_blocking("the stream is open", DEADLINE, || streams() == Some(1));
    drop(watch);
    wait_until_blocking("the stream is gone", DEADLINE, || streams() == Some(0));
    let mut watch = client.watch(everything_from(1)).expect("it is opened");
    client.put("key", "value").await.expect("it is put");
    assert_eq!(revisions_through(&mut watch, 2).await, [2]);
}
