//! TLS and unix sockets, on every runtime: what works, and what is refused and why.

#![cfg(unix)]

#[path = "conformance/runtime.rs"]
mod runtime;

use std::{path::Path, time::Duration};

use etcd_watch_client::{
    BuildError, CallError, Client, ClientBuilder, EndpointError, Get, Keepalive, KeyRange, StartError, Tls,
    TlsError, WatchRequest,
};
use etcd_watch_testkit::{
    certificates::{Identity, TestCa, Validity},
    harness::{EtcdCluster, EtcdServer, EtcdVersion, ServerTls, wait_until},
    proxy::FaultProxy,
};
use runtime::On;

/// For any one thing a test waits for.
const DEADLINE: Duration = Duration::from_secs(60);

const OWN_ADDRESS: [&str; 2] = ["127.0.0.1", "localhost"];

/// A test of each for every runtime.
macro_rules! on_every_runtime {
    ($($name:ident)*) => {
        mod tokio_runtime {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::On::Tokio).await;
            })*
        }
        mod smol_runtime {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::On::Smol).await;
            })*
        }
        mod async_std_runtime {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::On::AsyncStd).await;
            })*
        }
    };
}

on_every_runtime! {
    a_server_with_tls_is_watched_through_a_restart
    the_name_in_the_certificate_can_be_another_than_the_endpoints
    a_client_certificate_lets_the_client_in
    a_refusal_says_which_side_refuses_what
    a_rotated_certificate_is_used_without_a_restart
    a_cluster_with_tls_loses_every_member_in_turn_and_a_watch_no_event
    a_unix_socket_is_watched
    the_future_of_a_call_is_small
}

fn builder(on: On, endpoint: impl Into<String>) -> ClientBuilder {
    on.builder().endpoints([endpoint.into()]).dial_timeout(Duration::from_secs(20))
}

async fn serve(version: &EtcdVersion, tls: ServerTls) -> EtcdServer {
    EtcdServer::builder(version.clone()).tls(tls).start_async().await.expect("etcd starts")
}

fn versions() -> Vec<EtcdVersion> {
    EtcdVersion::under_test().expect("the servers are on this machine")
}

async fn put(client: &Client, key: &str) -> i64 {
    let put = client.put(key.to_owned(), "value").await.expect("it is put");
    put.revision()
}

/// Watches from the start until a revision; how many events there were.
async fn events(client: &Client, through: i64) -> usize {
    let request = WatchRequest::new(KeyRange::all()).start_revision(1);
    let mut watch = client.watch(request).expect("it is opened");
    let mut count = 0;
    while watch.resume_revision() <= Some(through) {
        let next = tokio::time::timeout(DEADLINE, watch.next()).await.expect("it comes in time");
        count += next.expect("it goes on").expect("it does not end").events().count();
    }
    count
}

async fn a_server_with_tls_is_watched_through_a_restart(on: On) {
    for version in versions() {
        let ca = TestCa::new();
        let mut server = serve(&version, ServerTls::new(&ca.server(OWN_ADDRESS))).await;
        let client = builder(on, server.endpoint())
            .tls(Tls::new().ca_pem(ca.pem()))
            .connect_lazy()
            .expect("valid settings");
        let request = WatchRequest::new(KeyRange::key("k")).start_revision(1);
        let mut watch = client.watch(request).expect("it is opened");
        for round in 1..=2 {
            let last = put(&client, "k").await;
            let next = tokio::time::timeout(DEADLINE, watch.next()).await.expect("in time");
            let next = next.expect("it goes on").expect("it does not end");
            assert_eq!((next.events().count(), next.resume_revision()), (1, last + 1), "round {round}");
            server.restart_async().await.expect("etcd starts again");
        }
        let last = put(&client, "k").await;
        assert_eq!(events(&client, last).await, 3);
    }
}

