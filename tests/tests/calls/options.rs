//! Options of the calls of a view of a client: what arrives at a server of them.

use std::time::{Duration, Instant};

use etcd_watch_client::{
    CallError, CallOptions, CallOptionsError, Client, ClientBuilder, KeyRange, Put, StreamOptions,
    WatchRequest,
};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion, wait_until},
    proxy::FaultProxy,
};

use crate::world::{Answer, DEADLINE, SECOND, Scripted};

fn lazy(builder: ClientBuilder, endpoint: String) -> Client {
    builder.endpoints([endpoint]).connect_lazy().expect("the settings are valid")
}

/// A test of it on tokio and on smol.
macro_rules! on_each_runtime {
    ($($name:ident)*) => {$(
        mod $name {
            #[tokio::test]
            async fn on_tokio() {
                super::$name(etcd_watch_tokio::builder()).await;
            }

            #[tokio::test]
            async fn on_smol() {
                super::$name(etcd_watch_smol::builder()).await;
            }
        }
    )*};
}

on_each_runtime! {
    every_request_of_a_view_carries_its_metadata
    watches_and_mirrors_of_a_view_carry_its_metadata
    a_view_has_a_time_limit_of_its_own
    a_view_of_a_real_cluster_does_what_its_client_does
    a_lease_of_a_view_is_renewed_by_its_own_time
}

async fn every_request_of_a_view_carries_its_metadata(builder: ClientBuilder) {
    let etcd = Scripted::start(|_| Answer::Empty).await;
    let client = lazy(builder.token("of-the-client"), etcd.endpoint());
    let outer = CallOptions::new().metadata("x-tenant", "red").metadata("traceparent", "00-1");
    let outer = client.with_options(outer).expect("they are valid");
    let inner = CallOptions::new().metadata("x-tenant", "blue").token("of-the-view");
    let inner = outer.with_options(inner).expect("they are valid");
    for (view, tenant, trace, token) in [
        (&client, "", "", "of-the-client"),
        (&outer, "red", "00-1", "of-the-client"),
        (&inner, "blue", "00-1", "of-the-view"),
        (&inner.namespaced("in/").expect("a prefix"), "blue", "00-1", "of-the-view"),
        (&client, "", "", "of-the-client"),
    ] {
        for (method, name, expected) in [
            ("Range", "x-tenant", tenant),
            ("Put", "traceparent", trace),
            ("DeleteRange", "token", token),
            ("LeaseRevoke", "x-tenant", tenant),
            ("LeaseRevoke", "user-agent", concat!("etcd-watch/", env!("CARGO_PKG_VERSION"))),
        ] {
            match method {
                "Range" => drop(view.get("key").await.expect("it is answered")),
                "Put" => drop(view.put("key", "value").await.expect("it is answered")),
                "DeleteRange" => drop(view.delete("key").await.expect("it is answered")),
                _ => drop(view.lease_revoke(7).await.expect("it is answered")),
            }
            assert_eq!(etcd.take_headers(method, name), [expected], "{method} {name}");
        }
    }
    // A lease is kept alive in the background by the view that it was granted with.
    let keeper = inner.lease_keep_alive(7, 60 * SECOND).expect("a time");
    let mut renewed = Vec::new();
    wait_until("it is renewed", DEADLINE, || {
        renewed.extend(etcd.take_headers("LeaseKeepAlive", "x-tenant"));
        !renewed.is_empty()
    })
    .await;
    assert_eq!(renewed[0], "blue");
    drop(keeper);
}

async fn watches_and_mirrors_of_a_view_carry_its_metadata(builder: ClientBuilder) {
    let etcd = Scripted::start(|_| Answer::Silence).await;
    let client = lazy(builder.token("of-the-client"), etcd.endpoint());
    let options =
        CallOptions::new().metadata("x-tenant", "blue").metadata("x-zone", "a").token("of-the-view");
    let view = client.with_options(options).expect("they are valid");
    let mut own = StreamOptions::default();
    own.metadata.push(("x-zone".into(), "b".into()));
    let from_one = || WatchRequest::new("key").start_revision(1);

    // The member is asked for its version first, and the watch is told of if that is not answered.
    let seen = async |method: &str, name: &str| {
        let mut values = Vec::new();
        wait_until("it is asked for", DEADLINE, || {
            values.extend(etcd.take_headers(method, name));
            !values.is_empty()
        })
        .await;
        values[0].clone()
    };
    let watch = view.watch(from_one()).expect("it is lawful");
    assert_eq!(seen("Status", "x-tenant").await, "blue");
    assert_eq!(seen("Watch", "token").await, "of-the-view");
    drop(watch);
    let watch = view.watch(from_one().stream_options(own)).expect("it is lawful");
    assert_eq!(seen("Watch", "x-zone").await, "b", "the watch's own options win");
    drop(watch);
    let watch = client.watch(from_one()).expect("it is lawful");
    assert_eq!(seen("Watch", "token").await, "of-the-client");
    drop(watch);
    let mut mirror = view.mirror(KeyRange::prefix("key")).expect("it is lawful");
    tokio::select! {
        _ = mirror.next() => panic!("nobody answers"),
        tenant = seen("Range", "x-tenant") => assert_eq!(tenant, "blue"),
    }
    let mut mirror = view.mirror(KeyRange::prefix("key")).expect("it is lawful");
    tokio::select! {
        _ = mirror.next() => panic!("nobody answers"),
        token = seen("Range", "token") => assert_eq!(token, "of-the-view"),
    }
}

