//! Certificates that etcd and its own tools take, and what is verified of them, against real servers.

#![cfg(unix)]

use std::time::Duration;

use etcd_watch_testkit::{
    certificates::{ExtendedKeyUsagePurpose, Identity, TestCa, Validity, self_signed, version_1_client},
    harness::{EtcdServer, EtcdVersion, ServerTls},
};
use etcd_watch_tokio::{BuildError, CallError, Client, Get, Tls, TlsError};

/// For any one thing a test waits for.
const DEADLINE: Duration = Duration::from_secs(60);

const OWN_ADDRESS: [&str; 2] = ["127.0.0.1", "localhost"];

fn versions() -> Vec<EtcdVersion> {
    EtcdVersion::under_test().expect("the servers are on this machine")
}

async fn serve(version: &EtcdVersion, identity: &Identity) -> EtcdServer {
    let tls = ServerTls::new(identity);
    EtcdServer::builder(version.clone()).tls(tls).start_async().await.expect("etcd starts")
}

fn client(server: &EtcdServer, tls: Tls) -> Result<Client, BuildError> {
    let builder = etcd_watch_tokio::builder().endpoints([server.endpoint()]).tls(tls);
    builder.dial_timeout(Duration::from_secs(20)).request_timeout(DEADLINE).connect_lazy()
}

async fn assert_taken(server: &EtcdServer, tls: Tls) {
    let client = client(server, tls).expect("valid settings");
    client.put("k", "v").await.expect("it is put");
}

/// What the refusal says.
async fn refusal(server: &EtcdServer, tls: Tls) -> String {
    let client = client(server, tls).expect("valid settings");
    match client.get(Get::key("k")).await {
        Err(CallError::Tls { failure, .. }) => failure.to_string(),
        other => panic!("it is TLS that is refused: {other:?}"),
    }
}

/// `openssl req -x509` makes such a certificate (`CA:TRUE`), and webpki takes none of an authority for a server's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_self_signed_certificate_is_trusted_where_it_is_given() {
    let server_only = [ExtendedKeyUsagePurpose::ServerAuth];
    for version in versions() {
        for purposes in [&[][..], &server_only, &[ExtendedKeyUsagePurpose::Any]] {
            let own = self_signed(&OWN_ADDRESS, purposes, Validity::Valid);
            let server = serve(&version, &own).await;
            assert_taken(&server, Tls::new().ca_pem(own.certificate_pem())).await;
            // One of several that are given.
            let others = format!("{}{}", TestCa::new().pem(), own.certificate_pem());
            assert_taken(&server, Tls::new().ca_pem(others)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_self_signed_certificate_is_refused_where_anything_is_wrong_with_it() {
    let version = versions().remove(0);
    let client_only = [ExtendedKeyUsagePurpose::ClientAuth];
    for (names, purposes, validity, said) in [
        (&["etcd.example"][..], &[][..], Validity::Valid, "give one with server_name"),
        (&[], &[], Validity::Valid, "-addext subjectAltName"),
        (&OWN_ADDRESS, &client_only, Validity::Valid, "InvalidPurpose"),
        (&OWN_ADDRESS, &[], Validity::Expired, "has expired"),
        (&OWN_ADDRESS, &[], Validity::NotYet, "not valid yet"),
    ] {
        let own = self_signed(names, purposes, validity);
        let server = serve(&version, &own).await;
        let message = refusal(&server, Tls::new().ca_pem(own.certificate_pem())).await;
        assert!(message.contains(said), "{said:?}: {message}");
    }
    let own = self_signed(&OWN_ADDRESS, &[], Validity::Valid);
    let server = serve(&version, &own).await;
    // The same names, another key.
    let other = self_signed(&OWN_ADDRESS, &[], Validity::Valid);
    let message = refusal(&server, Tls::new().ca_pem(other.certificate_pem())).await;
    assert!(message.contains("give exactly this certificate with ca_file"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_certificate_of_version_1_is_refused_with_the_remedy() {
    let shown = version_1_client();
    let server = serve(&versions().remove(0), &shown).await;
    let message = refusal(&server, Tls::new().ca_pem(shown.ca_pem())).await;
    assert!(message.contains("of X.509 version 1") && message.contains("subjectAltName"), "{message}");
    let message = refusal(&server, Tls::new().ca_pem(shown.certificate_pem())).await;
    assert!(message.contains("of X.509 version 1"), "nor if it is given: {message}");
}

/// `openssl x509 -req` makes such a certificate unless it is told of extensions. The server judges it, and etcd takes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_of_version_1_lets_the_client_in() {
    let mine = version_1_client();
    let directory = tempfile::tempdir().expect("a directory");
    let files = mine.write(directory.path(), "client").expect("they are written");
    for version in versions() {
        let ca = TestCa::new();
        let server = EtcdServer::builder(version)
            .tls(ServerTls::new(&ca.server(OWN_ADDRESS)))
            .flag("trusted-ca-file", files.ca.display())
            .flag("client-cert-auth", true);
        let server = server.start_async().await.expect("etcd starts");
        let trusting = || Tls::new().ca_pem(ca.pem());
        let message = refusal(&server, trusting()).await;
        assert!(message.contains("identity_files"), "it asks for one: {message}");
        assert_taken(&server, trusting().identity_files(&files.certificate, &files.key)).await;
    }
}

#[tokio::test]
async fn the_key_of_a_certificate_of_version_1_is_checked_before_anything_is_tried() {
    let (mine, other) = (version_1_client(), TestCa::new().client("other"));
    let builder = || etcd_watch_tokio::builder().endpoints(["https://127.0.0.1:1"]);
    let identity = |key: &str| Tls::new().ca_pem(mine.ca_pem()).identity_pem(mine.certificate_pem(), key);
    builder().tls(identity(mine.key_pem())).connect_lazy().expect("they are a pair");
    let refused = builder().tls(identity(other.key_pem())).connect_lazy().expect_err("they are no pair");
    assert!(matches!(refused, BuildError::Tls(TlsError::KeyMismatch { .. })), "{refused}");
}
