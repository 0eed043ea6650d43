//! What only real servers do: users, tokens that expire, leaders that change.

use std::time::Duration;

use etcd_watch_client::{
    Client,
    concurrency::{ContendError, Election, Session, leader},
};
use etcd_watch_testkit::harness::{Auth, EtcdCluster, EtcdServer, EtcdServerBuilder, EtcdVersion, Keys};
use tokio::time::timeout;

use crate::{
    runtime::On,
    world::{KEPT, builder_on, joined, locking, mutex, name, opened, renewed, session, within},
};

const SCENARIO_DEADLINE: Duration = Duration::from_secs(240);

fn run(scenario: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("tokio starts").block_on(async {
        timeout(SCENARIO_DEADLINE, scenario).await.expect("the scenario ends in time");
    });
}

/// A server on which alice may read and write `a/`.
async fn with_alice(server: EtcdServerBuilder) -> (EtcdServer, Client) {
    let server = server.start_async().await.expect("etcd starts");
    let etcdctl = server.etcdctl().expect("it has an etcdctl");
    let auth = Auth::enable(&etcdctl, "password-of-root").await.expect("authentication is turned on");
    let added = auth.add_user_in_role("alice", "password-of-alice", "team", Keys::Prefix("a/"));
    added.await.expect("alice is added");
    let alice = builder_on(On::Tokio, [server.endpoint()]).user("alice", "password-of-alice");
    let alice = alice.connect_lazy().expect("valid settings");
    (server, alice)
}

async fn those_without_permission_are_told_so(version: EtcdVersion) {
    let (_server, alice) = with_alice(EtcdServer::builder(version)).await;
    let session = session(&alice).await;
    let denied = within(mutex(&session, "b").lock()).await.expect_err("it is not hers");
    assert!(matches!(&denied, ContendError::Denied { .. }), "{denied}");
    let denied = within(mutex(&session, "b").try_lock()).await.expect_err("it is not hers");
    assert!(matches!(&denied, ContendError::Denied { .. }), "{denied}");
    let election = Election::new(&session, name("b"));
    let denied = within(election.campaign("alice")).await.expect_err("it is not hers");
    assert!(matches!(&denied, ContendError::Denied { .. }), "{denied}");
    let denied = within(election.observe().next()).await.expect("an error, then the end");
    assert!(matches!(&denied, Err(ContendError::Denied { .. })), "{denied:?}");
    within(leader(&alice, &name("b"))).await.expect_err("it is not hers");

    assert!(!session.is_lost(), "a denial costs nothing else");
    let guard = within(mutex(&session, "a/lock").lock()).await.expect("it is hers");
    within(guard.unlock()).await.expect("it unlocks");
    within(session.close()).await.expect("it closes");
}

async fn a_lock_outlives_its_tokens(version: EtcdVersion) {
    let short = Duration::from_secs(2);
    let (_server, alice) = with_alice(EtcdServer::builder(version).jwt(short)).await;
    let one = opened(Session::builder(&alice).ttl(KEPT)).await;
    let two = opened(Session::builder(&alice).ttl(KEPT)).await;
    let guard = within(mutex(&one, "a/lock").lock()).await.expect("it locks");
    let waiter = locking(&two, "a/lock");
    // Past the end of the tokens.
    tokio::time::sleep(short * 3).await;
    tokio::join!(renewed(&one), renewed(&two));
    assert!(guard.is_held() && !waiter.is_finished(), "{:?}", guard.lost_reason());
    within(guard.unlock()).await.expect("it unlocks");
    assert!(joined(waiter).await.expect("it locks").is_held());
}

async fn a_lock_outlives_the_leader(version: EtcdVersion) {
    let mut cluster = EtcdCluster::builder(version).start_async().await.expect("the cluster starts");
    let client = || builder_on(On::Tokio, cluster.endpoints()).connect_lazy().expect("valid settings");
    let (one, two) = (client(), client());
    let (one, two) =
        (opened(Session::builder(&one).ttl(KEPT)).await, opened(Session::builder(&two).ttl(KEPT)).await);
    let guard = within(mutex(&one, "a").lock()).await.expect("it locks");
    let waiter = locking(&two, "a");
    let leader = cluster.wait_for_leader().await.expect("there is a leader");
    cluster.member_mut(leader).kill();
    // By what is left of the cluster.
    tokio::join!(renewed(&one), renewed(&two));
    assert!(guard.is_held() && !waiter.is_finished(), "{:?}", guard.lost_reason());
    within(guard.unlock()).await.expect("it unlocks");
    assert!(joined(waiter).await.expect("it locks").is_held());
}

macro_rules! on_every_version {
    ($($name:ident)*) => {
        mod v3_4 {
            use super::*;
            $(#[test] fn $name() { run(super::$name(EtcdVersion::V3_4)); })*
        }
        mod v3_5 {
            use super::*;
            $(#[test] fn $name() { run(super::$name(EtcdVersion::V3_5)); })*
        }
        mod v3_6 {
            use super::*;
            $(#[test] fn $name() { run(super::$name(EtcdVersion::V3_6)); })*
        }
        mod v3_7 {
            use super::*;
            $(#[test] fn $name() { run(super::$name(EtcdVersion::V3_7)); })*
        }
    };
}

on_every_version! {
    those_without_permission_are_told_so
    a_lock_outlives_its_tokens
    a_lock_outlives_the_leader
}
