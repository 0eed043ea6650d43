//! Unix sockets beside endpoints with TLS.

use etcd_watch_client::Tls;
use etcd_watch_testkit::{
    certificates::TestCa,
    harness::{EtcdServer, ServerTls},
};

use crate::{DEADLINE, nothing_is_lost, on_every_runtime, runtime::On, versions};

on_every_runtime! {
    the_scheme_of_a_unix_socket_says_whether_it_has_tls
}

async fn the_scheme_of_a_unix_socket_says_whether_it_has_tls(on: On) {
    for version in versions() {
        let ca = TestCa::new();
        // The same member, without TLS at a socket and with it over TCP.
        let server =
            EtcdServer::builder(version).unix_socket().tls(ServerTls::new(&ca.server(["127.0.0.1"])));
        let server = server.start_async().await.expect("etcd starts");
        let (socket, tcp) = (server.endpoint(), format!("https://{}", server.address()));
        assert!(socket.starts_with("unix:"), "{socket}");
        let builder = on.builder().endpoints([&socket, &tcp]).tls(Tls::new().ca_pem(ca.pem()));
        let client = builder.request_timeout(DEADLINE).connect().await.expect("it answers");
        nothing_is_lost(&client, 0, || {}).await;
        for endpoint in [tcp, socket.clone()] {
            client.set_endpoints([endpoint]).expect("it can be used");
            client.put("ways", "again").await.expect("it is put");
        }
        let wrong =
            on.builder().endpoints([socket.replace("unix:", "unixs:")]).tls(Tls::new().ca_pem(ca.pem()));
        let error = wrong.connect().await.expect_err("there is no TLS at the socket").to_string();
        assert!(error.contains("TLS"), "{error}");
    }
}
