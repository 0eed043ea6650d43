//! TLS and unix sockets, on every runtime: what works, and what is refused and why.

#![cfg(unix)]

use std::{path::Path, time::Duration};

use etcd_watch_client::{
    AmbientRuntime, BuildError, CallError, Client, ClientBuilder, EndpointError, Get, KeyRange, Put,
    StartError, Tls, TlsError, WatchRequest,
};
use etcd_watch_smol::{SmolRuntime, async_std::AsyncStdRuntime};
use etcd_watch_testkit::{
    certificates::{Identity, TestCa, Validity},
    harness::{EtcdServer, EtcdVersion, ServerTls},
};
use etcd_watch_tokio::TokioRuntime;

/// For any one thing a test waits for.
const DEADLINE: Duration = Duration::from_secs(20);

const OWN_ADDRESS: [&str; 2] = ["127.0.0.1", "localhost"];

/// A test of each for every runtime.
macro_rules! on_every_runtime {
    ($($name:ident)*) => {
        mod tokio_runtime {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name::<super::TokioRuntime>().await;
            })*
        }
        mod smol_runtime {
            $(#[tokio::test]
            async fn $name() {
                super::$name::<super::SmolRuntime>().await;
            })*
        }
        mod async_std_runtime {
            $(#[tokio::test]
            async fn $name() {
                super::$name::<super::AsyncStdRuntime>().await;
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
    a_unix_socket_is_watched
    the_future_of_a_call_is_small
}

fn builder<R: AmbientRuntime>(endpoint: impl Into<String>) -> ClientBuilder<R> {
    Client::builder().endpoints([endpoint.into()]).dial_timeout(Duration::from_secs(2))
}

async fn serve(version: &EtcdVersion, tls: ServerTls) -> EtcdServer {
    EtcdServer::builder(version.clone()).tls(tls).start_async().await.expect("etcd starts")
}

fn versions() -> Vec<EtcdVersion> {
    EtcdVersion::under_test().expect("the servers are on this machine")
}

async fn put<R: AmbientRuntime>(client: &Client<R>, key: &str) -> i64 {
    let put = client.put(Put::new(key.to_owned(), "value")).await.expect("it is put");
    put.header.expect("a header").revision
}

/// Watches from the start until a revision; how many events there were.
async fn events<R: AmbientRuntime>(client: &Client<R>, through: i64) -> usize {
    let request = WatchRequest::new(KeyRange::all()).start_revision(1);
    let mut watch = client.watch(request).expect("it is opened");
    let mut count = 0;
    while watch.resume_revision() <= Some(through) {
        let next = tokio::time::timeout(DEADLINE, watch.next()).await.expect("it comes in time");
        count += next.expect("it goes on").expect("it does not end").events().count();
    }
    count
}

async fn a_server_with_tls_is_watched_through_a_restart<R: AmbientRuntime>() {
    for version in versions() {
        let ca = TestCa::new();
        let mut server = serve(&version, ServerTls::new(&ca.server(OWN_ADDRESS))).await;
        let client: Client<R> =
            builder(server.endpoint()).tls(Tls::new().ca_pem(ca.pem())).build().expect("valid settings");
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

async fn the_name_in_the_certificate_can_be_another_than_the_endpoints<R: AmbientRuntime>() {
    for version in versions() {
        let ca = TestCa::new();
        let server = serve(&version, ServerTls::new(&ca.server(["etcd.internal"]))).await;
        let tls = Tls::new().ca_pem(ca.pem()).server_name("etcd.internal");
        let client: Client<R> = builder(server.endpoint()).tls(tls).build().expect("valid settings");
        let last = put(&client, "k").await;
        assert_eq!(events(&client, last).await, 1);
    }
}

async fn a_client_certificate_lets_the_client_in<R: AmbientRuntime>() {
    for version in versions() {
        let ca = TestCa::new();
        let tls = ServerTls::new(&ca.server(OWN_ADDRESS)).require_client_certificates(&ca);
        let server = serve(&version, tls).await;
        let directory = tempfile::tempdir().expect("a directory");
        let files = ca.client("someone").write(directory.path(), "client").expect("they are written");
        let tls = Tls::new().ca_file(files.ca).identity_files(files.certificate, files.key);
        // A host and a port alone are https once there are TLS settings.
        let client: Client<R> =
            builder(server.address().to_string()).tls(tls).build().expect("valid settings");
        let last = put(&client, "k").await;
        assert_eq!(events(&client, last).await, 1);
    }
}

/// What both ways of finding out say: connecting, and a call. Boxed, since a test awaits it many times.
fn refusal<R: AmbientRuntime>(server: &EtcdServer, tls: Tls) -> impl Future<Output = String> {
    Box::pin(refused_twice::<R>(server.endpoint(), tls))
}

async fn refused_twice<R: AmbientRuntime>(endpoint: String, tls: Tls) -> String {
    let builder = || builder::<R>(endpoint.clone()).tls(tls.clone());
    let started = std::time::Instant::now();
    let connecting = builder().connect_timeout(DEADLINE).connect().await;
    let StartError::Tls { message: connecting, .. } = connecting.expect_err("it is refused") else {
        panic!("it is TLS that is refused")
    };
    let client = builder().request_timeout(DEADLINE).build().expect("valid settings");
    // A read: where the reason is lost on the way, a write may have been executed.
    let call = client.get(Get::key("k")).await.expect_err("it is refused");
    let CallError::Tls { message, .. } = call else { panic!("it is TLS that is refused: {call:?}") };
    assert!(started.elapsed() < DEADLINE, "a refusal is not retried until the time is over");
    assert_eq!(without_times(&connecting), without_times(&message));
    message
}

/// What rustls says of an expired certificate tells the time, in seconds, and a second may begin between two refusals.
fn without_times(message: &str) -> String {
    message.chars().filter(|c| !c.is_ascii_digit()).collect()
}

async fn a_refusal_says_which_side_refuses_what<R: AmbientRuntime>() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let trusting = || Tls::new().ca_pem(ca.pem());
    let shown = |identity: Identity| trusting().identity_pem(identity.certificate_pem(), identity.key_pem());
    for version in versions() {
        let server = serve(&version, ServerTls::new(&ca.server(OWN_ADDRESS))).await;
        let wrong_root = refusal::<R>(&server, Tls::new().ca_pem(other.pem())).await;
        assert!(wrong_root.contains("UnknownIssuer") && wrong_root.contains("ca_file"), "{wrong_root}");

        let expired = ServerTls::new(&ca.server_with(OWN_ADDRESS, Validity::Expired));
        let expired = refusal::<R>(&serve(&version, expired).await, trusting()).await;
        assert!(expired.contains("the server's certificate has expired"), "{expired}");

        let wrong_name = ServerTls::new(&ca.server(["another.example"]));
        let wrong_name = refusal::<R>(&serve(&version, wrong_name).await, trusting()).await;
        assert!(wrong_name.contains("another.example") && wrong_name.contains("server_name"), "{wrong_name}");

        let choosy = ServerTls::new(&ca.server(OWN_ADDRESS)).require_client_certificates(&ca);
        let choosy = serve(&version, choosy).await;
        let strange = shown(other.client("someone"));
        let old = shown(ca.client_with("someone", Validity::Expired));
        for (what, tls) in [("none", trusting()), ("strange", strange), ("old", old)] {
            let missing = refusal::<R>(&choosy, tls).await;
            assert!(missing.contains("client certificate"), "{what}: {missing}");
            assert!(missing.contains("identity_files"), "{what}: {missing}");
        }

        let plain = EtcdServer::builder(version.clone()).start_async().await.expect("etcd starts");
        let endpoint = format!("https://{}", plain.address());
        let soon = Duration::from_millis(500);
        let error = builder::<R>(endpoint).tls(trusting()).connect_timeout(soon).connect().await;
        let error = error.expect_err("it speaks no TLS").to_string();
        assert!(error.contains("is the endpoint http?"), "{error}");
    }
}

async fn a_rotated_certificate_is_used_without_a_restart<R: AmbientRuntime>() {
    let version = versions().remove(0);
    let ca = TestCa::new();
    let tls = ServerTls::new(&ca.server(OWN_ADDRESS)).require_client_certificates(&ca);
    let mut server = serve(&version, tls).await;
    let directory = tempfile::tempdir().expect("a directory");
    let expired = ca.client_with("someone", Validity::Expired);
    let files = expired.write(directory.path(), "client").expect("they are written");
    let tls = Tls::new().ca_file(&files.ca).identity_files(&files.certificate, &files.key);
    let client: Client<R> = builder(server.endpoint()).tls(tls).build().expect("valid settings");
    let refused = client.get(Get::key("k")).await.expect_err("it has expired");
    assert!(matches!(refused, CallError::Tls { .. }), "{refused:?}");
    ca.client("someone").write(directory.path(), "client").expect("they are written");
    let last = put(&client, "k").await;
    assert_eq!(events(&client, last).await, 1);
    server.kill();
}

async fn a_unix_socket_is_watched<R: AmbientRuntime>() {
    for version in versions() {
        let mut server = EtcdServer::builder(version).unix_socket().start_async().await.expect("etcd starts");
        assert!(server.endpoint().starts_with("unix:/"), "{}", server.endpoint());
        let client: Client<R> = builder(server.endpoint()).build().expect("there is a socket");
        let mut last = put(&client, "k").await;
        assert_eq!(events(&client, last).await, 1);
        server.restart_async().await.expect("etcd starts again");
        last = put(&client, "k").await;
        assert_eq!(events(&client, last).await, 2);
    }
}

/// Whoever awaits calls in many tasks pays for their futures in each.
async fn the_future_of_a_call_is_small<R: AmbientRuntime>() {
    let client: Client<R> = builder("http://127.0.0.1:1").build().expect("valid settings");
    let bytes = size_of_val(&client.put(Put::new("k", "v")));
    assert!(bytes < 4096, "{bytes}");
}

/// What is wrong with settings is said by `build`, before anything is tried.
fn refused(change: impl FnOnce(ClientBuilder<SmolRuntime>) -> ClientBuilder<SmolRuntime>) -> BuildError {
    change(builder("https://127.0.0.1:1")).build().expect_err("it is refused")
}

#[test]
fn a_bad_certificate_file_is_refused_before_anything_is_tried() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mine, other) = (TestCa::new().client("me"), TestCa::new().client("other"));
    let missing = refused(|builder| builder.tls(Tls::new().ca_file(directory.path().join("none.pem"))));
    assert!(matches!(&missing, BuildError::Tls(TlsError::Unreadable { option: "ca", .. })), "{missing}");

    let no_pem = directory.path().join("no.pem");
    std::fs::write(&no_pem, "not a certificate").expect("it is written");
    let unusable = refused(|builder| builder.tls(Tls::new().ca_file(&no_pem)));
    assert!(matches!(&unusable, BuildError::Tls(TlsError::Unusable { option: "ca", .. })), "{unusable}");
    assert!(unusable.to_string().contains("no.pem"), "{unusable}");

    let no_key = refused(|builder| builder.tls(Tls::new().identity_pem(mine.certificate_pem(), "no key")));
    let is_key = |error: &BuildError| {
        matches!(error, BuildError::Tls(TlsError::Unusable { option: "identity key", .. }))
    };
    assert!(is_key(&no_key), "{no_key}");

    let files = mine.write(directory.path(), "mine").expect("they are written");
    let others = other.write(directory.path(), "other").expect("they are written");
    let mismatch = refused(|builder| {
        builder.tls(Tls::new().ca_file(&files.ca).identity_files(&files.certificate, &others.key))
    });
    assert!(matches!(&mismatch, BuildError::Tls(TlsError::KeyMismatch { .. })), "{mismatch}");
    assert!(mismatch.to_string().contains("other.key"), "{mismatch}");

    let name = refused(|builder| builder.tls(Tls::new().ca_file(&files.ca).server_name("not a name")));
    assert!(matches!(&name, BuildError::Tls(TlsError::ServerName { .. })), "{name}");
}

#[test]
fn an_endpoint_that_can_not_be_used_is_refused_before_anything_is_tried() {
    let refused = |endpoint: String, tls: Option<Tls>| {
        let builder = builder::<SmolRuntime>(endpoint);
        match tls.into_iter().fold(builder, ClientBuilder::tls).build().expect_err("it is refused") {
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
    assert!(scheme.to_string().contains("use http, https or unix"), "{scheme}");
    let ca = TestCa::new();
    let plain = refused("http://127.0.0.1:2379".into(), Some(Tls::new().ca_pem(ca.pem())));
    assert!(matches!(plain, EndpointError::NotTls { .. }), "nothing goes in plain text by mistake: {plain}");
}