async fn a_view_has_a_time_limit_of_its_own(builder: ClientBuilder) {
    let etcd = Scripted::start(|_| Answer::Silence).await;
    let client = lazy(builder.request_timeout(2 * SECOND), etcd.endpoint());
    let view = client.with_options(CallOptions::new().timeout(SECOND / 4)).expect("it is valid");
    let patient = view.with_options(CallOptions::new().timeout(DEADLINE)).expect("it is valid");
    let began = Instant::now();
    let waiting = patient.get("key");
    let (read, write) = tokio::join!(view.get("key"), view.put("key", "value"));
    assert!(matches!(read, Err(CallError::Timeout { after, .. }) if after == SECOND / 4), "{read:?}");
    assert!(matches!(write, Err(CallError::MaybeExecuted { .. })), "{write:?}");
    assert!(began.elapsed() < 2 * SECOND, "{:?}", began.elapsed());
    let read = client.get("key").await;
    assert!(matches!(read, Err(CallError::Timeout { after, .. }) if after == 2 * SECOND), "{read:?}");
    let in_vain = tokio::time::timeout(SECOND / 4, waiting).await;
    in_vain.expect_err("it has a minute");
    let zero = client.with_options(CallOptions::new().timeout(Duration::ZERO)).expect_err("it is none");
    assert!(matches!(zero, CallOptionsError::Timeout { .. }), "{zero}");
}

async fn a_view_of_a_real_cluster_does_what_its_client_does(builder: ClientBuilder) {
    let etcd = EtcdServer::builder(EtcdVersion::V3_7).start_async().await.expect("it starts");
    let client = lazy(builder, etcd.endpoint());
    let options =
        CallOptions::new().timeout(DEADLINE).metadata("x-tenant", "blue").metadata("traceparent", "00-1");
    let view = client.with_options(options).expect("they are valid");
    let mut watch = view.watch(WatchRequest::new("key").start_revision(1)).expect("it is lawful");
    let mut plain = client.watch(WatchRequest::new("key").start_revision(1)).expect("it is lawful");
    let lease = view.lease_grant(60 * SECOND).await.expect("it is granted");
    let put = view.put_with(Put::new("key", "value").lease(lease.id())).await.expect("it is put");
    for watch in [&mut watch, &mut plain] {
        let response = tokio::time::timeout(DEADLINE, watch.try_next()).await.expect("in time");
        let response = response.expect("it goes on").expect("it has no end");
        assert_eq!(response.events().next().expect("the put").mod_revision(), put.revision());
    }
    assert_eq!(client.stats().streams, 2, "one for each metadata");
    view.close().await;
    client.get("key").await.expect_err("it is closed with its view");
}

async fn a_lease_of_a_view_is_renewed_by_its_own_time(builder: ClientBuilder) {
    let etcd = EtcdServer::builder(EtcdVersion::V3_7).start_async().await.expect("it starts");
    let proxy = FaultProxy::start(etcd.endpoint()).await.expect("it starts");
    let client = lazy(builder, proxy.endpoint());
    let lease = client.lease_grant(60 * SECOND).await.expect("it is granted");
    proxy.set_delay(SECOND / 10);
    let view = client.with_options(CallOptions::new().timeout(SECOND / 50)).expect("it is valid");
    view.get("key").await.expect_err("an answer takes longer than the view's calls may");
    let keeper = view.lease_keep_alive(lease.id(), lease.ttl()).expect("it has a time");
    wait_until("a renewal is answered", DEADLINE, || keeper.health().heard_ago().is_some()).await;
    assert_eq!(keeper.lost_reason(), None);
}
