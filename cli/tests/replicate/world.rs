//! Two clusters, the tool between them, and what is in their stores.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};
use etcd_watch_tokio::{Client, Get, KeyRange, Put, Txn};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::common::{PATIENCE, Running, bare, output, text};

pub(crate) const CHECKPOINT: &str = "etcd-watch/mirror/prefix/k/";

/// Two clusters, of different versions.
pub(crate) struct World {
    pub(crate) from: EtcdServer,
    pub(crate) to: EtcdServer,
    pub(crate) source: Client,
    pub(crate) destination: Client,
}

impl World {
    pub(crate) async fn start() -> Self {
        let from = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
        let to = EtcdServer::builder(EtcdVersion::V3_4).start_async().await.expect("etcd starts");
        let source = etcd_watch_tokio::connect([from.endpoint()]).await.expect("a client");
        let destination = etcd_watch_tokio::connect([to.endpoint()]).await.expect("a client");
        Self { from, to, source, destination }
    }

    pub(crate) fn tool(&self, flags: &[&str]) -> Command {
        let mut command = bare(&["mirror", "--prefix", "k/", "--to", &self.to.endpoint()]);
        command.args(flags).env("ETCDCTL_ENDPOINTS", self.from.endpoint());
        command
    }

    /// Mirrors up to the source's present revision, and returns the statistics.
    pub(crate) async fn copy(&self, flags: &[&str]) -> Value {
        let until = self.source.get("k/").await.expect("a read").revision();
        let mut tool = self.tool(&["--until-rev", &until.to_string(), "-w", "json"]);
        tool.args(flags);
        let output = output(tool).await;
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("an object")
    }

    pub(crate) async fn put(&self, key: &str, value: &str) -> i64 {
        let put = self.source.put(key.to_owned(), value.to_owned()).await.expect("it is put");
        put.revision()
    }

    pub(crate) async fn delete(&self, key: &str) {
        self.source.delete(key).await.expect("it is deleted");
    }

    pub(crate) async fn put_there(&self, key: &str, value: &str) {
        self.destination.put(key.to_owned(), value.to_owned()).await.expect("it is put");
    }

    pub(crate) async fn checkpoint(&self) -> Option<Value> {
        let found = self.destination.get(CHECKPOINT).await.expect("a read");
        found.first().map(|kv| serde_json::from_slice(&kv.value).expect("JSON"))
    }

    pub(crate) async fn writer(&self) -> Value {
        self.checkpoint().await.unwrap_or_default()["writer"].clone()
    }

    /// Starts a mirror, and returns once it has taken the destination over.
    pub(crate) async fn take_over(&self) -> Running {
        let before = self.writer().await;
        let tool = Running::start(self.tool(&[]));
        let replaced = async {
            while self.writer().await == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, replaced).await.expect("the mirror takes over");
        tool
    }

    /// Returns once the checkpoint is exact and at the revision, or past it.
    pub(crate) async fn until_exact(&self, revision: i64) {
        let reached = async {
            loop {
                let checkpoint = self.checkpoint().await.unwrap_or_default();
                if checkpoint["exact"] == true && checkpoint["revision"].as_i64() >= Some(revision) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("the mirror gets there");
    }
}

/// Keys without the prefix, values, and the revisions of the last changes.
pub(crate) async fn keys(client: &Client, prefix: &str) -> BTreeMap<String, (String, i64)> {
    let found = client.get(Get::new(KeyRange::prefix(prefix.to_owned()))).await.expect("a read");
    let pair = |kv: etcd_watch_tokio::OwnedKeyValue| {
        (text(&kv.key[prefix.len()..]), (text(&kv.value), kv.mod_revision))
    };
    found.into_kvs().into_iter().map(pair).collect()
}

/// Keys without the prefix, and values.
pub(crate) async fn values(client: &Client, prefix: &str) -> BTreeMap<String, String> {
    keys(client, prefix).await.into_iter().map(|(key, (value, _))| (key, value)).collect()
}

pub(crate) fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(crate) fn put_all(keys: Range<usize>, value: &str) -> Txn {
    keys.fold(Txn::new(), |txn, key| txn.and_then(Put::new(format!("k/{key:03}"), value.to_owned())))
}
