//! `etcd-watch demo`.

mod common;

use common::{Running, bare, output, text};
use serde_json::Value;

/// The last line, which is the result.
fn result(stdout: &str) -> Value {
    serde_json::from_str(stdout.lines().last().expect("a line")).expect("a JSON object")
}

#[tokio::test]
async fn the_demo_loses_duplicates_reorders_and_splits_nothing() {
    let output = output(bare(&["demo", "--seconds", "3", "--seed", "1", "--json"])).await;
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", text(&output.stderr));
    let result = result(&stdout);
    for flaw in ["lost", "duplicated", "reordered", "split", "wrong"] {
        assert_eq!(result[flaw], 0, "{flaw}: {stdout}");
    }
    assert_eq!((&result["seed"], &result["ok"]), (&1.into(), &true.into()));
    assert_eq!(result["events"], result["expected"]);
    for count in ["events", "cuts", "reconnects", "writes"] {
        assert!(result[count].as_u64() > Some(2), "{count}: {stdout}");
    }
    let watches = result["watches"].as_array().expect("the watches");
    assert_eq!(watches.len(), 8);
    for watch in watches {
        assert!(watch["caught_up"] == true && watch["events"].as_u64() > Some(0), "{watch}");
    }
    assert!(stdout.contains("Every watch received exactly"), "{stdout}");
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupted_demo_still_compares() {
    let mut tool = Running::start(bare(&["demo", "--seconds", "600", "--json"]));
    while !tool.line().await.contains("1.0s") {}
    tool.signal(rustix::process::Signal::INT);
    let (status, lines, stderr) = tool.end().await;
    assert!(status.success(), "{lines:?} {stderr}");
    assert_eq!(result(&lines.join("\n"))["ok"], true);
}
