//! Which endpoints a client uses: those given, those of the member list, and what a bad member list can't do.
//!
//! | file | owns |
//! |---|---|
//! | `last_resort` | the endpoints given are tried when none of the others answers |
//! | `advertised` | which addresses of the member list are accepted |
//! | `trial` | an address is used once a member of the cluster has answered there |
//! | `failing` | what the log says of a watch stream that can't be opened |
//! | `log` | the log, as a test reads it |

#![cfg(unix)]

mod advertised;
mod failing;
mod last_resort;
mod log;
mod trial;

use std::time::Duration;

use etcd_watch_testkit::{model::ModelConfig, server::EmbeddedEtcd};
use etcd_watch_tokio::{Client, ClientBuilder};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// An embedded etcd whose member list has these URLs; it is reached at its own endpoint all the same.
pub(crate) async fn advertising(urls: impl IntoIterator<Item = String>) -> EmbeddedEtcd {
    let config = ModelConfig { client_urls: urls.into_iter().collect(), ..ModelConfig::default() };
    EmbeddedEtcd::start(config).await.expect("it starts")
}

pub(crate) fn builder(endpoint: impl Into<String>) -> ClientBuilder {
    etcd_watch_tokio::builder().endpoints([endpoint.into()])
}

pub(crate) fn client(endpoint: impl Into<String>) -> Client {
    builder(endpoint).connect_lazy().expect("valid settings")
}

pub(crate) fn endpoints(client: &Client) -> Vec<String> {
    client.endpoints().iter().map(ToString::to_string).collect()
}

pub(crate) async fn put(client: &Client) {
    client.put("key", "value").await.expect("it is put");
}

/// Puts after connections were cut: a write whose answer is lost with one fails, and is made again.
pub(crate) async fn put_after_cuts(client: &Client) {
    let attempts = async { while client.put("key", "value").await.is_err() {} };
    tokio::time::timeout(DEADLINE, attempts).await.expect("it is put in time");
}

/// An endpoint nobody listens on.
pub(crate) async fn dead_endpoint() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    format!("http://{}", listener.local_addr().expect("bound"))
}
