//! A short soak: on a small load, with every kind of fault.

#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "what was done is of interest where it failed")]

use std::time::Duration;

use etcd_watch_soak::{Report, Settings, run};
use etcd_watch_testkit::harness::EtcdVersion;
use tokio::sync::watch;

const SEED: u64 = 20;
/// Faults go on until every kind has been used; this is for when that takes no time.
const DURATION: Duration = Duration::from_secs(15);

async fn soak(settings: Settings) -> Report {
    let (_stop, stopped) = watch::channel(false);
    let report = run(settings, stopped).await.expect("it can be done");
    println!("{report}");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_soak_breaks_no_promise() {
    let report = soak(Settings::new(EtcdVersion::V3_5, DURATION, SEED).light()).await;
    assert!(report.is_flawless());
    for (fault, count) in report.faults_by_kind() {
        assert!(count > 0, "{fault} was not used");
    }
    assert!(report.delivered > 0 && report.watches.events > 0 && report.replicas_compared > 0);
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path().join("soak.svg");
    std::fs::write(&path, report.svg()).expect("the plot is written");
    let written = std::fs::read_to_string(path).expect("it is there");
    assert!(written.starts_with("<svg ") && written.contains("under fire"));
}
