//! The zone of an IPv6 address reaches the socket, on every runtime.

use std::{
    io,
    net::{SocketAddr, SocketAddrV6},
};

use etcd_watch_client::{Address, Endpoint, Runtime};
use etcd_watch_smol::{SmolRuntime, async_std::AsyncStdRuntime};
use etcd_watch_tokio::TokioRuntime;

/// A number instead of an interface's name: it need not be there.
const ENDPOINT: &str = "http://[fe80::1%251]:2379";

async fn resolve(runtime: impl Runtime) -> io::Result<Vec<SocketAddr>> {
    let endpoint: Endpoint = ENDPOINT.parse().expect("it has a zone");
    let Address::Tcp { host, port } = endpoint.address() else { panic!("it is a host") };
    runtime.resolve(host.to_owned(), port).await
}

#[tokio::test]
async fn a_zone_is_the_scope_of_the_address_on_every_runtime() {
    let address = "fe80::1".parse().expect("an address");
    let expected = [SocketAddr::V6(SocketAddrV6::new(address, 2379, 0, 1))];
    let tokio = TokioRuntime::ambient().expect("the test runs on it");
    assert_eq!(resolve(tokio).await.expect("it is resolved"), expected);
    assert_eq!(resolve(SmolRuntime::new()).await.expect("it is resolved"), expected);
    assert_eq!(resolve(AsyncStdRuntime::new()).await.expect("it is resolved"), expected);
}
