//! Go's clientv3/naming/endpoints and this crate, on the same keys.

use etcd_watch_client::{
    Get,
    discovery::{EndpointBatch, ServiceEndpoint},
};
use etcd_watch_testkit::harness::{Go, GoProcess};
use serde_json::{Value, json};

use crate::world::{TARGET, World, next, soon, until_addresses};

/// Metadata of every shape, and characters that Go's encoder writes in its own way.
fn metadata() -> Value {
    json!({ "weight": 3, "share": 0.25, "zones": ["x", null], "note": "<é & \"\u{2028}\u{7f}>", "on": true })
}

fn at(addr: &str) -> ServiceEndpoint {
    ServiceEndpoint::new(addr)
}

fn full(name: &str) -> String {
    format!("{TARGET}/{name}")
}

async fn line(process: &mut GoProcess) -> Value {
    let line = process.line().await.expect("it goes on");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

async fn list(go: &Go) -> Value {
    let lines = go.run(["endpoints", "list", TARGET]).await.expect("it lists");
    serde_json::from_str(&lines.concat()).expect("it writes JSON")
}

pub(crate) async fn what_go_adds_is_listed_and_watched(world: World) {
    let go = Go::interop(world.endpoint()).expect("it has been built");
    let service = world.service();
    let mut watch = service.watch();
    assert!(next(&mut watch).await.endpoints().is_empty());

    let (name, text) = (full("10.0.0.1:1"), metadata().to_string());
    go.run(["endpoints", "add", TARGET, &name, "10.0.0.1:1", &text]).await.expect("it adds");
    go.run(["endpoints", "add", TARGET, &full("nested/b"), "10.0.0.2:1"]).await.expect("it adds");
    until_addresses(&mut watch, &["10.0.0.1:1", "10.0.0.2:1"]).await;
    assert_eq!(*watch.endpoints()["10.0.0.1:1"], at("10.0.0.1:1").metadata(metadata()));
    assert_eq!(*watch.endpoints()["nested/b"], at("10.0.0.2:1"));
    let listed = service.list().await.expect("they are listed");
    assert_eq!((&listed.endpoints, listed.undecodable.len()), (&**watch.endpoints(), 0));

    go.run(["endpoints", "delete", TARGET, &name]).await.expect("it deletes");
    until_addresses(&mut watch, &["10.0.0.2:1"]).await;
    assert_eq!(watch.undecodable(), 0);
}

pub(crate) async fn what_is_added_here_go_lists_and_watches(world: World) {
    let go = Go::interop(world.endpoint()).expect("it has been built");
    let service = world.service();
    let mut watch = go.spawn(["endpoints", "watch", TARGET]).expect("it runs");
    assert_eq!(watch.line().await.expect("it goes on"), "watching");

    let registration = service.register("a", at("10.0.0.1:1").metadata(metadata())).expect("it is lawful");
    let a = json!({ "key": full("a"), "addr": "10.0.0.1:1", "metadata": metadata() });
    let told = |op: &str, mut endpoint: Value| {
        endpoint["op"] = op.into();
        endpoint
    };
    assert_eq!(line(&mut watch).await, json!([told("add", a.clone())]));
    service.update(EndpointBatch::new().add("b", at("2")).add("c", at("3"))).await.expect("it is done");
    let plain = |name: &str, addr: &str| json!({ "key": full(name), "addr": addr, "metadata": null });
    assert_eq!(line(&mut watch).await, json!([told("add", plain("b", "2")), told("add", plain("c", "3"))]));
    let expected = json!({ (full("a")): a, (full("b")): plain("b", "2"), (full("c")): plain("c", "3") });
    assert_eq!(list(&go).await, expected);

    soon("it is deregistered", registration.deregister()).await.expect("it is deregistered");
    assert_eq!(line(&mut watch).await, json!([told("delete", plain("a", ""))]));
    let change = EndpointBatch::new().delete("b").add("c", at("4"));
    service.update(change).await.expect("it is done");
    let expected = json!([told("delete", plain("b", "")), told("add", plain("c", "4"))]);
    assert_eq!(line(&mut watch).await, expected);
    assert_eq!(watch.end().await.expect("it ends well"), Vec::<String>::new());
}

pub(crate) async fn both_write_the_same_bytes(world: World) {
    let go = Go::interop(world.endpoint()).expect("it has been built");
    let service = world.service();
    let client = world.direct();
    for metadata in [Value::Null, json!({ "b": [1, 2.5, "ü"], "a": { "z": false } }), json!("text")] {
        let endpoint = at("[::1]:80").metadata(metadata.clone());
        service.add("here", endpoint).await.expect("it is added");
        let text = metadata.to_string();
        go.run(["endpoints", "add", TARGET, &full("there"), "[::1]:80", &text]).await.expect("it adds");
        let values = client.get(Get::prefix(full(""))).await.expect("they are read").kvs;
        assert_eq!(values.len(), 2);
        assert_eq!(values[0].value, values[1].value);
    }
}