async fn the_name_in_the_certificate_can_be_another_than_the_endpoints(on: On) {
    for version in versions() {
        let ca = TestCa::new();
        let server = serve(&version, ServerTls::new(&ca.server(["etcd.internal"]))).await;
        let tls = Tls::new().ca_pem(ca.pem()).server_name("etcd.internal");
        let client = builder(on, server.endpoint()).tls(tls).connect_lazy().expect("valid settings");
        let last = put(&client, "k").await;
        assert_eq!(events(&client, last).await, 1);
    }
}

async fn a_client_certificate_lets_the_client_in(on: On) {
    for version in versions() {
        let ca = TestCa::new();
        let tls = ServerTls::new(&ca.server(OWN_ADDRESS)).require_client_certificates(&ca);
        let server = serve(&version, tls).await;
        let directory = tempfile::tempdir().expect("a directory");
        let files = ca.client("someone").write(directory.path(), "client").expect("they are written");
        let tls = Tls::new().ca_file(files.ca).identity_files(files.certificate, files.key);
        // A host and a port alone are https once there are TLS settings.
        let client =
            builder(on, server.address().to_string()).tls(tls).connect_lazy().expect("valid settings");
        let last = put(&client, "k").await;
        assert_eq!(events(&client, last).await, 1);
    }
}

/// What both ways of finding out say: connecting, and a call. Boxed, since a test awaits it many times.
fn refusal(on: On, server: &EtcdServer, tls: Tls) -> impl Future<Output = String> {
    Box::pin(refused_twice(on, server.endpoint(), tls))
}

async fn refused_twice(on: On, endpoint: String, tls: Tls) -> String {
    let builder = || builder(on, endpoint.clone()).tls(tls.clone());
    let started = std::time::Instant::now();
    let connecting = builder().connect_timeout(DEADLINE).connect().await;
    let StartError::Tls { endpoints } = connecting.expect_err("it is refused") else {
        panic!("it is TLS that is refused")
    };
    let connecting = endpoints[0].cause.to_string();
    let client = builder().request_timeout(DEADLINE).connect_lazy().expect("valid settings");
    // A read: where the reason is lost on the way, a write may have been executed.
    let call = client.get(Get::key("k")).await.expect_err("it is refused");
    let CallError::Tls { failure, .. } = call else { panic!("it is TLS that is refused: {call:?}") };
    let message = failure.to_string();
    assert!(started.elapsed() < DEADLINE, "a refusal is not retried until the time is over");
    assert_eq!(without_times(&connecting), without_times(&message));
    message
}

/// What rustls says of an expired certificate tells the time, in seconds, and a second may begin between two refusals.
fn without_times(message: &str) -> String {
    message.chars().filter(|c| !c.is_ascii_digit()).collect()
}

async fn a_refusal_says_which_side_refuses_what(on: On) {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let trusting = || Tls::new().ca_pem(ca.pem());
    let shown = |identity: Identity| trusting().identity_pem(identity.certificate_pem(), identity.key_pem());
    for version in versions() {
        let server = serve(&version, ServerTls::new(&ca.server(OWN_ADDRESS))).await;
        let wrong_root = refusal(on, &server, Tls::new().ca_pem(other.pem())).await;
        assert!(wrong_root.contains("UnknownIssuer") && wrong_root.contains("ca_file"), "{wrong_root}");

        let expired = ServerTls::new(&ca.server_with(OWN_ADDRESS, Validity::Expired));
        let expired = refusal(on, &serve(&version, expired).await, trusting()).await;
        assert!(expired.contains("the server's certificate has expired"), "{expired}");

        let wrong_name = ServerTls::new(&ca.server(["another.example"]));
        let wrong_name = refusal(on, &serve(&version, wrong_name).await, trusting()).await;
        assert!(wrong_name.contains("another.example") && wrong_name.contains("server_name"), "{wrong_name}");

        let choosy = ServerTls::new(&ca.server(OWN_ADDRESS)).require_client_certificates(&ca);
        let choosy = serve(&version, choosy).await;
        let strange = shown(other.client("someone"));
        let old = shown(ca.client_with("someone", Validity::Expired));
        for (what, tls) in [("none", trusting()), ("strange", strange), ("old", old)] {
            let missing = refusal(on, &choosy, tls).await;
            assert!(missing.contains("client certificate"), "{what}: {missing}");
            assert!(missing.contains("identity_files"), "{what}: {missing}");
        }

        let plain = EtcdServer::builder(version.clone()).start_async().await.expect("etcd starts");
        let endpoint = format!("https://{}", plain.address());
        // It may not have said so yet, on a busy machine.
        let mut patience = Duration::from_millis(500);
        loop {
            let connecting =
                builder(on, endpoint.clone()).tls(trusting()).connect_timeout(patience).connect();
            let error = connecting.await.expect_err("it speaks no TLS").to_string();
            if error.contains("is the endpoint http?") {
                break;
            }
            patience *= 4;
            assert!(patience < DEADLINE, "{error}");
        }
    }
}

