//! A short soak: on a small load, with every kind of fault.

#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "what was done is of interest where it failed")]

use std::{fs, path::Path, time::Duration};

use etcd_watch_soak::{Report, Sabotage, Settings, run};
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
    assert!(report.calls.writes > 0 && report.calls.reads > 0 && report.calls.unknown > 0);
    assert!(report.delivered > 0 && report.watches.events > 0 && report.replicas_compared > 0);
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path().join("soak.svg");
    fs::write(&path, report.svg()).expect("the plot is written");
    let written = fs::read_to_string(path).expect("it is there");
    assert!(written.starts_with("<svg ") && written.contains("under fire"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_lost_is_found_and_what_tells_of_it_is_kept() {
    let settings = Settings::new(EtcdVersion::V3_5, DURATION, SEED).light();
    let report = soak(Settings { sabotage: Some(Sabotage::DropEvent(500)), ..settings }).await;
    assert!(!report.is_flawless());
    let transcript = fs::read_to_string(&report.kept[0]).expect("the transcript is kept");
    assert!(transcript.contains("FOUND watch ") && transcript.contains("the store's: "), "{transcript}");
    let directories = report.kept[1..].iter().map(Path::new).chain(Path::new(&report.kept[0]).parent());
    for directory in directories {
        fs::remove_dir_all(directory).expect("it is kept");
    }
    assert_eq!(report.kept.len(), 4, "the transcript, and a directory for each member");
}
