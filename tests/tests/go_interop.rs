//! The program around Go's etcd client, on real servers and with itself only: what tests of our client's recipes
//! rely on when they run it as the other side.

#![cfg(unix)]
// Which versions have been tried is worth knowing when a run is looked at later.
#![allow(clippy::print_stdout, reason = "tells the versions under test")]

use std::time::Duration;

use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion, Etcdctl, Go, GoProcess, HarnessError};
use serde_json::{Value, json};

type Result<T = ()> = std::result::Result<T, HarnessError>;

const SOON: Duration = Duration::from_secs(60);
/// Long enough for a line that should not come, after what would have made it come is over.
const MOMENT: Duration = Duration::from_millis(100);

/// A server of each version under test, with the program aimed at it.
async fn servers() -> Result<Vec<(EtcdServer, Go)>> {
    let mut servers = Vec::new();
    for version in EtcdVersion::under_test()? {
        let server = EtcdServer::builder(version).start_async().await?;
        let go = Go::interop(server.endpoint())?;
        println!("client of {} on etcd {}", go.versions().await?, server.version());
        servers.push((server, go));
    }
    assert!(servers.len() >= 2, "several lines are under test");
    Ok(servers)
}

/// The words of the next line, which begins with `word`.
async fn words<const N: usize>(process: &mut GoProcess, word: &str) -> Result<[String; N]> {
    let line = process.line().await?;
    let words: Vec<String> = line.splitn(N, ' ').map(str::to_owned).collect();
    assert_eq!(words[0], word, "{line}");
    Ok(words.try_into().unwrap_or_else(|words| panic!("{N} words in {words:?}")))
}

async fn json_line(process: &mut GoProcess) -> Result<Value> {
    let line = process.line().await?;
    Ok(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}")))
}

