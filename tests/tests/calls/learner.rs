//! A member without a vote.

use etcd_watch_client::{CallError, Code};
use etcd_watch_testkit::harness::{EtcdCluster, EtcdVersion};

use crate::{
    joined::Learner,
    world::{SECOND, builder, client, refused_in_the_end},
};

#[tokio::test]
async fn writes_go_past_a_learner_to_a_member_with_a_vote() {
    let cluster = EtcdCluster::builder(EtcdVersion::V3_5).start_async().await.expect("it starts");
    let learner = Learner::start(&cluster).await;
    let endpoints = || [learner.endpoint.clone(), cluster.member(0).endpoint()];
    client(endpoints()).put("key", "value").await.expect("a member with a vote takes it");
    client(endpoints()).lease_grant(60 * SECOND).await.expect("a member with a vote takes it");
    client(endpoints()).get("key").await.expect("a member with a vote answers");
    // With nobody else there, it is told that nothing was executed.
    let alone = builder([learner.endpoint.clone()]).request_timeout(2 * SECOND);
    let alone = alone.connect_lazy().expect("it is valid");
    let error = refused_in_the_end(async || alone.put("key", "value").await).await;
    assert!(matches!(error, CallError::Timeout { .. }) && error.is_transient(), "{error}");
    assert_eq!((error.may_have_executed(), error.code()), (false, Some(Code::Unavailable)), "{error}");
}
