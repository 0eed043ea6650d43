//! An address is used once a member of the cluster has answered there.

use etcd_watch_testkit::{
    harness::{Auth, EtcdServer, EtcdVersion},
    model::ModelConfig,
    proxy::FaultProxy,
    server::EmbeddedEtcd,
};
use etcd_watch_tokio::SyncError;

use crate::{advertising, builder, client, dead_endpoint, endpoints, log::Log, put};

#[tokio::test]
async fn real_members_that_advertise_an_address_nobody_answers_at_are_not_lost() {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = EtcdServer::builder(version).flag("advertise-client-urls", dead_endpoint().await);
        let server = server.start_async().await.expect("etcd starts");
        let client = client(server.endpoint());
        assert_eq!(client.sync_endpoints().await, Err(SyncError::NoneAnswers));
        assert_eq!(endpoints(&client), [server.endpoint()]);
        put(&client).await;
    }
}

#[tokio::test]
async fn an_address_of_another_real_cluster_is_not_used() {
    let other = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let server = EtcdServer::builder(EtcdVersion::V3_5).flag("advertise-client-urls", other.endpoint());
    let server = server.start_async().await.expect("etcd starts");
    let (log, _guard) = Log::start();
    let client = client(server.endpoint());
    assert_eq!(client.sync_endpoints().await, Err(SyncError::NoneAnswers));
    assert_eq!(endpoints(&client), [server.endpoint()]);
    let logged = log.named("endpoint_left_out");
    assert!(logged[0].contains("cluster"), "{logged:?}");
}

#[tokio::test]
async fn a_user_may_follow_the_member_list_too() {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let proxy = FaultProxy::start("127.0.0.1:1").await.expect("it starts");
        let server = EtcdServer::builder(version).flag("advertise-client-urls", proxy.endpoint());
        let server = server.start_async().await.expect("etcd starts");
        proxy.set_upstream(server.endpoint());
        Auth::enable(&server.etcdctl().expect("there is one"), "secret").await.expect("it is on");
        let client =
            builder(server.endpoint()).user("root", "secret").connect_lazy().expect("valid settings");
        client.sync_endpoints().await.expect("it answers");
        assert_eq!(endpoints(&client), [proxy.endpoint()]);
        put(&client).await;
    }
}

#[tokio::test]
async fn a_new_member_is_used_from_the_first_answer_on_and_the_old_ones_until_then() {
    let etcd = advertising([]).await;
    let proxy = FaultProxy::start(etcd.endpoint()).await.expect("it starts");
    proxy.refuse();
    let advertise = |urls: &[String]| etcd.with_model(|model| model.config_mut().client_urls = urls.to_vec());
    let client = client(etcd.endpoint());
    advertise(&[etcd.endpoint(), proxy.endpoint()]);
    client.sync_endpoints().await.expect("one of them answers");
    assert_eq!(endpoints(&client), [etcd.endpoint()]);
    advertise(&[proxy.endpoint()]);
    assert_eq!(client.sync_endpoints().await, Err(SyncError::NoneAnswers));
    assert_eq!(endpoints(&client), [etcd.endpoint()]);
    proxy.restore();
    client.sync_endpoints().await.expect("it answers now");
    assert_eq!(endpoints(&client), [proxy.endpoint()]);
    put(&client).await;
}

#[tokio::test]
async fn a_member_list_of_fifty_thousand_addresses_is_cut_and_logged_in_one_line() {
    let etcd = advertising([]).await;
    let many = (0..50_000_u32).map(|n| format!("http://127.{}.{}.1:1", 1 + n / 256, n % 256));
    let urls: Vec<String> = [etcd.endpoint()].into_iter().chain(many).collect();
    etcd.with_model(|model| model.config_mut().client_urls = urls);
    let (log, _guard) = Log::start();
    let client = client(etcd.endpoint());
    for _ in 0..3 {
        client.sync_endpoints().await.expect("the first answers");
        assert_eq!(endpoints(&client), [etcd.endpoint()]);
    }
    let logged = log.named("endpoint_left_out");
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert!(logged[0].contains("and 49992 more") && logged[0].len() < 4_000, "{logged:?}");
}

#[tokio::test]
async fn members_that_answer_as_another_cluster_for_the_model_too_are_left_out() {
    let config = ModelConfig { cluster_id: 7, ..ModelConfig::default() };
    let other = EmbeddedEtcd::start(config).await.expect("it starts");
    let etcd = advertising([]).await;
    let urls = vec![other.endpoint(), etcd.endpoint()];
    etcd.with_model(|model| model.config_mut().client_urls = urls);
    let client = client(etcd.endpoint());
    client.sync_endpoints().await.expect("one of them is a member");
    assert_eq!(endpoints(&client), [etcd.endpoint()]);
}