async fn a_rotated_certificate_is_used_without_a_restart(on: On) {
    let version = versions().remove(0);
    let ca = TestCa::new();
    let tls = ServerTls::new(&ca.server(OWN_ADDRESS)).require_client_certificates(&ca);
    let mut server = serve(&version, tls).await;
    let directory = tempfile::tempdir().expect("a directory");
    let expired = ca.client_with("someone", Validity::Expired);
    let files = expired.write(directory.path(), "client").expect("they are written");
    let tls = Tls::new().ca_file(&files.ca).identity_files(&files.certificate, &files.key);
    let client = builder(on, server.endpoint()).tls(tls).connect_lazy().expect("valid settings");
    let refused = client.get(Get::key("k")).await.expect_err("it has expired");
    assert!(matches!(refused, CallError::Tls { .. }), "{refused:?}");
    ca.client("someone").write(directory.path(), "client").expect("they are written");
    let last = put(&client, "k").await;
    assert_eq!(events(&client, last).await, 1);
    server.kill();
}

async fn a_cluster_with_tls_loses_every_member_in_turn_and_a_watch_no_event(on: On) {
    for version in versions().into_iter().take(2) {
        let ca = TestCa::new();
        let tls = ServerTls::new(&ca.server(OWN_ADDRESS)).require_client_certificates(&ca);
        let cluster = EtcdCluster::builder(version).each(|member| member.tls(tls));
        let mut cluster = cluster.start_async().await.expect("the cluster starts");
        let me = ca.client("someone");
        let tls = Tls::new().ca_pem(ca.pem()).identity_pem(me.certificate_pem(), me.key_pem());
        let client = on.builder().endpoints(cluster.endpoints()).tls(tls);
        let client = client.request_timeout(DEADLINE).connect_lazy().expect("valid settings");
        let request = WatchRequest::new(KeyRange::key("k")).start_revision(1);
        let mut watch = client.watch(request).expect("it is opened");
        let (mut written, mut received) = (Vec::new(), Vec::new());
        for number in 0..cluster.size() {
            for when in ["before", "while it is away"] {
                // Until there is a leader: reads are repeated, and a write might have been made.
                client.get(Get::key("k")).await.expect("it is read");
                written.push(put(&client, "k").await);
                while received.last() < written.last() {
                    let next = tokio::time::timeout(DEADLINE, watch.next()).await.expect("in time");
                    let next = next.expect("it goes on").expect("it does not end");
                    received.extend(next.events().map(|event| event.mod_revision()));
                }
                assert_eq!(received, written, "{when}");
                if when == "before" {
                    cluster.member_mut(number).kill();
                }
            }
            cluster.member_mut(number).restart_async().await.expect("it starts again");
            cluster.member(number).wait_until_healthy().await.expect("it serves");
        }
        assert!(client.stats().reconnects > 0, "it was on one of them");
    }
}

