//! Stores that go back to a snapshot.

#![cfg(unix)]

use std::path::Path;

use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion, HarnessError, RestoreAs};
use serde_json::Value;

type Result<T = ()> = std::result::Result<T, HarnessError>;

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    cluster_id: u64,
    member_id: u64,
    revision: u64,
    value: String,
}

async fn look(server: &EtcdServer) -> Result<Seen> {
    let etcdctl = server.etcdctl()?;
    let json = etcdctl.run(["get", "key", "-w", "json"]).await?;
    let answer: Value = serde_json::from_str(&json).expect("etcdctl writes JSON");
    let field = |name: &str| answer["header"][name].as_u64().unwrap_or_default();
    let (cluster_id, member_id, revision) = (field("cluster_id"), field("member_id"), field("revision"));
    let value = etcdctl.run(["get", "key", "--print-value-only"]).await?.trim().to_owned();
    Ok(Seen { cluster_id, member_id, revision, value })
}

async fn restored(server: &mut EtcdServer, snapshot: &Path, identity: RestoreAs) -> Result<Seen> {
    for number in 0..5 {
        server.etcdctl()?.run(["put", "key", &format!("late {number}")]).await?;
    }
    server.restore(snapshot, identity).await?;
    look(server).await
}

#[tokio::test]
async fn a_restored_store_is_back_at_its_revision_with_the_ids_asked_for() -> Result {
    for version in EtcdVersion::under_test()? {
        let mut server = EtcdServer::builder(version).start_async().await?;
        let endpoint = server.endpoint();
        server.etcdctl()?.run(["put", "key", "early"]).await?;
        let before = look(&server).await?;
        assert_eq!((before.revision, before.value.as_str()), (2, "early"));
        let directory = tempfile::tempdir().expect("a directory can be made");
        let snapshot = directory.path().join("snapshot.db");
        server.snapshot(&snapshot).await?;

        assert_eq!(restored(&mut server, &snapshot, RestoreAs::SameCluster).await?, before);

        let other = restored(&mut server, &snapshot, RestoreAs::AnotherCluster).await?;
        assert_eq!((other.revision, other.value.as_str()), (2, "early"));
        assert_ne!(other.cluster_id, before.cluster_id);
        assert_ne!(other.member_id, before.member_id);

        // It stays that other cluster, and goes on from there.
        assert_eq!(restored(&mut server, &snapshot, RestoreAs::SameCluster).await?, other);
        server.restart_async().await?;
        assert_eq!(look(&server).await?, other);
        assert_eq!(server.endpoint(), endpoint);
        server.etcdctl()?.run(["put", "key", "new"]).await?;
        assert_eq!(look(&server).await?.revision, 3);
    }
    Ok(())
}
