//! The harness on real servers: every version under test starts, and does what its handle says.

#![cfg(unix)]

use std::{path::Path, time::Duration};

use etcd_watch_testkit::{
    harness::{
        EtcdServer, EtcdVersion, Etcdctl, HarnessError, binaries::Line, wait_until, wait_until_blocking,
    },
    proxy::{Cut, FaultProxy},
};

type Result<T = ()> = std::result::Result<T, HarnessError>;

const SOON: Duration = Duration::from_secs(60);

fn versions() -> Result<Vec<EtcdVersion>> {
    let versions = EtcdVersion::under_test()?;
    assert!(versions.len() >= 2, "several lines are under test: {versions:?}");
    Ok(versions)
}

#[tokio::test]
async fn etcdctl_puts_and_gets_on_every_version() -> Result {
    for version in versions()? {
        let server = EtcdServer::builder(version.clone()).start_async().await?;
        assert_eq!(server.version(), version.find()?.version);
        let etcdctl = server.etcdctl()?;
        assert_eq!(etcdctl.run(["put", "key", "value"]).await?, "OK\n");
        assert_eq!(etcdctl.run(["get", "key"]).await?, "key\nvalue\n");
        let transaction = "version(\"key\") = \"1\"\n\nput key other\n\n\n";
        let answer = etcdctl.run_with_input(["txn"], transaction).await?;
        assert!(answer.starts_with("SUCCESS"), "{answer}");
        assert_eq!(etcdctl.run(["get", "key", "--print-value-only"]).await?, "other\n");
    }
    Ok(())
}

#[test]
fn the_versions_are_those_of_their_lines() -> Result {
    assert_eq!(EtcdVersion::V3_4.find()?.version.line(), Line::V3_4);
    assert_eq!(EtcdVersion::V3_5.find()?.version.line(), Line::V3_5);
    assert_eq!(EtcdVersion::V3_6.find()?.version.line(), Line::V3_6);
    assert_eq!(EtcdVersion::V3_7.find()?.version.line(), Line::V3_7);
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_kept_leaves_its_data_and_its_log() -> Result {
    let mut server = EtcdServer::builder(EtcdVersion::V3_5).start_async().await?;
    let directory = server.keep().to_owned();
    assert_eq!(server.pid(), None);
    let log = server.log_path().to_owned();
    drop(server);
    assert!(log.starts_with(&directory) && log.exists() && directory.join("data").exists());
    std::fs::remove_dir_all(directory).expect("it is there to be removed");
    Ok(())
}

#[tokio::test]
async fn data_and_ports_outlive_a_kill_a_stop_and_a_restart_of_a_running_server() -> Result {
    for version in versions()? {
        let mut server = EtcdServer::builder(version).start_async().await?;
        let etcdctl = server.etcdctl()?;
        let (endpoint, first) = (server.endpoint(), server.pid());
        etcdctl.run(["put", "key", "value"]).await?;

        server.kill();
        assert_eq!(server.pid(), None);
        assert!(matches!(server.pause(), Err(HarnessError::NotRunning { .. })));
        server.restart_async().await?;
        assert_ne!(server.pid(), first);
        assert_eq!(etcdctl.run(["get", "key", "--print-value-only"]).await?, "value\n");

        server.stop()?;
        assert!(matches!(server.stop(), Err(HarnessError::NotRunning { .. })));
        server.restart()?;
        server.restart()?;
        assert_eq!(etcdctl.run(["get", "key", "--print-value-only"]).await?, "value\n");
        assert_eq!(server.endpoint(), endpoint);
    }
    Ok(())
}

#[tokio::test]
async fn watches_and_their_streams_are_counted() -> Result {
    for version in versions()? {
        let server = EtcdServer::builder(version).start_async().await?;
        let etcdctl = server.etcdctl()?;
        assert_eq!((server.watcher_count()?, server.watch_stream_count()?), (0, 0));

        let mut watch = etcdctl.spawn(["watch", "--prefix", "k"])?;
        wait_until("the watch is there", SOON, || server.watcher_count().is_ok_and(|count| count == 1)).await;
        assert_eq!((server.watch_stream_count()?, server.slow_watcher_count()?), (1, 0));
        etcdctl.run(["put", "k1", "one"]).await?;
        for expected in ["PUT", "k1", "one"] {
            assert_eq!(watch.next_line().await?.as_deref(), Some(expected));
        }
        watch.kill().await?;
        wait_until("the watch is gone", SOON, || server.watcher_count().is_ok_and(|count| count == 0)).await;
        assert!(matches!(server.metric("no_such_metric"), Err(HarnessError::NoMetric { .. })));
    }
    Ok(())
}

#[tokio::test]
async fn a_paused_server_answers_nothing_until_it_is_resumed() -> Result {
    let server = EtcdServer::builder(EtcdVersion::V3_5).start_async().await?;
    let etcdctl = server.etcdctl()?;
    server.pause()?;
    let failed = etcdctl.output(["put", "key", "value", "--command-timeout=300ms"], "").await?;
    assert!(!failed.status.success(), "{failed:?}");
    server.resume()?;
    assert_eq!(etcdctl.run(["put", "key", "value"]).await?, "OK\n");
    Ok(())
}

#[tokio::test]
async fn settings_reach_the_server() -> Result {
    for version in versions()? {
        let server = EtcdServer::builder(version)
            .progress_notify_interval(Duration::from_millis(200))
            .max_request_bytes(1_000)
            .snapshot_count(50)
            .auto_compaction(Duration::from_secs(1))
            .flag("max-txn-ops", 1)
            .start_async()
            .await?;
        let etcdctl = server.etcdctl()?;
        let large = "x".repeat(2_000);
        let failed = etcdctl.run(["put", "key", large.as_str()]).await.unwrap_err().to_string();
        assert!(failed.contains("request is too large"), "{failed}");
        let failed =
            etcdctl.run_with_input(["txn"], "\nput a 1\nput b 2\n\n\n").await.unwrap_err().to_string();
        assert!(failed.contains("too many operations"), "{failed}");

        // 3.4's etcdctl can't ask for it.
        let newer = Etcdctl::new(EtcdVersion::V3_5, server.endpoint())?;
        let mut watch = newer.spawn(["watch", "key", "--progress-notify"])?;
        let line = watch.next_line().await?.unwrap_or_default();
        assert!(line.contains("progress notify"), "{line}");
    }
    Ok(())
}

#[test]
fn a_server_that_can_not_start_is_an_error_that_shows_its_log() {
    let builder = EtcdServer::builder(EtcdVersion::V3_5).flag("no-such-flag", 1);
    let text = builder.start().err().map(|error| format!("{error:?}")).unwrap_or_default();
    assert!(text.contains("ended during its start") && text.contains("no-such-flag"), "{text}");
}

#[test]
fn a_server_that_is_not_ready_in_time_is_an_error() {
    let builder = EtcdServer::builder(EtcdVersion::V3_5).ready_within(Duration::ZERO);
    let error = builder.start().err();
    assert!(matches!(error, Some(HarnessError::NotReady { .. })), "{error:?}");
}

#[test]
fn a_restart_waits_for_its_port_if_somebody_has_taken_it() -> Result {
    let mut server = EtcdServer::builder(EtcdVersion::V3_5).start()?;
    server.kill();
    let squatter = std::net::TcpListener::bind(server.address())
        .map_err(|source| HarnessError::Io { action: "take the port".to_owned(), source })?;
    let log = server.log_path().to_owned();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            wait_until_blocking("a start has failed", SOON, || {
                std::fs::read_to_string(&log).is_ok_and(|log| log.contains("address already in use"))
            });
            drop(squatter);
        });
        server.restart()
    })?;
    assert!(server.pid().is_some());
    Ok(())
}

