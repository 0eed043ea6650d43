//! `etcd-watch endpoints`, against the embedded etcd.

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
        assert_eq!(simple.end().await.0.code(), Some(0));
    }
}