async fn keys(etcdctl: &Etcdctl, prefix: &str) -> Result<Vec<String>> {
    let text = etcdctl.run(["get", "--prefix", prefix, "--keys-only"]).await?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

async fn until_there_are(etcdctl: &Etcdctl, prefix: &str, count: usize) -> Result {
    let end = tokio::time::Instant::now() + SOON;
    loop {
        let found = keys(etcdctl, prefix).await?;
        if found.len() == count {
            return Ok(());
        }
        assert!(tokio::time::Instant::now() < end, "{count} keys under {prefix} in vain: {found:?}");
    }
}

#[tokio::test]
async fn a_lock_is_held_by_one_at_a_time_and_in_the_order_of_asking() -> Result {
    for (server, go) in servers().await? {
        let etcdctl = server.etcdctl()?;
        let mut first = go.spawn(["lock", "name"])?;
        let [_, first_key, first_revision] = words(&mut first, "locked").await?;
        assert_eq!(keys(&etcdctl, "name/").await?, [first_key.as_str()]);

        let mut second = go.spawn(["lock", "name"])?;
        until_there_are(&etcdctl, "name/", 2).await?;
        let mut third = go.spawn(["lock", "name"])?;
        until_there_are(&etcdctl, "name/", 3).await?;
        assert_eq!(go.run(["trylock", "name"]).await?, ["busy"]);
        assert_eq!(keys(&etcdctl, "name/").await?.len(), 3, "what trylock left");
        assert_eq!(second.line_within(MOMENT).await?, None);
        assert_eq!(third.line_within(MOMENT).await?, None);

        first.send("unlock").await?;
        assert_eq!(first.end().await?, ["unlocked"]);
        let [_, second_key, second_revision] = words(&mut second, "locked").await?;
        assert_ne!(second_key, first_key);
        let revision = |text: &str| text.parse::<i64>().unwrap();
        assert!(revision(&second_revision) > revision(&first_revision));

        // One that waits gives up, and the next doesn't wait for it.
        let fourth = go.spawn(["lock", "name"])?;
        until_there_are(&etcdctl, "name/", 3).await?;
        third.send("cancel").await?;
        assert_eq!(third.end().await?, ["cancelled"]);
        until_there_are(&etcdctl, "name/", 2).await?;
        assert_eq!(second.end().await?, ["unlocked"]);
        let lines = fourth.end().await?;
        assert!(lines[0].starts_with("locked name/") && lines[1] == "unlocked", "{lines:?}");
        assert_eq!(keys(&etcdctl, "name/").await?, Vec::<String>::new());
    }
    Ok(())
}

#[tokio::test]
async fn a_lock_outlives_a_killed_holder_by_its_ttl_only() -> Result {
    for (_server, go) in servers().await? {
        let mut holder = go.spawn(["lock", "name", "--ttl", "2"])?;
        words::<3>(&mut holder, "locked").await?;
        holder.kill().await?;
        assert_eq!(go.run(["trylock", "name"]).await?, ["busy"]);
        // Nobody unlocks for the one that was killed.
        let mut next = go.spawn(["lock", "name"])?;
        words::<3>(&mut next, "locked").await?;
        next.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_holder_whose_session_is_revoked_says_so_and_fails() -> Result {
    for (server, go) in servers().await? {
        let etcdctl = server.etcdctl()?;
        // It asks every second whether its lease is still there: a third of the TTL.
        let mut holder = go.spawn(["lock", "name", "--ttl", "3"])?;
        let [_, key, _] = words(&mut holder, "locked").await?;
        let lease = key.strip_prefix("name/").unwrap();
        etcdctl.run(["lease", "revoke", lease]).await?;
        let error = holder.line().await.unwrap_err();
        assert!(error.to_string().contains("the session has ended"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn leaders_are_elected_in_turn_and_observed_with_all_they_proclaim() -> Result {
    for (server, go) in servers().await? {
        let etcdctl = server.etcdctl()?;
        assert_eq!(go.run(["leader", "office"]).await?, ["none"]);
        let mut observer = go.spawn(["observe", "office"])?;
        let mut first = go.spawn(["elect", "office", "one"])?;
        let [_, first_key, revision] = words(&mut first, "elected").await?;
        let [_, key, seen_revision, value] = words(&mut observer, "leader").await?;
        assert_eq!((key, seen_revision, value.as_str()), (first_key.clone(), revision, "one"));

        first.send("proclaim one and a half").await?;
        let [_, proclaimed] = words(&mut first, "proclaimed").await?;
        let told = format!("leader {first_key} {proclaimed} one and a half");
        assert_eq!(observer.line().await?, told);
        assert_eq!(go.run(["leader", "office"]).await?, [told]);

        let mut second = go.spawn(["elect", "office", "two"])?;
        until_there_are(&etcdctl, "office/", 2).await?;
        first.send("resign").await?;
        assert_eq!(first.end().await?, ["resigned"]);
        let [_, second_key, _] = words(&mut second, "elected").await?;
        let [_, key, _, value] = words(&mut observer, "leader").await?;
        assert_eq!((key, value.as_str()), (second_key, "two"));
        assert_eq!(second.end().await?, ["resigned"]);
        assert_eq!(observer.end().await?, Vec::<String>::new());
    }
    Ok(())
}

#[tokio::test]
async fn endpoints_are_added_listed_watched_and_deleted() -> Result {
    for (server, go) in servers().await? {
        let etcdctl = server.etcdctl()?;
        go.run(["endpoints", "add", "service", "service/a", "10.0.0.1:1"]).await?;
        let mut watch = go.spawn(["endpoints", "watch", "service"])?;
        assert_eq!(watch.line().await?, "watching");
        let a = json!({"key": "service/a", "addr": "10.0.0.1:1", "metadata": null});
        let update = |op: &str, mut endpoint: Value| {
            endpoint["op"] = json!(op);
            json!([endpoint])
        };
        assert_eq!(json_line(&mut watch).await?, update("add", a.clone()));

        let metadata = r#"{"weight":3,"zones":["x"]}"#;
        go.run(["endpoints", "add", "service", "service/b", "10.0.0.2:1", metadata]).await?;
        go.run(["endpoints", "add", "serviceable", "serviceable/c", "10.0.0.3:1"]).await?;
        let b = json!({"key": "service/b", "addr": "10.0.0.2:1", "metadata": {"weight": 3, "zones": ["x"]}});
        assert_eq!(json_line(&mut watch).await?, update("add", b.clone()));
        let listed = go.run(["endpoints", "list", "service"]).await?;
        let listed: Value = serde_json::from_str(&listed[0]).unwrap();
        assert_eq!(listed, json!({"service/a": a, "service/b": b}));
        let stored = etcdctl.run(["get", "service/b", "--print-value-only"]).await?;
        assert_eq!(stored, format!("{{\"Op\":0,\"Addr\":\"10.0.0.2:1\",\"Metadata\":{metadata}}}\n"));

        go.run(["endpoints", "delete", "service", "service/a"]).await?;
        let gone = json!({"key": "service/a", "addr": "", "metadata": null});
        assert_eq!(json_line(&mut watch).await?, update("delete", gone));
        assert_eq!(watch.end().await?, Vec::<String>::new());
    }
    Ok(())
}

#[tokio::test]
async fn a_command_that_fails_is_an_error_with_what_it_wrote() -> Result {
    let (_server, go) = servers().await?.remove(0);
    for (command, reason) in [
        (&["endpoints", "add", "service", "elsewhere/a", "10.0.0.1:1"][..], "should be prefixed with"),
        (&["endpoints", "list"], "usage: interop --endpoint URL endpoints list TARGET"),
        (&["steal", "name"], "there is no command `steal`"),
        (&["lock", "name", "--ttl", "long"], "invalid value"),
    ] {
        let error = go.run(command).await.unwrap_err();
        assert!(matches!(error, HarnessError::GoFailed { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    Ok(())
}
