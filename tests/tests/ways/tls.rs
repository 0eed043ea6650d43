//! Versions of TLS, and the name that a server is asked for.

use etcd_watch_client::{ClientBuilder, StartError, Tls};
use etcd_watch_testkit::{
    certificates::TestCa,
    harness::{EtcdServer, EtcdVersion, ServerTls},
};
use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};

use crate::{DEADLINE, nothing_is_lost, on_every_runtime, runtime::On, versions};

on_every_runtime! {
    tls_1_3_is_spoken_where_nothing_else_is
}

fn builder(on: On, server: &EtcdServer, tls: Tls) -> ClientBuilder {
    on.builder().endpoints([server.endpoint()]).tls(tls).request_timeout(DEADLINE).connect_timeout(DEADLINE)
}

async fn tls_1_3_is_spoken_where_nothing_else_is(on: On) {
    let ca = TestCa::new();
    let (tls, trusting) = (ServerTls::new(&ca.server(["127.0.0.1"])), || Tls::new().ca_pem(ca.pem()));
    for version in versions() {
        // A client that insists on it.
        let server = EtcdServer::builder(version).tls(tls.clone()).start_async().await.expect("etcd starts");
        let client = builder(on, &server, trusting().tls_1_3_only()).connect().await.expect("it answers");
        nothing_is_lost(&client, 0, || {}).await;
    }
    // A server that insists on it: etcd 3.4 has no flag for that.
    let server = EtcdServer::builder(EtcdVersion::V3_5).tls(tls.clone()).flag("tls-min-version", "TLS1.3");
    let server = server.start_async().await.expect("etcd starts");
    for tls in [trusting(), trusting().tls_1_3_only()] {
        let client = builder(on, &server, tls).connect().await.expect("it answers");
        nothing_is_lost(&client, 0, || {}).await;
    }
}

#[tokio::test]
async fn a_server_without_tls_1_3_is_told() {
    let ca = TestCa::new();
    let server = EtcdServer::builder(EtcdVersion::V3_5).tls(ServerTls::new(&ca.server(["127.0.0.1"])));
    let server = server.flag("tls-max-version", "TLS1.2").start_async().await.expect("etcd starts");
    let trusting = || Tls::new().ca_pem(ca.pem());
    let error =
        builder(On::Tokio, &server, trusting().tls_1_3_only()).connect().await.expect_err("it has only 1.2");
    assert!(matches!(error, StartError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains("share no version of TLS"), "{error}");
    assert!(error.to_string().contains("tls_1_3_only"), "{error}");
    let client = builder(On::Tokio, &server, trusting()).connect().await.expect("1.2 does by default");
    nothing_is_lost(&client, 0, || {}).await;
}

/// The first bytes that a server gets of a client with these settings.
async fn hello(host: &str, tls: Tls) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let client = etcd_watch_tokio::builder().endpoints([format!("https://{host}:{port}")]).tls(tls);
    let client = client.connect_lazy().expect("valid settings");
    let call = tokio::spawn(async move { client.get("k").await });
    let (mut socket, _) = timeout(DEADLINE, listener.accept()).await.expect("in time").expect("it connects");
    // A record: its kind, its version, its length, and that many bytes.
    let mut record = vec![0; 5];
    socket.read_exact(&mut record).await.expect("it says something");
    let mut rest = vec![0; usize::from(record[3]) << 8 | usize::from(record[4])];
    socket.read_exact(&mut rest).await.expect("the whole record comes");
    call.abort();
    record.extend(rest);
    record
}

#[tokio::test]
async fn the_server_is_asked_for_by_the_name_of_the_endpoint_or_the_one_given() {
    let ca = TestCa::new();
    let tls = || Tls::new().ca_pem(ca.pem());
    let asks_for = |hello: &[u8], name: &str| hello.windows(name.len()).any(|bytes| bytes == name.as_bytes());
    let by_endpoint = hello("localhost", tls()).await;
    assert!(asks_for(&by_endpoint, "localhost"));
    let given = hello("localhost", tls().server_name("etcd.internal")).await;
    assert!(asks_for(&given, "etcd.internal") && !asks_for(&given, "localhost"));
    let address = hello("127.0.0.1", tls()).await;
    assert!(!asks_for(&address, "127.0.0.1"), "only names are asked for (RFC 6066, section 3)");
    let given = hello("127.0.0.1", tls().server_name("etcd.internal")).await;
    assert!(asks_for(&given, "etcd.internal"));
}
