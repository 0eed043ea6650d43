//! A leader that is moved, and a cluster that has none.

use std::time::Duration;

use etcd_watch_client::{CallError, Refusal};
use etcd_watch_testkit::harness::EtcdCluster;

use crate::world::{Setup, refusal};

pub(crate) async fn the_leader_is_moved_and_one_member_of_three_tells_that_it_has_none(setup: Setup) {
    let mut cluster = EtcdCluster::builder(setup.version.clone()).start_async().await.expect("it starts");
    let client = setup.client(cluster.endpoints());
    let maintenance = client.maintenance();
    let leader = cluster.wait_for_leader().await.expect("they agree");

    // All hold the same.
    let revision = client.put("key", "value").await.expect("it is put").revision();
    let mut hashes = Vec::new();
    for endpoint in cluster.endpoints() {
        // A linearizable read has the member catch up.
        setup.client([endpoint.clone()]).get("key").await.expect("it is read");
        hashes.push(maintenance.hash_kv(endpoint, revision).await.expect("it is told").hash());
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");

    // By a client that knows all, and by one that doesn't know the leader.
    let follower = cluster.all_but(leader)[0];
    let ids: Vec<u64> = {
        let mut ids = Vec::new();
        for endpoint in cluster.endpoints() {
            ids.push(maintenance.status(endpoint).await.expect("it is told").header().member_id);
        }
        ids
    };
    maintenance.move_leader(ids[follower]).await.expect("it is moved");
    assert_eq!(cluster.wait_for_leader().await.expect("they agree"), follower);
    let blind = setup.client([cluster.member(leader).endpoint()]).maintenance();
    assert_eq!(refusal(blind.move_leader(ids[leader]).await), Refusal::NotLeader);
    assert_eq!(refusal(maintenance.move_leader(7).await), Refusal::BadLeaderTransferee);
    let status = maintenance.status_all().await;
    let leaders = status.iter().filter(|(_, status)| status.as_ref().is_ok_and(|status| status.is_leader()));
    assert_eq!((status.len(), leaders.count()), (3, 1));

    // One is left.
    let [lone, others @ ..] = [0, 1, 2];
    for other in others {
        cluster.member_mut(other).kill();
    }
    cluster.wait_until_leaderless(lone).await.expect("it notices");
    let endpoint = cluster.member(lone).endpoint();
    let all = maintenance.clone().timeout(Duration::from_secs(2)).status_all().await;
    assert_eq!(all.iter().filter(|(_, status)| status.is_ok()).count(), 1, "{all:?}");
    let client = setup.builder([endpoint.clone()]).request_timeout(Duration::from_secs(2));
    let client = client.connect_lazy().expect("valid settings");
    let (admin, maintenance) = (client.cluster(), client.maintenance());
    let status = maintenance.status(&endpoint[..]).await.expect("it tells how it is");
    assert!(status.leader().is_none() && !status.errors().is_empty(), "{status:?}");
    assert_eq!(admin.members_serializable().await.expect("it tells what it knows").members().len(), 3);
    maintenance.hash_kv(&endpoint[..], revision).await.expect("it has its own store");
    maintenance.defragment(&endpoint[..]).await.expect("it has its own database");
    let mut snapshot = maintenance.snapshot().await.expect("it has its own database");
    while let Some(piece) = snapshot.next().await {
        piece.expect("it is whole");
    }
    for error in [
        admin.members().await.expect_err("nobody agrees"),
        admin.add(["http://127.0.0.1:1"]).await.expect_err("nobody agrees"),
        admin.remove(ids[1]).await.expect_err("nobody agrees"),
        client.auth().user_list().await.expect_err("nobody agrees"),
        client.leases().await.expect_err("nobody agrees"),
        maintenance.alarms().await.expect_err("nobody agrees"),
        maintenance.downgrade_enable("3.4").await.expect_err("nobody agrees"),
    ] {
        assert!(matches!(error, CallError::Timeout { .. }) && error.is_transient(), "{error:?}");
        assert_eq!((error.refusal(), error.may_have_executed()), (Some(Refusal::NoLeader), false), "{error}");
    }
    // The member hashes the password before it finds out, and so may be at it when the time is over.
    let error = client.auth().user_add("alice", "password").await.expect_err("nobody agrees");
    assert!(matches!(error, CallError::Timeout { .. } | CallError::MaybeExecuted { .. }), "{error:?}");
    assert!(error.is_transient(), "{error}");
    assert_eq!(refusal(maintenance.move_leader(ids[1]).await), Refusal::NoLeader);
}