async fn a_unix_socket_is_watched(on: On) {
    for version in versions() {
        let mut server = EtcdServer::builder(version).unix_socket().start_async().await.expect("etcd starts");
        assert!(server.endpoint().starts_with("unix:/"), "{}", server.endpoint());
        let client = builder(on, server.endpoint()).connect_lazy().expect("there is a socket");
        let mut last = put(&client, "k").await;
        assert_eq!(events(&client, last).await, 1);
        server.restart_async().await.expect("etcd starts again");
        last = put(&client, "k").await;
        assert_eq!(events(&client, last).await, 2);
    }
}

/// An HTTP/2 ping, and its answer.
const PING_BYTES: u64 = 9 + 8;

/// Servers close a connection that is pinged more often than they allow.
async fn a_quiet_watch_stays_where_it_is(on: On, server: &EtcdServer) {
    const PINGS: u64 = 5;
    // The shortest interval that servers allow; and no answer comes too late, however busy the machine is.
    let keepalive = Keepalive { interval: Duration::from_secs(5), timeout: DEADLINE };
    let proxy = FaultProxy::start(server.endpoint()).await.expect("it starts");
    let client =
        builder(on, proxy.endpoint()).keepalive(Some(keepalive)).connect_lazy().expect("valid settings");
    let direct = builder(on, server.endpoint()).connect_lazy().expect("valid settings");
    let request = WatchRequest::new(KeyRange::prefix("k")).start_revision(1);
    let mut watch = client.watch(request).expect("it is opened");
    let mut last = put(&direct, "k").await;
    for round in 1..=2 {
        while watch.resume_revision() <= Some(last) {
            let next = tokio::time::timeout(DEADLINE, watch.next()).await.expect("it comes in time");
            next.expect("it goes on").expect("it does not end");
        }
        if round == 1 {
            let (sent, received) = (proxy.bytes_upstream(), proxy.bytes_downstream());
            wait_until("it is pinged, and answers", 3 * DEADLINE, || {
                proxy.bytes_upstream() >= sent + PINGS * PING_BYTES
                    && proxy.bytes_downstream() >= received + PINGS * PING_BYTES
            })
            .await;
            last = put(&direct, "k").await;
        }
    }
    let stats = client.stats();
    assert_eq!((stats.opens, stats.reconnects, proxy.accepted()), (1, 0, 1), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keepalive_at_the_servers_minimum_leaves_quiet_watches_where_they_are() {
    let mut quiet = tokio::task::JoinSet::new();
    for version in versions() {
        quiet.spawn(async move {
            let server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
            tokio::join!(
                a_quiet_watch_stays_where_it_is(On::Tokio, &server),
                a_quiet_watch_stays_where_it_is(On::Smol, &server),
                a_quiet_watch_stays_where_it_is(On::AsyncStd, &server),
            );
        });
    }
    quiet.join_all().await;
}

/// Whoever awaits calls in many tasks pays for their futures in each.
async fn the_future_of_a_call_is_small(on: On) {
    let client = builder(on, "http://127.0.0.1:1").connect_lazy().expect("valid settings");
    let bytes = size_of_val(&client.put("k", "v"));
    assert!(bytes < 4096, "{bytes}");
}

/// What is wrong with settings is said by `build`, before anything is tried.
fn refused(change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> BuildError {
    change(builder(On::Smol, "https://127.0.0.1:1")).connect_lazy().expect_err("it is refused")
}

/// The option, what is wrong, and what to do.
fn names(error: &BuildError, words: &[&str]) {
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} in {message:?}");
    }
}

#[test]
fn a_bad_certificate_file_is_refused_before_anything_is_tried() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mine, other) = (TestCa::new().client("me"), TestCa::new().client("other"));
    let missing = refused(|builder| builder.tls(Tls::new().ca_file(directory.path().join("none.pem"))));
    assert!(matches!(&missing, BuildError::Tls(TlsError::Unreadable { .. })), "{missing}");
    names(&missing, &["tls ca_file: can't read", "none.pem", "give ca_file a PEM file"]);

    let no_pem = directory.path().join("no.pem");
    std::fs::write(&no_pem, "not a certificate").expect("it is written");
    let unusable = refused(|builder| builder.tls(Tls::new().ca_file(&no_pem)));
    assert!(matches!(&unusable, BuildError::Tls(TlsError::Unusable { .. })), "{unusable}");
    names(&unusable, &["tls ca_file:", "no.pem", "give the certificate as PEM"]);

    let no_key = refused(|builder| builder.tls(Tls::new().identity_pem(mine.certificate_pem(), "no key")));
    assert!(matches!(&no_key, BuildError::Tls(TlsError::Unusable { .. })), "{no_key}");
    names(&no_key, &["tls identity_pem:", "PRIVATE KEY", "give the certificate's key"]);

    let files = mine.write(directory.path(), "mine").expect("they are written");
    let others = other.write(directory.path(), "other").expect("they are written");
    let mismatch = refused(|builder| {
        builder.tls(Tls::new().ca_file(&files.ca).identity_files(&files.certificate, &others.key))
    });
    assert!(matches!(&mismatch, BuildError::Tls(TlsError::KeyMismatch { .. })), "{mismatch}");
    names(&mismatch, &["tls identity_files:", "other.key", "the key that the certificate was made for"]);
    let no_file = directory.path().join("none.key");
    let no_file = refused(|builder| {
        builder.tls(Tls::new().ca_file(&files.ca).identity_files(&files.certificate, &no_file))
    });
    assert!(matches!(&no_file, BuildError::Tls(TlsError::Unreadable { .. })), "{no_file}");
    names(&no_file, &["tls identity_files: can't read", "none.key", "give identity_files a PEM file"]);

    let name = refused(|builder| builder.tls(Tls::new().ca_file(&files.ca).server_name("not a name")));
    assert!(matches!(&name, BuildError::Tls(TlsError::ServerName { .. })), "{name}");
    names(&name, &["tls server_name:", "not a name", "a name that is in the server's certificate"]);
}

