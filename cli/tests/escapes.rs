//! What servers and those who write into them say reaches no terminal as control characters.

#![cfg(unix)]

mod common;

use std::{fs::File, io::Read, net::SocketAddr, process::Stdio};

use common::{PATIENCE, World, output, text, tool_for};
use tokio::{net::TcpListener, process::Command, time::timeout};

/// Red text, a line that looks like the tool's own, and the other form of an escape.
const HOSTILE: &str = "\x1b[31mred\r\nOK\n\u{9b}0m";

/// The same in a refusal that is for good, as gRPC sends it.
const REFUSAL: &str = "unknown service etcdserverpb.%1B[31mred%0D%0AOK%0A%C2%9B0m";

/// An etcd that refuses everything, in its own words.
async fn hostile() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(socket).await else { return };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let refusal = http::Response::builder()
                        .header("content-type", "application/grpc")
                        .header("grpc-status", "12")
                        .header("grpc-message", REFUSAL);
                    // Whoever has gone meanwhile needs none.
                    let _ = respond.send_response(refusal.body(()).expect("a response"), true);
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn the_text_of_a_servers_refusal_is_escaped() {
    let endpoint = hostile().await.to_string();
    for arguments in [
        ["get", "k"].as_slice(),
        &["put", "k", "v"],
        &["del", "k"],
        &["watch", "k"],
        &["mirror", "k"],
        &["lock", "l"],
        &["elect", "e", "me"],
        &["elect", "e", "-l"],
        &["endpoints", "service"],
    ] {
        for log in ["", "debug"] {
            let mut tool = tool_for(&endpoint, arguments);
            tool.env("RUST_LOG", log);
            let refused = output(tool).await;
            let stderr = text(&refused.stderr);
            assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {stderr}");
            // Tasks that end at the same time may log after it.
            let error = stderr.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default();
            assert!(error.contains(r"\u{1b}[31mred\r\nOK\n\u{9b}0m"), "{stderr:?}");
            let raw = stderr.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(raw, None, "{arguments:?}: {stderr:?}");
            assert!(!stderr.lines().any(|line| line.starts_with("OK")), "{stderr:?}");
        }
    }
}

/// What the tool shows on a terminal.
async fn shown(mut tool: Command) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("a terminal");
    let name = ptsname(&terminal, Vec::new()).expect("its name").into_string().expect("text");
    let side = File::options().read(true).write(true).open(name).expect("its other side");
    let mut child = tool.stdout(side).stderr(Stdio::null()).spawn().expect("the tool runs");
    // The command holds its side of the terminal open, as the child does.
    drop(tool);
    let shown = tokio::task::spawn_blocking(move || {
        let mut shown = Vec::new();
        // Its end is an error on Linux.
        let _ = File::from(terminal).read_to_end(&mut shown);
        text(&shown)
    });
    let shown = timeout(PATIENCE, shown).await.expect("its end").expect("what was shown");
    assert!(child.wait().await.expect("a status").success(), "{shown:?}");
    // As terminals end lines.
    shown.replace("\r\n", "\n")
}

#[tokio::test]
async fn keys_and_values_are_escaped_on_a_terminal_and_raw_elsewhere() {
    let world = World::new().await;
    let value = format!("a: 1\n\tb{HOSTILE}");
    world.put(HOSTILE, value.clone());
    let key = r"\x1b[31mred\r\nOK\n\u009b0m";
    // Lines and tabs of a value are kept.
    let escaped = "a: 1\n\tb\\x1b[31mred\\r\nOK\n\\u009b0m";
    let cases: [(&[&str], String, String); 4] = [
        (&["get", "--prefix", ""], format!("{key}\n{escaped}\n"), format!("{HOSTILE}\n{value}\n")),
        (&["get", "--prefix", "", "--print-value-only"], format!("{escaped}\n"), format!("{value}\n")),
        (
            &["watch", "--prefix", "", "--rev", "2", "--until-rev", "2"],
            format!("PUT\n{key}\n{escaped}\n"),
            format!("PUT\n{HOSTILE}\n{value}\n"),
        ),
        (
            &["mirror", "--prefix", "", "--until-rev", "2"],
            format!("listing: 2 (the first list)\nSNAPSHOT\n{key}\n{escaped}\nsynced: 2\n"),
            format!("listing: 2 (the first list)\nSNAPSHOT\n{HOSTILE}\n{value}\nsynced: 2\n"),
        ),
    ];
    for (arguments, on_a_terminal, elsewhere) in cases {
        assert_eq!(shown(world.tool(arguments)).await, on_a_terminal, "{arguments:?}");
        assert_eq!(text(&world.run(arguments).await.stdout), elsewhere, "{arguments:?}");
    }
}

#[tokio::test]
async fn endpoints_of_a_service_are_one_line_each_whoever_registered_them() {
    let world = World::new().await;
    let endpoint = serde_json::json!({ "Op": 0, "Addr": HOSTILE, "Metadata": { "m": HOSTILE } });
    world.put(&format!("service/{HOSTILE}"), endpoint.to_string());
    for format in ["simple", "json"] {
        let listed = world.run(&["endpoints", "service", "-w", format]).await;
        let stdout = text(&listed.stdout);
        assert_eq!(stdout.lines().count(), 1, "{stdout:?}");
        assert!(!stdout.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')), "{stdout:?}");
    }
}
