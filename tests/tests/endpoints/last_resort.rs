//! The endpoints given are tried when none of the others answers.

use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion, wait_until},
    proxy::{Cut, FaultProxy},
};

use crate::{DEADLINE, SECOND, advertising, builder, client, endpoints, put, put_after_cuts};

#[tokio::test]
async fn when_all_members_move_the_endpoints_given_lead_to_them() {
    let etcd = advertising([]).await;
    let first = FaultProxy::start(etcd.endpoint()).await.expect("it starts");
    let second = FaultProxy::start(etcd.endpoint()).await.expect("it starts");
    let advertise =
        |endpoint: String| etcd.with_model(|model| model.config_mut().client_urls = vec![endpoint]);
    advertise(first.endpoint());
    let client =
        builder(etcd.endpoint()).sync_endpoints_every(SECOND).connect_lazy().expect("valid settings");
    wait_until("the list is read", DEADLINE, || endpoints(&client) == [first.endpoint()]).await;
    put(&client).await;
    advertise(second.endpoint());
    first.refuse();
    first.cut_all(Cut::Reset);
    wait_until("the new list is read", DEADLINE, || endpoints(&client) == [second.endpoint()]).await;
    put_after_cuts(&client).await;
}

#[tokio::test]
async fn real_members_that_can_not_be_reached_where_they_advertise_are_reached_where_they_were_given() {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let proxy = FaultProxy::start("127.0.0.1:1").await.expect("it starts");
        let server = EtcdServer::builder(version).flag("advertise-client-urls", proxy.endpoint());
        let server = server.start_async().await.expect("etcd starts");
        proxy.set_upstream(server.endpoint());
        let client =
            builder(server.endpoint()).sync_endpoints_every(SECOND).connect_lazy().expect("valid settings");
        let mut watch = client.watch("key").expect("it is open");
        wait_until("the list is read", DEADLINE, || endpoints(&client) == [proxy.endpoint()]).await;
        put(&client).await;
        proxy.refuse();
        proxy.cut_all(Cut::Reset);
        put_after_cuts(&client).await;
        let mut events = 0;
        while events < 2 {
            let next = tokio::time::timeout(DEADLINE, watch.next()).await.expect("in time");
            events += next.expect("it goes on").expect("it goes on").events().count();
        }
        assert!(endpoints(&client).contains(&server.endpoint()), "it is used: {:?}", client.endpoints());
        proxy.restore();
        wait_until("the member is back", DEADLINE, || endpoints(&client) == [proxy.endpoint()]).await;
        put(&client).await;
    }
}

#[tokio::test]
async fn a_member_in_use_that_turns_a_call_away_is_asked_again_on_the_same_connection() {
    let etcd = advertising([]).await;
    let given = FaultProxy::start(etcd.endpoint()).await.expect("it starts");
    let member = FaultProxy::start(etcd.endpoint()).await.expect("it starts");
    etcd.with_model(|model| model.config_mut().client_urls = vec![member.endpoint()]);
    let client = client(given.endpoint());
    client.sync_endpoints().await.expect("it answers");
    put(&client).await;
    let before = (given.accepted(), member.accepted());
    for _ in 0..3 {
        etcd.turn_away(2);
        put(&client).await;
    }
    assert_eq!((given.accepted(), member.accepted()), before, "no other connection is made");
}

#[tokio::test]
async fn endpoints_set_later_take_the_place_of_those_given() {
    let etcd = advertising([]).await;
    let proxies = [
        FaultProxy::start(etcd.endpoint()).await.expect("it starts"),
        FaultProxy::start(etcd.endpoint()).await.expect("it starts"),
    ];
    let client = client(etcd.endpoint());
    client.set_endpoints([proxies[0].endpoint()]).expect("it can be used");
    assert_eq!(endpoints(&client), [proxies[0].endpoint()]);
    etcd.with_model(|model| model.config_mut().client_urls = vec![proxies[1].endpoint()]);
    client.sync_endpoints().await.expect("it answers");
    assert_eq!(endpoints(&client), [proxies[1].endpoint()]);
    proxies[1].refuse();
    proxies[1].cut_all(Cut::Reset);
    let before = proxies[0].bytes_upstream();
    put_after_cuts(&client).await;
    assert!(proxies[0].bytes_upstream() > before, "it goes there");
}
