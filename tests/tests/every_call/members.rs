//! Who is in a cluster, learners among them.

use etcd_watch_client::{CallError, Client, Get, Refusal, admin::Member};
use etcd_watch_testkit::harness::EtcdCluster;

use crate::{
    joined::Learner,
    world::{Setup, invalid, once_not, refusal},
};

/// A cluster takes no changes before all of it has been well for 5 s.
const EARLY: &[Refusal] = &[Refusal::UnhealthyCluster];

async fn member(client: &Client, is_it: impl Fn(&Member) -> bool) -> Option<Member> {
    let members = client.cluster().members().await.expect("they are listed");
    members.into_members().into_iter().find(|member| is_it(member))
}

pub(crate) async fn members_and_learners_come_and_go(setup: Setup) {
    let cluster = EtcdCluster::builder(setup.version.clone()).start_async().await.expect("it starts");
    let client = setup.client(cluster.endpoints());
    let (admin, maintenance) = (client.cluster(), client.maintenance());

    let listed = admin.members().await.expect("they are listed");
    assert_ne!(listed.header().cluster_id, 0);
    assert_eq!(listed.members().len(), 3);
    for (member, endpoint) in listed.members().iter().zip(cluster.endpoints()) {
        assert!(member.has_started() && !member.is_learner() && member.peer_urls().len() == 1, "{member:?}");
        assert!(cluster.endpoints().contains(&member.client_urls()[0]), "{member:?} {endpoint}");
    }
    assert_eq!(admin.members_serializable().await.expect("they are listed").members(), listed.members());
    let voter = listed.members()[0].clone();

    // A member that never starts.
    assert_eq!(invalid(admin.add(["127.0.0.1:1"]).await), "peer_urls");
    assert_eq!(invalid(admin.update(voter.id(), [""; 0]).await), "peer_urls");
    let absent = "http://127.0.0.1:1";
    let added = once_not(EARLY, || admin.add_learner([absent])).await.expect("it is added");
    let id = added.member().id();
    assert!(added.member().is_learner() && !added.member().has_started(), "{added:?}");
    assert_eq!(added.all().members().len(), 4);
    assert_eq!(refusal(admin.promote(id).await), Refusal::LearnerNotReady);
    assert_eq!(refusal(admin.promote(voter.id()).await), Refusal::MemberNotLearner);
    assert_eq!(refusal(admin.promote(7).await), Refusal::MemberNotFound);
    assert_eq!(refusal(admin.add_learner(["http://127.0.0.1:2"]).await), Refusal::TooManyLearners);
    assert_eq!(refusal(admin.add(voter.peer_urls().to_vec()).await), Refusal::PeerUrlExists);
    let elsewhere = "http://127.0.0.1:3";
    let updated = admin.update(id, [elsewhere]).await.expect("it is updated");
    let found = updated.members().iter().find(|member| member.id() == id).expect("it is listed");
    assert_eq!(found.peer_urls(), [elsewhere]);
    assert_eq!(refusal(admin.update(id, voter.peer_urls().to_vec()).await), Refusal::PeerUrlExists);
    assert_eq!(refusal(admin.update(7, [absent]).await), Refusal::MemberNotFound);
    let left = admin.remove(id).await.expect("it is removed");
    assert_eq!(left.members().len(), 3);
    assert_eq!(refusal(admin.remove(id).await), Refusal::MemberNotFound);

    // A learner that follows, and is asked by its endpoint.
    client.put("key", "value").await.expect("it is put");
    let learner = Learner::start(&cluster).await;
    let endpoint = || learner.endpoint.clone();
    let id = member(&client, |member| member.client_urls().contains(&learner.endpoint))
        .await
        .expect("it is listed")
        .id();
    let status = maintenance.status(endpoint()).await.expect("learners tell how they are");
    assert!(status.is_learner() && status.header().member_id == id, "{status:?}");
    for refused in [
        refusal(maintenance.hash_kv(endpoint(), 0).await),
        refusal(maintenance.hash(endpoint()).await),
        refusal(maintenance.defragment(endpoint()).await),
    ] {
        assert_eq!(refused, Refusal::Learner);
    }
    let to_learner = setup.builder([endpoint()]).request_timeout(std::time::Duration::from_secs(2));
    let to_learner = to_learner.connect_lazy().expect("valid settings");
    for error in [
        to_learner.put("key", "value").await.expect_err("learners take no writes"),
        to_learner.get("key").await.expect_err("learners answer no linearizable reads"),
        to_learner.cluster().members().await.expect_err("learners don't tell"),
    ] {
        assert!(matches!(error, CallError::Timeout { .. }) && !error.may_have_executed(), "{error:?}");
        assert_eq!(error.refusal(), Some(Refusal::Learner), "{error}");
    }
    to_learner.get(Get::key("key").serializable(true)).await.expect("learners answer from their own store");
    let mut snapshot = maintenance.snapshot_of(endpoint()).await.expect("learners send snapshots");
    while let Some(piece) = snapshot.next().await {
        piece.expect("it is whole");
    }
    assert_eq!(refusal(maintenance.move_leader(id).await), Refusal::BadLeaderTransferee);

    // It gets a vote, and goes.
    let promoted =
        once_not(&[Refusal::LearnerNotReady, Refusal::UnhealthyCluster], || admin.promote(id)).await;
    let promoted = promoted.expect("it is promoted");
    assert!(promoted.members().iter().all(|member| !member.is_learner()), "{promoted:?}");
    once_not(EARLY, || admin.remove(id)).await.expect("it is removed");
    assert_eq!(member(&client, |member| member.id() == id).await, None);
}
