//! Short soaks: on a small load, with every kind of fault.

#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "what was done is of interest where it failed")]

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use etcd_watch_soak::{Fault, Report, Sabotage, Settings, run};
use etcd_watch_testkit::harness::EtcdVersion;
use tokio::sync::watch;

const SEED: u64 = 20;
/// Faults go on until every kind has been used; this is for when that takes no time.
const DURATION: Duration = Duration::from_secs(15);

/// What changes who the members are takes some ten seconds each time, and what changes their version twice as long.
const MEMBERS: [Fault; 2] = [Fault::Exchange, Fault::Replace];
const VERSIONS: [Fault; 2] = [Fault::Upgrade, Fault::Downgrade];
/// What needs a network or mounts of the process's own, which a test is not to make for itself.
const APART: [Fault; 2] = [Fault::Loss, Fault::DiskFull];

async fn soak(settings: Settings) -> Report {
    let (_stop, stopped) = watch::channel(false);
    let report = run(settings, stopped).await.expect("it can be done");
    println!("{report}");
    report
}

fn remove(report: &Report) {
    let directories = report.kept[1..].iter().map(Path::new).chain(Path::new(&report.kept[0]).parent());
    for directory in directories {
        fs::remove_dir_all(directory).expect("it is kept");
    }
    assert!(report.kept.len() >= 4, "the transcript, and a directory for each member");
}

fn assert_all_used(report: &Report) {
    assert!(report.is_flawless());
    for (fault, count) in report.faults_by_kind() {
        assert!(count > 0, "{fault} was not used");
    }
    // Others need rights that a test may not have; the report names them.
    let needs_rights = |fault: &Fault| APART.contains(fault) || *fault == Fault::OtherClock;
    assert!(report.unavailable.keys().all(needs_rights), "{:?}", report.unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_soak_breaks_no_promise() {
    let settings = Settings::new(EtcdVersion::V3_5, DURATION, SEED).light();
    let is_quick = |fault: &Fault| ![MEMBERS, VERSIONS, APART].concat().contains(fault);
    let faults = settings.faults.iter().copied().filter(is_quick).collect();
    let report = soak(Settings { faults, ..settings }).await;
    assert_all_used(&report);
    assert!(report.calls.writes > 0 && report.calls.reads > 0 && report.calls.unknown > 0);
    assert!(report.delivered > 0 && report.watches.events > 0 && report.replicas_compared > 0);
    let contended = report.contended;
    assert!(contended.locks > 0 && contended.terms > 0 && contended.writes > 0 && contended.seen > 0);
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path().join("soak.svg");
    fs::write(&path, report.svg()).expect("the plot is written");
    let written = fs::read_to_string(path).expect("it is there");
    assert!(written.starts_with("<svg ") && written.contains("under fire"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_come_and_go_break_no_promise() {
    let settings = Settings::new(EtcdVersion::V3_7, Duration::ZERO, SEED).light();
    let faults = [MEMBERS, APART].concat();
    let report = soak(Settings { faults, ..settings }).await;
    assert_all_used(&report);
    let told = report.to_string();
    for fault in APART {
        assert!(told.contains(&format!("NOT USED      {fault}, ")), "{told}");
    }
}

/// It takes long, and `.config/nextest.toml` leaves it to the night.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_change_their_version_break_no_promise() {
    for version in [EtcdVersion::V3_5, EtcdVersion::V3_7] {
        let settings = Settings::new(version, Duration::ZERO, SEED).light();
        let report =
            soak(Settings { faults: [VERSIONS, [Fault::Kill, Fault::Restore]].concat(), ..settings }).await;
        assert_all_used(&report);
    }
}

#[test]
fn a_process_apart_loses_packets_and_space() {
    let since = Instant::now();
    let faults = APART.map(|fault| fault.to_string()).join(",");
    let version = EtcdVersion::V3_5.find().expect("it is on this machine").version.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_etcd-watch-soak"))
        .args(["--light", "--minutes", "0", "--seed", "20", "--faults", &faults, "--version", &version])
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}\n{}\n{:?}", String::from_utf8_lossy(&output.stderr), since.elapsed());
    assert!(output.status.success() && told.contains("Nothing was lost"));
    for fault in APART {
        let is_used = told.contains(&format!("{fault} 1"));
        assert!(is_used || told.contains(&format!("NOT USED      {fault}, ")), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_lost_is_found_and_what_tells_of_it_is_kept() {
    let settings = Settings::new(EtcdVersion::V3_5, DURATION, SEED).light();
    let report = soak(Settings { sabotage: Some(Sabotage::DropEvent(500)), ..settings }).await;
    assert!(!report.is_flawless());
    let transcript = fs::read_to_string(&report.kept[0]).expect("the transcript is kept");
    assert!(transcript.contains("FOUND watch ") && transcript.contains("the store's: "), "{transcript}");
    remove(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contenders_that_cheat_are_found() {
    for (sabotage, found) in [
        (Sabotage::WriteUnfenced, "wrote fenced/lock at revision"),
        (Sabotage::JumpQueue, "wrote fenced/lock at revision"),
        (Sabotage::Believe, "it believes in its turn"),
        (Sabotage::MissLeader(5), "it was not told of "),
    ] {
        let settings = Settings::new(EtcdVersion::V3_5, DURATION, SEED).light();
        let report = soak(Settings { sabotage: Some(sabotage), faults: vec![Fault::Cut], ..settings }).await;
        let is_found = report.findings.iter().any(|finding| finding.to_string().contains(found));
        assert!(is_found, "{sabotage:?}: {:?}", report.findings);
        remove(&report);
    }
}
