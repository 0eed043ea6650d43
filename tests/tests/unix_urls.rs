//! etcd's own form of unix URLs: `unix://host:port` is the relative path `host:port`, and `unixs` has TLS.

#![cfg(unix)]

use std::{env, time::Duration};

use etcd_watch_testkit::{
    certificates::TestCa,
    harness::{EtcdServer, EtcdVersion, ServerTls},
};
use etcd_watch_tokio::{Advertised, CallError, ClientBuilder, Get, Tls};

/// For any one thing a test waits for.
const DEADLINE: Duration = Duration::from_secs(60);

/// One test, since it changes the directory of the whole process.
#[tokio::test]
async fn a_unix_url_with_host_and_port_is_used_and_followed_in_the_member_list() {
    let ca = TestCa::new();
    // Before the directory changes, which the servers' own paths may depend on.
    let (mut plain, mut secured) = (Vec::new(), Vec::new());
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = EtcdServer::builder(version.clone()).unix_socket().flag("advertise-client-urls", URL);
        plain.push(server.start_async().await.expect("etcd starts"));
        let server = EtcdServer::builder(version)
            .tls(ServerTls::new(&ca.server(["localhost"])))
            .flag("listen-client-urls", URL_WITH_TLS)
            .flag("advertise-client-urls", URL_WITH_TLS);
        secured.push(server.start_async().await.expect("etcd starts"));
    }
    for server in &plain {
        enter(server);
        put_and_sync(builder([URL]), "unix:etcd.sock:1").await;
        let over_tcp = format!("http://{}", server.address());
        let or_unix = Advertised::like_given().or_unix();
        put_and_sync(builder([over_tcp]).accept_advertised(or_unix), "unix:etcd.sock:1").await;
    }
    for server in &secured {
        enter(server);
        let tls = || Tls::new().ca_pem(ca.pem());
        put_and_sync(builder([URL_WITH_TLS]).tls(tls()), "unixs:localhost:12345").await;
        let other_name = builder([URL_WITH_TLS]).tls(tls().server_name("etcd.example"));
        let refused = other_name.connect_lazy().expect("there is a socket").get(Get::key("k")).await;
        assert!(matches!(refused, Err(CallError::Tls { .. })), "{refused:?}");
    }
}

/// The socket of the harness, as etcd is told of it.
const URL: &str = "unix://etcd.sock:1";
const URL_WITH_TLS: &str = "unixs://localhost:12345";

fn builder<E: Into<String>>(endpoints: [E; 1]) -> ClientBuilder {
    etcd_watch_tokio::builder().request_timeout(DEADLINE).endpoints(endpoints)
}

/// Relative paths are the server's from now on.
fn enter(server: &EtcdServer) {
    env::set_current_dir(server.working_directory()).expect("it is there");
}

async fn put_and_sync(builder: ClientBuilder, advertised: &str) {
    let client = builder.connect_lazy().expect("there is a socket");
    client.put("k", "v").await.expect("it is put");
    let synced = client.sync_endpoints().await.expect("the member's URL can be used");
    let synced: Vec<String> = synced.iter().map(ToString::to_string).collect();
    assert_eq!(synced, [advertised]);
    let read = client.get(Get::key("k")).await.expect("it is read");
    assert_eq!(read.kvs().len(), 1);
}
