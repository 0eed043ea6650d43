//! etcd's own form of unix URLs: `unix://host:port` is the relative path `host:port`.

#![cfg(unix)]

use std::{env, time::Duration};

use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};
use etcd_watch_tokio::{Get, Put};

/// For any one thing a test waits for.
const DEADLINE: Duration = Duration::from_secs(60);

/// One test, since it changes the directory of the whole process.
#[tokio::test]
async fn a_unix_url_with_host_and_port_is_used_and_followed_in_the_member_list() {
    // Before the directory changes, which the servers' own paths may depend on.
    let mut servers = Vec::new();
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = EtcdServer::builder(version).unix_socket();
        let server = server.flag("advertise-client-urls", URL).start_async().await.expect("etcd starts");
        servers.push(server);
    }
    for server in &servers {
        env::set_current_dir(server.working_directory()).expect("it is there");
        let builder = etcd_watch_tokio::builder().request_timeout(DEADLINE).endpoints([URL]);
        let client = builder.build().expect("there is a socket");
        client.put(Put::new("k", "v")).await.expect("it is put");

        let over_tcp = format!("http://{}", server.address());
        let builder = etcd_watch_tokio::builder().request_timeout(DEADLINE).endpoints([over_tcp]);
        let client = builder.build().expect("valid settings");
        let synced = client.sync_endpoints().await.expect("the member's URL can be used");
        let synced: Vec<String> = synced.iter().map(ToString::to_string).collect();
        assert_eq!(synced, ["unix:etcd.sock:1"]);
        let read = client.get(Get::key("k")).await.expect("it is read");
        assert_eq!(read.kvs.len(), 1);
    }
}

/// The socket of the harness, as etcd is told of it.
const URL: &str = "unix://etcd.sock:1";
