//! `etcd-watch snapshot save`.

#![cfg(unix)]

mod common;

use common::{output, text, tool_for};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion, RestoreAs},
    model::ModelConfig,
    server::EmbeddedEtcd,
};

#[tokio::test]
async fn a_snapshot_is_saved_for_etcds_own_tool_to_restore() {
    let mut server = EtcdServer::builder(EtcdVersion::V3_7).start_async().await.expect("etcd starts");
    let client = etcd_watch_tokio::connect([server.endpoint()]).await.expect("a client");
    client.put("key", "value").await.expect("it is put");
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path().join("db");
    let path_text = path.to_str().expect("text");
    let saved = output(tool_for(&server.endpoint(), &["snapshot", "save", path_text])).await;
    assert!(saved.status.success(), "{}", text(&saved.stderr));
    assert_eq!(text(&saved.stdout), format!("Snapshot saved at {path_text}\n"));
    client.delete("key").await.expect("it is deleted");
    server.restore(&path, RestoreAs::SameCluster).await.expect("etcd takes it");
    let restored = client.get("key").await.expect("it is read").into_first().expect("it is there again");
    assert_eq!(restored.value, "value");

    let nowhere = directory.path().join("missing").join("db");
    let failed =
        output(tool_for(&server.endpoint(), &["snapshot", "save", nowhere.to_str().expect("text")])).await;
    assert!(!failed.status.success() && text(&failed.stderr).contains("can't create"), "{failed:?}");
}

#[tokio::test]
async fn a_server_without_snapshots_leaves_no_file() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("it starts");
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path().join("db");
    let failed =
        output(tool_for(&etcd.endpoint(), &["snapshot", "save", path.to_str().expect("text")])).await;
    assert!(!failed.status.success() && text(&failed.stderr).contains("Snapshot"), "{failed:?}");
    assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 0);
}
