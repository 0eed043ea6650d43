//! Clusters of three real members: they elect, lose and find leaders, and partitions do what networks do.

#![cfg(unix)]

use std::time::Duration;

use etcd_watch_proto::etcdserverpb::{
    PutRequest, RangeRequest, kv_client::KvClient, watch_client::WatchClient,
};
use etcd_watch_testkit::{
    certificates::TestCa,
    harness::{
        Auth, EtcdCluster, EtcdServer, EtcdVersion, Etcdctl, HarnessError, RestoreAs, ServerTls, wait_until,
    },
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

type Result<T = ()> = std::result::Result<T, HarnessError>;

const SOON: Duration = Duration::from_secs(60);

async fn channel(server: &EtcdServer) -> Channel {
    let endpoint = Endpoint::try_from(server.endpoint()).expect("it is a URL");
    endpoint.connect().await.expect("the member accepts connections")
}

async fn kv(server: &EtcdServer) -> KvClient<Channel> {
    KvClient::new(channel(server).await)
}

/// A request that is to fail rather than wait where there is no leader.
fn require_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().expect("it is ASCII"));
    request.set_timeout(Duration::from_secs(15));
    request
}

async fn linearizable_get(server: &EtcdServer) -> std::result::Result<u64, Status> {
    let range = RangeRequest { key: "key".into(), ..RangeRequest::default() };
    let answer = kv(server).await.range(require_leader(range)).await?;
    Ok(answer.into_inner().kvs.first().map_or(0, |kv| kv.mod_revision as u64))
}

async fn value_at(etcdctl: &Etcdctl, endpoint: String) -> Result<String> {
    Ok(etcdctl
        .clone()
        .with_endpoint(endpoint)
        .run(["get", "key", "--print-value-only"])
        .await?
        .trim()
        .to_owned())
}

/// In words of `etcdctl`.
async fn cluster_id(cluster: &EtcdCluster) -> Result<String> {
    let status = cluster.etcdctl()?.run(["endpoint", "status", "-w", "json"]).await?;
    let (_, id) = status.split_once("\"cluster_id\":").expect("it is told");
    Ok(id.split(',').next().unwrap_or_default().to_owned())
}

fn versions() -> Result<Vec<EtcdVersion>> {
    Ok(EtcdVersion::under_test()?)
}

#[tokio::test]
async fn a_cluster_commits_with_one_member_down_and_the_member_catches_up() -> Result {
    for version in versions()? {
        let mut cluster = EtcdCluster::builder(version).start_async().await?;
        assert_eq!((cluster.size(), cluster.endpoints().len()), (3, 3));
        let leader = cluster.wait_for_leader().await?;
        assert_eq!(cluster.leader().await?, Some(leader));
        let etcdctl = cluster.etcdctl()?;
        etcdctl.run(["put", "key", "one"]).await?;

        cluster.member_mut(leader).kill();
        let rest = cluster.all_but(leader);
        let next = cluster.wait_for_leader_among(&rest).await?;
        assert_ne!(next, leader);
        let survivor = etcdctl.clone().with_endpoint(cluster.member(next).endpoint());
        survivor.run(["put", "key", "two"]).await?;

        cluster.member_mut(leader).restart_async().await?;
        cluster.member(leader).wait_until_healthy().await?;
        assert_eq!(value_at(&etcdctl, cluster.member(leader).endpoint()).await?, "two");
    }
    Ok(())
}

#[tokio::test]
async fn a_member_whose_majority_is_down_restarts_and_waits_for_it() -> Result {
    for version in versions()? {
        let mut cluster = EtcdCluster::builder(version).start_async().await?;
        cluster.etcdctl()?.run(["put", "key", "one"]).await?;
        for number in 0..3 {
            cluster.member_mut(number).kill();
        }
        cluster.member_mut(0).restart_async().await?;
        assert!(!cluster.member(0).has_leader()?);
        assert_eq!(cluster.leader().await?, None);
        cluster.member_mut(1).restart_async().await?;
        cluster.wait_for_leader_among(&[0, 1]).await?;
        cluster.member(0).wait_until_healthy().await?;
        assert_eq!(value_at(&cluster.etcdctl()?, cluster.member(0).endpoint()).await?, "one");
    }
    Ok(())
}

