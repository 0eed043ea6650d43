//! `etcd-watch demo`.

#![cfg(feature = "demo")]

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
    for flaw in ["lost", "duplicated", "reordered", "split", "early", "wrong"] {
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
    assert_eq!(common::signal_of(status), Some(rustix::process::Signal::INT), "{lines:?} {stderr}");
    assert_eq!(result(&lines.join("\n"))["ok"], true);
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_the_demo_redraws_in_place() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::io::Read;

    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("a terminal");
    let name = ptsname(&terminal, Vec::new()).expect("its name").into_string().expect("its name");
    let side = std::fs::File::options().read(true).write(true).open(name).expect("its other side");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_etcd-watch"))
        .args(["demo", "--seconds", "1", "--seed", "1"])
        .stdout(side.try_clone().expect("another handle"))
        .stderr(side)
        .spawn()
        .expect("the tool runs");
    let mut shown = Vec::new();
    // Its end is an error on Linux.
    let _ = std::fs::File::from(terminal).read_to_end(&mut shown);
    assert!(child.wait().expect("a status").success(), "{}", text(&shown));
    let shown = text(&shown);
    assert!(shown.contains("\x1b[11A") && shown.contains("slow consumer"), "{shown}");
    assert!(shown.contains("Every watch received exactly"), "{shown}");
}

#[tokio::test]
async fn a_demo_of_no_time_is_refused() {
    let refused = output(bare(&["demo", "--seconds", "0"])).await;
    assert!(!refused.status.success() && text(&refused.stderr).contains("--seconds"), "{refused:?}");
}
