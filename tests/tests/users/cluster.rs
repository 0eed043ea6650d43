//! Tokens in a cluster: fetched from one member, used on all.

use std::time::{Duration, Instant};

use etcd_watch_testkit::harness::{Auth, EtcdCluster, EtcdVersion, Keys};
use etcd_watch_tokio::{Client, Get, WatchConfig};
use tokio::task::JoinSet;

use crate::world::{Change, Observer, PASSWORD, password_checks};

/// Simple tokens, and a part of the log to replay so short that a restart forgets them.
async fn start(version: EtcdVersion) -> EtcdCluster {
    let cluster = EtcdCluster::builder(version).each(|member| member.snapshot_count(10));
    let cluster = cluster.start_async().await.expect("a cluster starts");
    let etcdctl = cluster.etcdctl().expect("it has an etcdctl");
    let auth = Auth::enable(&etcdctl, "password-of-root").await.expect("authentication is turned on");
    let added = auth.add_user_in_role("alice", PASSWORD, "team", Keys::Prefix("a/"));
    added.await.expect("alice is added");
    for endpoint in cluster.endpoints() {
        // A linearizable read: from then on the member knows all this.
        let member = auth.root().clone().with_endpoint(endpoint);
        member.run(["get", "a/first"]).await.expect("it is read");
    }
    cluster
}

fn checks(cluster: &EtcdCluster) -> u64 {
    cluster.members().map(password_checks).sum()
}

fn client(endpoints: Vec<String>) -> Client {
    let quick = Duration::from_millis(5);
    let config = WatchConfig::default().backoff(quick, quick, Duration::from_millis(100)).streams(6);
    let builder =
        etcd_watch_tokio::builder().endpoints(endpoints).user("alice", PASSWORD).watch_config(config);
    builder.connect_lazy().expect("valid settings")
}

async fn put(client: &Client, key: String, value: String) -> Change {
    let answer = client.put(key.clone(), value.clone()).await.expect("it is put");
    (answer.revision(), key, value)
}

async fn one_token_serves_all_members(version: EtcdVersion) {
    let cluster = start(version).await;
    for _ in 0..5 {
        let before = checks(&cluster);
        let client = client(cluster.endpoints());
        let mut observers: Vec<_> = (0..24).map(|_| Observer::open(&client, "a/", 1)).collect();
        let mut calls = JoinSet::new();
        for number in 0..20 {
            let client = client.clone();
            calls.spawn(async move { put(&client, format!("a/{number}"), "x".into()).await });
        }
        calls.join_all().await;
        for observer in &mut observers {
            observer.step().await.expect("it is created");
        }
        let checks = checks(&cluster) - before;
        // A member that is just one entry behind doesn't know the token yet. That is seldom, and never all of them.
        assert!((1..=8).contains(&checks), "{checks} password checks for 44 requests");
        client.close().await;
    }
}

async fn watches_go_on_while_every_member_in_turn_forgets_the_tokens(version: EtcdVersion) {
    let mut cluster = start(version).await;
    let client = client(cluster.endpoints());
    let mut changes = vec![put(&client, "a/first".into(), "x".into()).await];
    let from = changes[0].0;
    let mut observers: Vec<_> = (0..12).map(|_| Observer::open(&client, "a/", from)).collect();
    for number in 0..cluster.size() {
        for _ in 0..15 {
            changes.push(put(&client, format!("a/{number}"), "while all is well".into()).await);
        }
        for observer in &mut observers {
            observer.check(&changes).await;
        }
        cluster.member_mut(number).kill();
        // Whoever led may have been killed; reads are repeated until there is another.
        client.get(Get::key("a/first")).await.expect("it is read");
        changes.push(put(&client, format!("a/{number}"), "while it is away".into()).await);
        cluster.member_mut(number).restart_async().await.expect("it starts again");
        cluster.member(number).wait_until_healthy().await.expect("it serves");
        // All to the member that has forgotten.
        let only = cluster.member(number).endpoint();
        client.set_endpoints([only]).expect("an endpoint");
        changes.push(put(&client, format!("a/{number}"), "to it alone".into()).await);
        for observer in &mut observers {
            observer.check(&changes).await;
        }
        let checks = password_checks(cluster.member(number));
        println!("{checks} password checks by member {number}");
        assert!((1..=8).contains(&checks), "{checks} password checks");
        client.set_endpoints(cluster.endpoints()).expect("endpoints");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_hangs_over_the_password_is_left_for_another() {
    let cluster = start(EtcdVersion::V3_5).await;
    let leader = cluster.wait_for_leader().await.expect("there is one");
    let hung = cluster.all_but(leader)[0];
    let mut endpoints = cluster.endpoints();
    endpoints.swap(0, hung);
    cluster.member(hung).pause().expect("it runs");
    let change = put(&client(vec![cluster.member(leader).endpoint()]), "a/1".into(), "x".into()).await;
    let client = client(endpoints);
    let started = Instant::now();
    let mut observers: Vec<_> = (0..12).map(|_| Observer::open(&client, "a/", 1)).collect();
    client.get(Get::key("a/1")).await.expect("another member answers in time");
    for observer in &mut observers {
        observer.check(std::slice::from_ref(&change)).await;
    }
    println!("it took {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_serves_all_members_of_3_4() {
    one_token_serves_all_members(EtcdVersion::V3_4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_serves_all_members_of_3_5() {
    one_token_serves_all_members(EtcdVersion::V3_5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_go_on_while_every_member_of_3_4_in_turn_forgets_the_tokens() {
    watches_go_on_while_every_member_in_turn_forgets_the_tokens(EtcdVersion::V3_4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_go_on_while_every_member_of_3_5_in_turn_forgets_the_tokens() {
    watches_go_on_while_every_member_in_turn_forgets_the_tokens(EtcdVersion::V3_5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_serves_all_members_of_3_7() {
    one_token_serves_all_members(EtcdVersion::V3_7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_go_on_while_every_member_of_3_7_in_turn_forgets_the_tokens() {
    watches_go_on_while_every_member_in_turn_forgets_the_tokens(EtcdVersion::V3_7).await;
}