#[tokio::test]
async fn members_join_get_their_vote_and_go_and_the_first_ones_come_back_by_a_restore() -> Result {
    for version in versions()? {
        let mut cluster = EtcdCluster::builder(version).members(1).spares(2).start_async().await?;
        assert_eq!((cluster.numbers(), cluster.free_numbers()), (vec![0], vec![1, 2]));
        cluster.etcdctl()?.run(["put", "key", "one"]).await?;
        let directory = tempfile::tempdir().expect("a directory can be made");
        let snapshot = directory.path().join("snapshot.db");
        cluster.member(0).snapshot(&snapshot).await?;

        cluster.add_learner(1).await?;
        let refused = linearizable_get(cluster.member(1)).await.expect_err("it has no vote");
        assert!(refused.message().contains("learner"), "{refused:?}");
        cluster.promote(1).await?;
        assert_eq!(value_at(&cluster.etcdctl()?, cluster.member(1).endpoint()).await?, "one");
        cluster.add(2).await?;
        cluster.member(2).wait_until_healthy().await?;
        assert_eq!((cluster.size(), cluster.endpoints().len()), (3, 3));

        // Who has joined is known: it can be cut off.
        let others = cluster.all_but(2);
        cluster.partition(&[2]);
        cluster.wait_until_leaderless(2).await?;
        cluster.wait_for_leader_among(&others).await?;
        cluster.heal();
        cluster.wait_for_leader().await?;

        cluster.remove(0).await?;
        assert_eq!((cluster.numbers(), cluster.free_numbers()), (vec![1, 2], vec![0]));
        assert!(!cluster.member_mut(0).has_process()?);
        cluster.restore(&snapshot, RestoreAs::AnotherCluster).await?;
        let id = cluster_id(&cluster).await?;
        // One that is down can go, and come back with no data.
        cluster.add(0).await?;
        cluster.member_mut(0).kill();
        cluster.remove(0).await?;
        cluster.etcdctl()?.run(["put", "key", "two"]).await?;
        cluster.add(0).await?;
        cluster.member(0).wait_until_healthy().await?;
        assert_eq!(value_at(&cluster.etcdctl()?, cluster.member(0).endpoint()).await?, "two");

        cluster.restore(&snapshot, RestoreAs::SameCluster).await?;
        assert_eq!((cluster.numbers(), cluster.free_numbers()), (vec![1, 2], vec![0]));
        assert_eq!(value_at(&cluster.etcdctl()?, cluster.member(1).endpoint()).await?, "one");
        assert_eq!(cluster_id(&cluster).await?, id);
    }
    Ok(())
}

#[tokio::test]
async fn a_leader_that_is_cut_off_steps_down_and_comes_back_when_the_partition_heals() -> Result {
    for version in versions()? {
        let cluster = EtcdCluster::builder(version).start_async().await?;
        let etcdctl = cluster.etcdctl()?;
        etcdctl.run(["put", "key", "before"]).await?;
        let old = cluster.wait_for_leader().await?;
        let majority = cluster.all_but(old);

        cluster.partition(&[old]);
        cluster.wait_until_leaderless(old).await?;
        let refused = linearizable_get(cluster.member(old)).await.expect_err("there is no leader");
        assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));
        let put = PutRequest { key: "key".into(), value: "lost".into(), ..PutRequest::default() };
        let refused = kv(cluster.member(old)).await.put(require_leader(put)).await.expect_err("no leader");
        assert_eq!(refused.message(), "etcdserver: no leader");
        let mut watch = WatchClient::new(channel(cluster.member(old)).await);
        let refused = watch.watch(require_leader(tokio_stream::pending())).await.expect_err("no leader");
        assert_eq!(refused.message(), "etcdserver: no leader");

        let new = cluster.wait_for_leader_among(&majority).await?;
        assert!(majority.contains(&new));
        let through_new = etcdctl.clone().with_endpoint(cluster.member(new).endpoint());
        through_new.run(["put", "key", "meanwhile"]).await?;
        let stale = etcdctl.clone().with_endpoint(cluster.member(old).endpoint());
        let value = stale.run(["get", "key", "--consistency=s", "--print-value-only"]).await?;
        assert_eq!(value, "before\n", "the other side's write got through");

        cluster.heal();
        cluster.wait_for_leader().await?;
        for endpoint in cluster.endpoints() {
            assert_eq!(value_at(&etcdctl, endpoint).await?, "meanwhile");
        }
        stale.run(["put", "key", "after"]).await?;
        assert_eq!(value_at(&etcdctl, cluster.member(new).endpoint()).await?, "after");
    }
    Ok(())
}

