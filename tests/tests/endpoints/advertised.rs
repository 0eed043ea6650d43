//! Which addresses of the member list are accepted.

use std::process::Command;

use etcd_watch_testkit::{
    certificates::TestCa,
    harness::{Auth, EtcdServer, EtcdVersion, ServerTls},
};
use etcd_watch_tokio::{Advertised, EndpointError, SyncError};
use tokio::net::{TcpListener, UnixListener};

use crate::{SECOND, advertising, builder, client, endpoints, log::Log, put};

/// The endpoint of the server for the test that runs in a process of its own.
const SERVER: &str = "ETCD_WATCH_TEST_SERVER";

/// The system's roots are read from where an environment variable says; so the client is in a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_list_does_not_turn_https_into_http() {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let ca = TestCa::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let plain = format!("http://{}", listener.local_addr().expect("bound"));
        let server = EtcdServer::builder(version).tls(ServerTls::new(&ca.server(["127.0.0.1"])));
        let server = server.flag("advertise-client-urls", plain).start_async().await.expect("etcd starts");
        Auth::enable(&server.etcdctl().expect("there is one"), "secret").await.expect("it is on");
        let directory = tempfile::tempdir().expect("a directory");
        let roots = directory.path().join("roots.pem");
        std::fs::write(&roots, ca.pem()).expect("it is written");
        let mut child = Command::new(std::env::current_exe().expect("it is known"));
        child.args(["--exact", "advertised::the_client_of_a_server_with_tls", "--ignored"]);
        child.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR").env(SERVER, server.endpoint());
        let output = tokio::task::spawn_blocking(move || child.output()).await.expect("no panic");
        let output = output.expect("it runs");
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        let connected = tokio::time::timeout(SECOND / 10, listener.accept()).await;
        assert!(connected.is_err(), "the client went there in plain text");
    }
}

#[tokio::test]
#[ignore = "a_member_list_does_not_turn_https_into_http runs it"]
async fn the_client_of_a_server_with_tls() {
    let server = std::env::var(SERVER).expect("it is run by the other test");
    let (log, _guard) = Log::start();
    let client = builder(server.clone()).user("root", "secret").sync_endpoints_every(SECOND);
    let client = client.connect_lazy().expect("valid settings");
    for _ in 0..3 {
        let refused = client.sync_endpoints().await.expect_err("nothing of it can be used");
        let SyncError::NoneUsable { last: EndpointError::NotLikeGiven { reason, .. } } = refused else {
            panic!("{refused}");
        };
        assert_eq!(reason, "it is without TLS");
        put(&client).await;
        assert_eq!(endpoints(&client), std::slice::from_ref(&server));
    }
    assert_eq!(log.named("endpoint_left_out").len(), 1);
}

#[tokio::test]
async fn a_member_list_does_not_steer_a_client_to_a_unix_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("any.sock");
    let listener = UnixListener::bind(&path).expect("it listens");
    let etcd = advertising([format!("unix://{}", path.display())]).await;
    let plain = client(etcd.endpoint());
    let refused = plain.sync_endpoints().await.expect_err("nothing of it can be used");
    let not_like_given =
        matches!(refused, SyncError::NoneUsable { last: EndpointError::NotLikeGiven { .. } });
    assert!(not_like_given, "{refused}");
    assert_eq!(endpoints(&plain), [etcd.endpoint()]);
    assert!(tokio::time::timeout(SECOND / 10, listener.accept()).await.is_err(), "the client went there");

    let willing = builder(etcd.endpoint()).accept_advertised(Advertised::like_given().or_unix());
    let willing = willing.connect_lazy().expect("valid settings");
    let (synced, connected) = tokio::join!(willing.sync_endpoints(), async {
        drop(listener.accept().await.expect("the client comes here"));
    });
    assert_eq!((synced, connected), (Err(SyncError::NoneAnswers), ()));
}

#[tokio::test]
async fn what_is_left_out_is_logged_once_per_change_in_one_line_without_control_characters() {
    let etcd = advertising([]).await;
    let advertise = |more: &str| {
        let urls = vec![etcd.endpoint(), "ftp://host:21".into(), format!("unix:///a\nb\u{1b}[31m{more}")];
        etcd.with_model(|model| model.config_mut().client_urls = urls);
    };
    let (log, _guard) = Log::start();
    let client = client(etcd.endpoint());
    for (more, lines) in [("", 1), ("", 1), ("c", 2), ("c", 2), ("", 3)] {
        advertise(more);
        client.sync_endpoints().await.expect("one can be used");
        let logged = log.named("endpoint_left_out");
        assert_eq!(logged.len(), lines, "{logged:?}");
        let last = logged.last().expect("there is one");
        assert!(last.contains("ftp") && last.contains(r"a\nb\u{1b}[31m"), "{last}");
        assert!(!last.contains(char::is_control), "{last:?}");
    }
}
