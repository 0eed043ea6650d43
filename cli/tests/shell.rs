//! Signals, as a shell sees them: bash ends its loop only for a command that has ended by the signal.

#![cfg(unix)]

mod common;

use common::{Running, World, signal_of};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

/// Runs the tool again and again in a shell with a process group of its own, as on a terminal.
fn looping(world: &World, arguments: &[&str]) -> Running {
    let mut shell = Command::new("bash");
    shell.args([
        "-c",
        r#"while true; do "$0" "$@"; echo "status $?"; done"#,
        env!("CARGO_BIN_EXE_etcd-watch"),
    ]);
    shell.args(arguments).env("ETCDCTL_ENDPOINTS", world.etcd.endpoint());
    shell.stdin(std::process::Stdio::null()).process_group(0).kill_on_drop(true);
    Running::start(shell)
}

fn signal_all(shell: &Running, signal: Signal) {
    let group = shell.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    kill_process_group(group.expect("it runs"), signal).expect("a signal");
}

#[tokio::test]
async fn ctrl_c_leaves_a_shells_loop_whatever_the_command() {
    let world = World::new().await;
    world.put("k", "v");
    let script = "echo up; exec sleep 600";
    let cases: [(&[&str], &str); 7] = [
        (&["watch", "k", "--rev", "1"], "v"),
        (&["watch", "k", "--rev", "1", "--", "sh", "-c", script], "up"),
        (&["mirror", "k"], "synced: "),
        (&["lock", "l"], "l/"),
        (&["lock", "m", "--", "sh", "-c", script], "up"),
        (&["elect", "e", "me"], "me"),
        (&["endpoints", "service", "--watch"], "synced: "),
    ];
    for (arguments, last) in cases {
        let mut shell = looping(&world, arguments);
        while !shell.line().await.starts_with(last) {}
        signal_all(&shell, Signal::INT);
        let (status, lines, stderr) = shell.end().await;
        assert_eq!(signal_of(status), Some(Signal::INT), "{arguments:?}: {lines:?} {stderr}");
        assert!(!lines.iter().any(|line| line.starts_with("status")), "{arguments:?}: {lines:?}");
        assert_eq!(stderr, "", "{arguments:?}");
    }
    world.until_watchers(0).await;
}

#[tokio::test]
async fn a_shell_tells_130_for_ctrl_c_and_143_for_sigterm() {
    let world = World::new().await;
    world.put("k", "v");
    for (signal, status) in [("INT", "130"), ("TERM", "143")] {
        // A background command of a shell without job control ignores Ctrl-C unless it handles it.
        let script = format!(
            r#""$0" watch k --rev 1 > "$1" & while ! [ -s "$1" ]; do sleep 0.02; done; kill -{signal} $!; wait $!; echo $?"#
        );
        let directory = tempfile::tempdir().expect("a directory");
        let mut shell = Command::new("bash");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_etcd-watch")]).arg(directory.path().join("out"));
        shell.env("ETCDCTL_ENDPOINTS", world.etcd.endpoint());
        let ran = common::output(shell).await;
        assert_eq!(common::text(&ran.stdout).trim(), status, "{ran:?}");
    }
}