#[tokio::test]
async fn a_follower_that_is_cut_off_changes_nothing_for_the_rest_and_partitions_replace_each_other() -> Result
{
    for version in versions()? {
        let cluster = EtcdCluster::builder(version).start_async().await?;
        let etcdctl = cluster.etcdctl()?;
        let leader = cluster.wait_for_leader().await?;
        let followers = cluster.all_but(leader);
        let at_leader = etcdctl.clone().with_endpoint(cluster.member(leader).endpoint());

        cluster.partition(&[followers[0]]);
        cluster.wait_until_leaderless(followers[0]).await?;
        at_leader.run(["put", "key", "one"]).await?;
        assert_eq!(cluster.wait_for_leader_among(&[leader, followers[1]]).await?, leader);

        // Named from the other side, it is the other follower's turn.
        cluster.partition(&[leader, followers[0]]);
        cluster.wait_until_leaderless(followers[1]).await?;
        let leader = cluster.wait_for_leader_among(&[leader, followers[0]]).await?;
        etcdctl.clone().with_endpoint(cluster.member(leader).endpoint()).run(["put", "key", "two"]).await?;
        assert_eq!(value_at(&etcdctl, cluster.member(followers[0]).endpoint()).await?, "two");
        cluster.heal();
        cluster.wait_for_leader().await?;
        assert_eq!(value_at(&etcdctl, cluster.member(followers[1]).endpoint()).await?, "two");
    }
    Ok(())
}

#[tokio::test]
async fn a_frozen_leader_is_replaced_and_follows_once_it_goes_on() -> Result {
    let cluster = EtcdCluster::builder(EtcdVersion::V3_5).start_async().await?;
    let frozen = cluster.wait_for_leader().await?;
    cluster.member(frozen).pause()?;
    let next = cluster.wait_for_leader_among(&cluster.all_but(frozen)).await?;
    cluster.member(frozen).resume()?;
    cluster.wait_for_leader().await?;
    wait_until("it follows", SOON, || cluster.member(frozen).is_leader().is_ok_and(|leads| !leads)).await;
    assert_ne!(next, frozen);
    Ok(())
}

#[tokio::test]
async fn a_whole_cluster_goes_back_to_a_snapshot_and_can_be_partitioned_after() -> Result {
    let mut cluster = EtcdCluster::builder(EtcdVersion::V3_5).start_async().await?;
    let etcdctl = cluster.etcdctl()?;
    etcdctl.run(["put", "key", "early"]).await?;
    let directory = tempfile::tempdir().expect("a directory can be made");
    let snapshot = directory.path().join("snapshot.db");
    let leader = cluster.wait_for_leader().await?;
    cluster.member(leader).snapshot(&snapshot).await?;
    etcdctl.run(["put", "key", "late"]).await?;
    cluster.restore(&snapshot, RestoreAs::AnotherCluster).await?;
    for endpoint in cluster.endpoints() {
        assert_eq!(value_at(&etcdctl, endpoint).await?, "early");
    }
    let leader = cluster.wait_for_leader().await?;
    cluster.partition(&[leader]);
    cluster.wait_until_leaderless(leader).await?;
    cluster.heal();
    cluster.wait_for_leader().await?;
    Ok(())
}

#[tokio::test]
async fn settings_hold_for_all_members_and_users_are_the_same_everywhere() -> Result {
    for version in versions()? {
        let ca = TestCa::new();
        let tls = ServerTls::new(&ca.server(["127.0.0.1"])).require_client_certificates(&ca);
        let builder = EtcdCluster::builder(version).flag("max-txn-ops", 1);
        let cluster = builder.each(|member| member.tls(tls)).start_async().await?;
        let auth = Auth::enable(&cluster.etcdctl()?, "root-password").await?;
        for endpoint in cluster.endpoints() {
            assert!(endpoint.starts_with("https://"), "{endpoint}");
            let root = auth.root().clone().with_endpoint(endpoint);
            root.run(["put", "key", "value"]).await?;
            let failed = root.run_with_input(["txn"], "\nput a 1\nput b 2\n\n\n").await.unwrap_err();
            assert!(failed.to_string().contains("too many operations"), "{failed}");
        }
    }
    Ok(())
}