#[test]
fn nothing_is_left_of_a_server_that_was_dropped() -> Result {
    let server = EtcdServer::builder(EtcdVersion::V3_4).start()?;
    let process = server.pid().map(|pid| format!("/proc/{pid}")).unwrap_or_default();
    let log = server.log_path().to_owned();
    assert!(log.exists() && (cfg!(not(target_os = "linux")) || Path::new(&process).exists()));
    assert_ne!(server.log_tail(1), "");
    drop(server);
    assert!(!Path::new(&process).exists() && !log.exists());
    Ok(())
}

#[tokio::test]
async fn etcdctl_works_through_the_fault_proxy_and_survives_a_cut() -> Result {
    let server = EtcdServer::builder(EtcdVersion::V3_5).start_async().await?;
    let proxy = FaultProxy::start(server.endpoint())
        .await
        .map_err(|source| HarnessError::Io { action: "start a proxy".to_owned(), source })?;
    let through_proxy = Etcdctl::of(server.binary(), proxy.endpoint())?;
    let mut watch = through_proxy.spawn(["watch", "key"])?;
    wait_until("the watch is there", SOON, || server.watcher_count().is_ok_and(|count| count == 1)).await;
    assert_eq!(proxy.cut_all(Cut::Reset), 1);
    wait_until("etcdctl is back", SOON, || {
        proxy.accepted() == 2 && server.watcher_count().is_ok_and(|count| count == 1)
    })
    .await;
    server.etcdctl()?.run(["put", "key", "value"]).await?;
    assert_eq!(watch.next_line().await?.as_deref(), Some("PUT"));
    assert!(proxy.bytes_downstream() > 0);
    Ok(())
}
