//! `etcd-watch endpoints`, against the embedded etcd and real ones.

mod common;

use common::{Running, World, text};
use serde_json::{Value, json};

fn value(addr: &str, metadata: &str) -> String {
    format!(r#"{{"Op":0,"Addr":"{addr}","Metadata":{metadata}}}"#)
}

#[tokio::test]
async fn the_endpoints_of_a_service_are_listed() {
    let world = World::new().await;
    world.put("billing/10.0.0.1:80", value("10.0.0.1:80", "null"));
    world.put("billing/two", value("10.0.0.2:80", r#"{"weight":2}"#));
    world.put("billing-eu/three", value("10.0.0.3:80", "null"));
    world.put("billing/wrong", "10.0.0.4:80");
    let output = world.run(&["endpoints", "billing"]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        text(&output.stdout),
        "10.0.0.1:80\t10.0.0.1:80\ntwo\t10.0.0.2:80\t{\"weight\":2}\n",
        "{output:?}"
    );
    assert!(text(&output.stderr).contains("wrong"), "{output:?}");
    let output = world.run(&["endpoints", "billing", "-w", "json"]).await;
    let listed: Value = serde_json::from_slice(&output.stdout).expect("an object");
    let expected = json!([
        { "name": "10.0.0.1:80", "addr": "10.0.0.1:80" },
        { "name": "two", "addr": "10.0.0.2:80", "metadata": { "weight": 2 } },
    ]);
    assert_eq!((&listed["endpoints"], &listed["revision"]), (&expected, &json!(5)));
    assert_eq!(listed["undecodable"][0]["name"], "wrong");

    let none = world.run(&["endpoints", "other"]).await;
    assert_eq!((none.status.code(), text(&none.stdout)), (Some(0), String::new()));
    for (arguments, expected) in
        [(["endpoints", "billing/", "-w=json"], "target"), (["endpoints", "billing", "-w=fields"], "fields")]
    {
        let refused = world.run(&arguments).await;
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains(expected), "{refused:?}");
    }
}

#[tokio::test]
async fn changes_of_the_endpoints_are_followed() {
    let world = World::new().await;
    world.put("billing/one", value("10.0.0.1:80", "null"));
    let mut simple = Running::start(world.tool(&["endpoints", "billing", "--watch"]));
    let mut json = Running::start(world.tool(&["endpoints", "billing", "--watch", "-w", "json"]));
    assert_eq!(simple.lines(2).await, ["ADDED\tone\t10.0.0.1:80", "synced: 2"]);
    let mut object = async || serde_json::from_str::<Value>(&json.line().await).expect("an object");
    let added = json!({ "type": "added", "name": "one", "addr": "10.0.0.1:80", "revision": 2 });
    assert_eq!(object().await, added);
    assert_eq!(object().await, json!({ "type": "synced", "revision": 2 }));
    world.put("billing/one", value("10.0.0.1:81", "7"));
    assert_eq!(simple.line().await, "UPDATED\tone\t10.0.0.1:81\t7");
    let updated =
        json!({ "type": "updated", "name": "one", "addr": "10.0.0.1:81", "metadata": 7, "revision": 3 });
    assert_eq!(object().await, updated);
    world.put("billing/two", "no JSON");
    assert!(simple.line().await.starts_with("UNDECODABLE\ttwo\tthe value is not JSON"));
    assert_eq!(object().await["type"], "undecodable");
    world.delete("billing/one");
    assert_eq!(simple.line().await, "REMOVED\tone\t10.0.0.1:81\t7");
    assert_eq!(object().await["type"], "removed");
    #[cfg(unix)]
    {
        simple.signal(rustix::process::Signal::INT);
        assert_eq!(common::signal_of(simple.end().await.0), Some(rustix::process::Signal::INT));
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_real_etcd_services_that_come_and_go_are_listed_and_followed() {
    use common::{output, tool_for};
    use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};
    use etcd_watch_tokio::discovery::{Discovery, ServiceEndpoint};
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
        let client = etcd_watch_tokio::connect([server.endpoint()]).await.expect("a client");
        let billing = Discovery::new(&client, "billing").expect("a target");
        let one = ServiceEndpoint::new("10.0.0.1:80").metadata(7);
        let registration = billing.register("one", one).expect("it can be registered");
        registration.registered().await.expect("it is registered");

        let tool = |arguments: &[&str]| tool_for(&server.endpoint(), arguments);
        let listed = output(tool(&["endpoints", "billing"])).await;
        assert_eq!((listed.status.code(), text(&listed.stdout)), (Some(0), "one\t10.0.0.1:80\t7\n".into()));
        let mut following = Running::start(tool(&["endpoints", "billing", "--watch"]));
        assert_eq!(following.line().await, "ADDED\tone\t10.0.0.1:80\t7");
        assert!(following.line().await.starts_with("synced: "));
        registration.update(ServiceEndpoint::new("10.0.0.1:81")).await.expect("it is updated");
        assert_eq!(following.line().await, "UPDATED\tone\t10.0.0.1:81");
        billing.add("two", ServiceEndpoint::new("10.0.0.2:80")).await.expect("it is added");
        assert_eq!(following.line().await, "ADDED\ttwo\t10.0.0.2:80");
        registration.deregister().await.expect("it is deregistered");
        assert_eq!(following.line().await, "REMOVED\tone\t10.0.0.1:81");
        following.signal(rustix::process::Signal::INT);
        assert_eq!(common::signal_of(following.end().await.0), Some(rustix::process::Signal::INT));
        let listed = output(tool(&["endpoints", "billing"])).await;
        assert_eq!(text(&listed.stdout), "two\t10.0.0.2:80\n");
    }
}
