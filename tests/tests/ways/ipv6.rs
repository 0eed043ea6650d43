//! IPv6 addresses, and their zones.

use std::{
    fs,
    net::{Ipv6Addr, SocketAddrV6},
    time::Duration,
};

use etcd_watch_client::Tls;
use etcd_watch_testkit::{
    certificates::TestCa,
    harness::{EtcdServer, ServerTls},
    model::{ModelConfig, ModelEtcd},
    server::EmbeddedEtcd,
};

use crate::{DEADLINE, nothing_is_lost, on_every_runtime, runtime::On, versions};

on_every_runtime! {
    a_server_on_an_ipv6_address_is_watched
    a_link_local_address_is_reached_by_its_zone
}

async fn a_server_on_an_ipv6_address_is_watched(on: On) {
    for version in versions() {
        let ca = TestCa::new();
        let tls = ServerTls::new(&ca.server(["::1"]));
        let plain = EtcdServer::builder(version.clone()).ipv6().start_async().await.expect("etcd starts");
        let secure = EtcdServer::builder(version).ipv6().tls(tls).start_async().await.expect("etcd starts");
        for (scheme, server) in [("http", plain), ("https", secure)] {
            let builder = on.builder().endpoints([format!("{scheme}://[::1]:{}", server.address().port())]);
            let builder = if scheme == "https" { builder.tls(Tls::new().ca_pem(ca.pem())) } else { builder };
            let client = builder.request_timeout(DEADLINE).connect().await.expect("it answers");
            nothing_is_lost(&client, 0, || {}).await;
        }
    }
}

/// Link-local addresses of this machine, each with the name and the number of its network card.
fn link_local() -> Vec<(Ipv6Addr, String, u32)> {
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, number, _, _, _, name] = fields[..] else { return None };
        let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
        let number = u32::from_str_radix(number, 16).ok()?;
        address.is_unicast_link_local().then(|| (address, name.to_owned(), number))
    };
    table.lines().filter_map(row).collect()
}

async fn a_link_local_address_is_reached_by_its_zone(on: On) {
    let all = link_local();
    assert!(
        !all.is_empty(),
        "this test needs a network card with a link-local IPv6 address (/proc/net/if_inet6)"
    );
    for (address, name, number) in all {
        let socket = SocketAddrV6::new(address, 0, 0, number);
        let etcd = EmbeddedEtcd::start_on(socket.into(), ModelEtcd::new(ModelConfig::default())).await;
        let etcd = etcd.expect("a free port");
        let port = etcd.address().port();
        for zone in [format!("%25{name}"), format!("%{name}"), format!("%25{number}")] {
            let client = on.builder().endpoints([format!("http://[{address}{zone}]:{port}")]);
            let client = client.request_timeout(DEADLINE).connect().await.expect("it answers");
            nothing_is_lost(&client, 0, || {}).await;
        }
        let without = on.builder().endpoints([format!("http://[{address}]:{port}")]);
        let without = without.connect_timeout(Duration::from_millis(500)).connect().await;
        without.expect_err("without its zone nobody knows where the address is");
    }
}
