//! `connect` connects, or says of every endpoint why not.

use std::time::{Duration, Instant};

use etcd_watch_testkit::{
    certificates::TestCa,
    harness::{Auth, EtcdServer, EtcdVersion, ServerTls},
    model::ModelConfig,
    server::EmbeddedEtcd,
};
use etcd_watch_tokio::{ClientBuilder, StartError, Tls};

use crate::{AT_ONCE, DEADLINE, LIMIT, dead, silent, stubborn, url};

const OWN_ADDRESS: [&str; 1] = ["127.0.0.1"];

fn builder(endpoints: impl IntoIterator<Item = String>) -> ClientBuilder {
    etcd_watch_tokio::builder().endpoints(endpoints).no_proxy().connect_timeout(LIMIT)
}

/// The error, which has to come before the time limit is over.
async fn fails_at_once(builder: ClientBuilder) -> StartError {
    let began = Instant::now();
    let error = builder.connect().await.expect_err("it can't connect");
    assert!(began.elapsed() < AT_ONCE, "{error}");
    error
}

#[tokio::test]
async fn connect_returns_when_a_member_has_answered() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let (_listener, hung) = silent().await;
    let began = Instant::now();
    let client = builder([dead().await, url(hung), etcd.endpoint()]).dial_timeout(LIMIT).connect().await;
    client.expect("one of them answers").put("key", "value").await.expect("it is put");
    assert!(began.elapsed() < AT_ONCE);
}

#[tokio::test]
async fn a_server_that_hangs_is_no_server_to_connect_to() {
    let (_listener, hung) = silent().await;
    let error = builder([url(hung)]).connect_timeout(Duration::from_millis(500)).connect().await;
    let error = error.expect_err("it says nothing");
    let StartError::Unreachable { endpoints, .. } = &error else { panic!("{error}") };
    assert!(endpoints[0].cause.to_string().contains("no answer within 500ms"), "{error}");
}

#[tokio::test]
async fn every_endpoint_is_told_with_its_own_cause() {
    let ca = TestCa::new();
    let secure = EtcdServer::builder(EtcdVersion::V3_5).tls(ServerTls::new(&ca.server(OWN_ADDRESS)));
    let secure = secure.start_async().await.expect("etcd starts");
    let (_listener, hung) = silent().await;
    let web = stubborn(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let endpoints = [dead().await, url(hung), url(secure.address()), url(web)];
    let short = Duration::from_secs(2);
    let error = builder(endpoints.clone()).dial_timeout(short / 2).connect_timeout(short).connect().await;
    let error = error.expect_err("none is etcd in plain text");
    let StartError::Unreachable { endpoints: failures, after } = &error else { panic!("{error}") };
    assert_eq!(*after, short);
    let causes = ["refused", "no answer within 1s", "https://", "\"HTTP/1.1 400 Bad Request\""];
    for ((failure, endpoint), cause) in failures.iter().zip(&endpoints).zip(causes) {
        assert_eq!(failure.endpoint.to_string(), *endpoint);
        assert!(failure.cause.to_string().contains(cause), "{cause}: {error}");
        assert!(error.to_string().contains(&failure.to_string()), "{error}");
    }
}

#[tokio::test]
async fn tls_on_a_plain_port_and_the_other_way_round_are_told_at_once() {
    let ca = TestCa::new();
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let secure = EtcdServer::builder(version.clone()).tls(ServerTls::new(&ca.server(OWN_ADDRESS)));
        let secure = secure.start_async().await.expect("etcd starts");
        let error = fails_at_once(builder([url(secure.address())])).await;
        assert!(error.to_string().contains("write https://"), "{error}");

        let plain = EtcdServer::builder(version).start_async().await.expect("etcd starts");
        let tls = Tls::new().ca_pem(ca.pem());
        let error = builder([format!("https://{}", plain.address())]).tls(tls);
        let error = fails_at_once(error).await;
        assert!(error.to_string().contains("is the endpoint http?"), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_anywhere_is_told_at_once() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let secure = EtcdServer::builder(EtcdVersion::V3_5).tls(ServerTls::new(&ca.server(OWN_ADDRESS)));
    let secure = secure.start_async().await.expect("etcd starts");
    let error = fails_at_once(builder([secure.endpoint()]).tls(Tls::new().ca_pem(other.pem()))).await;
    let StartError::Tls { endpoints } = &error else { panic!("{error:?}") };
    assert_eq!(endpoints[0].endpoint.to_string(), secure.endpoint());
    assert!(error.to_string().contains("ca_file"), "{error}");
}

#[tokio::test]
async fn a_wrong_port_and_a_wrong_name_are_told_long_before_the_time_limit() {
    let endpoints = [dead().await, "http://no-such-host.invalid:2379".into()];
    let error = fails_at_once(builder(endpoints)).await;
    let StartError::Unreachable { endpoints, after } = &error else { panic!("{error:?}") };
    assert!(*after < AT_ONCE);
    assert!(endpoints[0].cause.to_string().contains("refused"), "{error}");
    assert!(endpoints[1].cause.to_string().contains("no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_being_restarted_is_waited_for() {
    let mut etcd = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let (_listener, hung) = silent().await;
    // With one that only hangs, so that nobody can say that the addresses are wrong.
    let endpoints = [etcd.endpoint(), url(hung)];
    etcd.kill();
    let connecting = builder(endpoints).dial_timeout(Duration::from_secs(1)).connect();
    let (client, restarted) = tokio::join!(connecting, etcd.restart_async());
    restarted.expect("etcd starts again");
    client.expect("it answers in the end");
}

#[tokio::test]
async fn a_cluster_that_wants_a_user_says_so_at_once() {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let etcd = EtcdServer::builder(version.clone()).start_async().await.expect("etcd starts");
        let etcdctl = etcd.etcdctl().expect("it has an etcdctl");
        Auth::enable(&etcdctl, "root-password").await.expect("authentication is turned on");
        let endpoints = || [etcd.endpoint()];
        let error = fails_at_once(builder(endpoints())).await;
        assert!(matches!(error, StartError::UserRequired { .. }), "{version:?}: {error:?}");
        assert!(error.to_string().contains("ClientBuilder::user"), "{error}");
        let error = fails_at_once(builder(endpoints()).user("root", "wrong")).await;
        assert!(matches!(error, StartError::AuthenticationFailed { .. }), "{version:?}: {error:?}");
        let root = builder(endpoints()).user("root", "root-password").connect().await;
        root.expect("it is let in").put("key", "value").await.expect("root may");
    }
}

#[tokio::test]
async fn a_lazy_client_is_there_before_its_cluster() {
    let mut etcd = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    etcd.kill();
    let client = builder([etcd.endpoint()]).request_timeout(DEADLINE).connect_lazy().expect("valid settings");
    let (put, restarted) = tokio::join!(client.put("key", "value"), etcd.restart_async());
    restarted.expect("etcd starts again");
    put.expect("it is put once etcd is there");
}