#[test]
fn an_endpoint_that_can_not_be_used_is_refused_before_anything_is_tried() {
    let refused = |endpoint: String, tls: Option<Tls>| {
        let builder = builder(On::Smol, endpoint);
        match tls.into_iter().fold(builder, ClientBuilder::tls).connect_lazy().expect_err("it is refused") {
            BuildError::Endpoint(error) => error,
            other => panic!("{other}"),
        }
    };
    let directory = tempfile::tempdir().expect("a directory");
    let socket = |path: &Path| format!("unix://{}", path.display());
    let nowhere = refused(socket(&directory.path().join("none.sock")), None);
    assert!(matches!(nowhere, EndpointError::NoSocket { .. }), "{nowhere}");
    let no_socket = refused(socket(directory.path()), None);
    assert!(no_socket.to_string().contains("no socket"), "{no_socket}");
    let scheme = refused("ftp://127.0.0.1:21".into(), None);
    assert!(scheme.to_string().contains("use http, https, unix or unixs"), "{scheme}");
    let ca = TestCa::new();
    let plain = refused("http://127.0.0.1:2379".into(), Some(Tls::new().ca_pem(ca.pem())));
    assert!(matches!(plain, EndpointError::NotTls { .. }), "nothing goes in plain text by mistake: {plain}");
}

/// The system's roots are read for clients that were given an endpoint that needs them.
#[test]
fn an_endpoint_with_tls_that_comes_up_later_needs_a_client_with_tls() {
    let client = builder(On::Smol, "http://127.0.0.1:1").connect_lazy().expect("valid settings");
    let error = client.set_endpoints(["https://127.0.0.1:2"]).expect_err("it is refused").to_string();
    assert!(error.contains("https://127.0.0.1:2") && error.contains("set tls"), "{error}");
    assert_eq!(client.endpoints()[0].to_string(), "http://127.0.0.1:1", "the endpoints stay");
}
