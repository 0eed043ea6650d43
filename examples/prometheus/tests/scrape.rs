//! The program as a process, on an embedded etcd: what Prometheus would read from it.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::{net::TcpListener, path::Path};

use common::{Program, Store, lines_of_code};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_etcd-watch-prometheus");

/// Reads the metrics by HTTP.
async fn scrape(address: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("it is served");
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("it is asked");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("it answers");
    answer
}

#[tokio::test]
async fn metrics_are_served_with_histograms_of_calls() {
    let store = Store::start("etcd").await;
    let address =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").to_string();
    let mut program = Program::start(PROGRAM, &store.endpoint(), Path::new(&address));
    program.until("metrics are served").await;
    let answer = scrape(&address).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for line in [
        "# TYPE rpc_client_call_duration_seconds histogram",
        "# TYPE etcd_watch_watches gauge",
        r#"etcd_watch_cache_keys{cache="users"} 0"#,
        r#"etcd_watch_sessions{client="shop"} 1"#,
        r#"etcd_watch_leases_kept{client="shop"} 1"#,
    ] {
        assert!(answer.lines().any(|served| served == line), "{line}: {answer}");
    }
    let grant = r#"rpc_method="etcdserverpb.Lease/LeaseGrant",rpc_status_code="OK""#;
    assert!(answer.lines().any(|line| line.contains("_bucket{") && line.contains(grant)), "{answer}");
}

#[test]
fn the_program_has_no_more_than_25_lines() {
    let programs = lines_of_code(&["src"]);
    assert!(programs.len() == 1 && programs[0].1 <= 25, "{programs:?}");
}
