//! Servers that serve over TLS, or on a unix socket.

#![cfg(unix)]

use std::time::Duration;

use etcd_watch_testkit::{
    certificates::{Identity, IdentityFiles, TestCa, Validity},
    harness::{EtcdServer, EtcdVersion, Etcdctl, HarnessError, ServerTls, wait_until},
};

type Result<T = ()> = std::result::Result<T, HarnessError>;

const OWN_ADDRESS: [&str; 2] = ["127.0.0.1", "localhost"];

const SOON: Duration = Duration::from_secs(60);

/// Tries a put that must not succeed.
async fn failure(etcdctl: &Etcdctl) -> Result {
    let output = etcdctl.output(["put", "key", "value", "--command-timeout=1s"], "").await?;
    assert!(!output.status.success(), "{output:?}");
    Ok(())
}

/// Waits until the server tells why it let no connection come of that.
async fn assert_rejected(server: &EtcdServer, why: &str) {
    let log = || std::fs::read_to_string(server.log_path()).unwrap_or_default();
    let is_told = || log().lines().any(|line| line.contains("rejected connection") && line.contains(why));
    wait_until(why, SOON, is_told).await;
}

#[tokio::test]
async fn only_a_client_that_trusts_the_right_authority_is_served() -> Result {
    for version in EtcdVersion::under_test()? {
        let ca = TestCa::new();
        let tls = ServerTls::new(&ca.server(OWN_ADDRESS));
        let mut server = EtcdServer::builder(version).tls(tls).start_async().await?;
        assert!(server.endpoint().starts_with("https://127.0.0.1:"), "{}", server.endpoint());
        let trusting = server.etcdctl()?;
        assert_eq!(trusting.run(["put", "key", "value"]).await?, "OK\n");
        assert_eq!(server.watcher_count()?, 0);

        let directory = tempfile::tempdir().expect("a directory can be made");
        let other = TestCa::new().client("nobody").write(directory.path(), "other").expect("it is written");
        failure(&trusting.cacert(other.ca)).await?;
        assert_rejected(&server, "remote error: tls: bad certificate").await;
        let plain = Etcdctl::of(server.binary(), format!("http://{}", server.address()))?;
        failure(&plain).await?;
        assert_rejected(&server, "tls: first record does not look like a TLS handshake").await;

        server.restart_async().await?;
        assert_eq!(server.etcdctl()?.run(["get", "key", "--print-value-only"]).await?, "value\n");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_whose_certificate_is_expired_or_for_another_name_starts_and_is_refused() -> Result {
    let ca = TestCa::new();
    let bad = [
        ca.server_with(OWN_ADDRESS, Validity::Expired),
        ca.server_with(OWN_ADDRESS, Validity::NotYet),
        ca.server(["another.example"]),
    ];
    for version in EtcdVersion::under_test()? {
        for identity in &bad {
            let builder = EtcdServer::builder(version.clone()).tls(ServerTls::new(identity));
            let server = builder.start_async().await?;
            failure(&server.etcdctl()?).await?;
            assert_rejected(&server, "remote error: tls: bad certificate").await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn only_a_client_with_a_certificate_of_the_right_authority_is_let_in() -> Result {
    for version in EtcdVersion::under_test()? {
        let (server_ca, client_ca) = (TestCa::new(), TestCa::new());
        let tls = ServerTls::new(&server_ca.server(OWN_ADDRESS)).require_client_certificates(&client_ca);
        let server = EtcdServer::builder(version).tls(tls).start_async().await?;
        let etcdctl = server.etcdctl()?;
        assert_eq!(etcdctl.run(["put", "key", "value"]).await?, "OK\n");

        let directory = tempfile::tempdir().expect("a directory can be made");
        let good = client_ca.client("alice");
        let strangers = [
            (server_ca.client("alice"), "certificate signed by unknown authority"),
            (
                client_ca.client_with("alice", Validity::Expired),
                "certificate has expired or is not yet valid",
            ),
        ];
        let write =
            |identity: &Identity, name: &str| identity.write(directory.path(), name).expect("it is written");
        let files = write(&good, "good");
        let authority = write(&server_ca.client("unused"), "authority").ca;
        let bare = Etcdctl::of(server.binary(), server.endpoint())?.cacert(authority);
        let with = |files: IdentityFiles| bare.clone().certificate(files.certificate, files.key);
        assert_eq!(with(files).run(["get", "key", "--print-value-only"]).await?, "value\n");
        for (number, (stranger, why)) in strangers.iter().enumerate() {
            failure(&with(write(stranger, &format!("stranger{number}")))).await?;
            assert_rejected(&server, why).await;
        }
        failure(&bare).await?;
        assert_rejected(&server, "tls: client didn't provide a certificate").await;
    }
    Ok(())
}

#[tokio::test]
async fn a_unix_socket_serves_and_outlives_a_restart() -> Result {
    for version in EtcdVersion::under_test()? {
        let mut server = EtcdServer::builder(version).unix_socket().start_async().await?;
        assert!(server.endpoint().starts_with("unix:///"), "{}", server.endpoint());
        let etcdctl = server.etcdctl()?;
        assert_eq!(etcdctl.run(["put", "key", "value"]).await?, "OK\n");
        server.restart_async().await?;
        assert_eq!(etcdctl.run(["get", "key", "--print-value-only"]).await?, "value\n");
        let by_tcp = etcdctl.with_endpoint(format!("http://{}", server.address()));
        assert_eq!(by_tcp.run(["get", "key", "--print-value-only"]).await?, "value\n");
    }
    Ok(())
}
