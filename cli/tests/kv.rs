//! `etcd-watch get`, `put` and `del` against the embedded etcd.

mod common;

use common::{World, text};

impl World {
    async fn prints(&self, arguments: &[&str], expected: &str) {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert_eq!(text(&output.stdout), expected, "{arguments:?}");
    }
}

#[tokio::test]
async fn keys_are_put_got_and_deleted() {
    let world = World::new().await;
    world.prints(&["put", "a", "1"], "OK\n").await;
    world.prints(&["put", "a", "2", "--prev-kv"], "OK\na\n1\n").await;
    world.prints(&["put", "ab", "3"], "OK\n").await;
    world.prints(&["get", "a"], "a\n2\n").await;
    world.prints(&["get", "a", "--rev", "2"], "a\n1\n").await;
    world.prints(&["get", "a", "--prefix"], "a\n2\nab\n3\n").await;
    world.prints(&["get", "a", "--prefix", "--limit", "1"], "a\n2\n").await;
    world.prints(&["get", "a", "b", "--keys-only"], "a\n\nab\n\n").await;
    world.prints(&["get", "a", "--prefix", "--print-value-only"], "2\n3\n").await;
    world.prints(&["get", "--from-key", "aa", "--hex"], "\\x61\\x62\n\\x33\n").await;
    world.prints(&["get", "a", "--prefix", "--count-only"], "2\n").await;
    world.prints(&["del", "a", "--prev-kv"], "1\na\n2\n").await;
    world.prints(&["del", "a"], "0\n").await;
    world.prints(&["del", "", "--prefix"], "1\n").await;
}

#[tokio::test]
async fn other_formats_are_etcdctls() {
    let world = World::new().await;
    let header = |revision| {
        format!(
            r#""header":{{"cluster_id":14841639068965178418,"member_id":10276657743932975437,"revision":{revision},"raft_term":2}}"#
        )
    };
    let kv = r#"{"key":"YQ==","create_revision":2,"mod_revision":2,"version":1,"value":"MQ=="}"#;
    world.prints(&["put", "a", "1", "-w", "json"], &format!("{{{}}}\n", header(2))).await;
    world
        .prints(&["get", "a", "-w", "json"], &format!("{{{},\"kvs\":[{kv}],\"count\":1}}\n", header(2)))
        .await;
    let deleted = format!("{{{},\"deleted\":1,\"prev_kvs\":[{kv}]}}\n", header(3));
    world.prints(&["del", "a", "--prev-kv", "-w", "json"], &deleted).await;
    let fields = "\"ClusterID\" : 14841639068965178418\n\"MemberID\" : 10276657743932975437\n\"Revision\" : 3\n\
                  \"RaftTerm\" : 2\n\"More\" : false\n\"Count\" : 0\n";
    world.prints(&["get", "a", "-w", "fields"], fields).await;
}

#[tokio::test]
async fn the_servers_refusal_is_the_error() {
    let world = World::new().await;
    for (arguments, expected) in [
        (["get", "a", "--rev", "9"], "future revision"),
        (["put", "a", "1", "--lease=77"], "lease not found"),
        (["get", "a", "--rev", "-1"], "revision"),
    ] {
        let output = world.run(&arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{arguments:?}: {}", text(&output.stderr));
    }
}
