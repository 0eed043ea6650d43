//! What the tests share.
#![allow(dead_code)]

use std::time::Duration;

use etcd_watch_testkit::{model::ModelConfig, proxy::FaultProxy, server::EmbeddedEtcd};
use etcd_watch_tokio::{Client, TokioRuntime, Watch};
use tokio::time::timeout;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// For any one thing a test waits for: much longer than it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn runtime() -> TokioRuntime {
    TokioRuntime::ambient().expect("called in a tokio test")
}

/// An empty etcd and a client of it.
pub(crate) async fn start() -> (EmbeddedEtcd, Client) {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let client = etcd_watch_tokio::connect([etcd.endpoint()]).await.expect("a valid endpoint");
    (etcd, client)
}

/// A proxy before it, and a client that goes through that.
pub(crate) async fn through_proxy(etcd: &EmbeddedEtcd) -> (FaultProxy, Client) {
    let proxy = FaultProxy::start(etcd.endpoint()).await.expect("a free port");
    let client = etcd_watch_tokio::connect([proxy.endpoint()]).await.expect("a valid endpoint");
    (proxy, client)
}

pub(crate) async fn put(client: &Client, n: usize) {
    client.put(format!("key{n}"), format!("value{n}")).await.expect("etcd runs");
}

/// The revisions a watch has delivered.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) revisions: Vec<i64>,
}

impl Recorder {
    /// Reads until this revision has arrived.
    pub(crate) async fn read_until(&mut self, watch: &mut Watch, revision: i64) {
        while self.revisions.last().is_none_or(|&seen| seen < revision) {
            let response = match timeout(DEADLINE, watch.try_next()).await {
                Ok(Ok(Some(response))) => response,
                other => panic!("{other:?} after {:?}", self.revisions.last()),
            };
            self.revisions.extend(response.events().map(|event| event.mod_revision()));
        }
    }
}
