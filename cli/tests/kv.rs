//! `etcd-watch get`, `put` and `del` against the embedded etcd.

mod common;

use std::process::Stdio;

use common::{World, output, text};
use tokio::io::AsyncWriteExt;

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
    ] {
        let output = world.run(&arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[tokio::test]
async fn a_value_is_given_or_piped_in_and_never_made_up() {
    let world = World::new().await;
    let piped = async |value: &[u8]| {
        let mut tool = world.tool(&["put", "k"]);
        tool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = tool.spawn().expect("the tool runs");
        let mut stdin = child.stdin.take().expect("its input");
        stdin.write_all(value).await.expect("it reads");
        drop(stdin);
        child.wait_with_output().await.expect("its end")
    };
    assert!(piped(b"piped\n").await.status.success());
    world.prints(&["get", "k"], "k\npiped\n\n").await;
    // The other one has no input at all.
    for refused in [piped(b"").await, output(world.tool(&["put", "k"])).await] {
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(text(&refused.stderr).contains("put KEY \"\""), "{refused:?}");
    }
    world.prints(&["get", "k"], "k\npiped\n\n").await;
    world.prints(&["put", "k", ""], "OK\n").await;
    world.prints(&["get", "k"], "k\n\n").await;
}

#[tokio::test]
async fn an_empty_key_is_refused_with_how_to_name_every_key() {
    let world = World::new().await;
    world.put("k", "v");
    for arguments in [
        ["get", ""].as_slice(),
        &["get", "", "z"],
        &["del", ""],
        &["watch", ""],
        &["mirror", ""],
        &["put", "", "v"],
    ] {
        let refused = world.run(arguments).await;
        let stderr = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: the key is empty: give a key"), "{arguments:?}: {stderr}");
        let names_all = stderr.contains(r#"--prefix "" or --from-key """#);
        assert_eq!(names_all, arguments[0] != "put", "{arguments:?}: {stderr}");
    }
    for flag in ["--prefix", "--from-key"] {
        world.prints(&["get", "", flag], "k\nv\n").await;
    }
}
