//! The machine's common budget (`WatchConfig::total_buffer_bytes`) bounds the memory of the client's process.
//!
//! The client runs in a process of its own, so that neither the server nor the writers count. The base is measured
//! when all watches are open and nothing waits; what the process grows by beyond that is held to the bound, at its
//! peak as well as in the end.
//!
//! Two figures are taken, each at its peak. The bytes that the process has allocated are what the client is
//! answerable for: at most 1.25 times the budget. The resident memory has besides what the system's allocator keeps of
//! freed memory. glibc's starts to keep large blocks once one has been freed, for each of its arenas, unless its
//! thresholds are fixed. So each case is run with fixed ones, where the resident memory is held to the same factor,
//! and on one version of etcd with glibc as it comes, too, where the factor is 1.75. Resident memory also has, whatever the budget, the
//! program's pages that are touched for the first time and what is under way: [`UNDER_WAY`].

#![cfg(unix)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the figures are what one runs it for")]

mod client;
mod process;

use std::time::Duration;

use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion},
    model::{ModelConfig, Quirks},
    server::EmbeddedEtcd,
};
use etcd_watch_tokio::{Client, Delete, Put, Txn};
use peak_alloc::PeakAlloc;

use crate::{
    client::{Command, Keys},
    process::{Case, ClientProcess, Figures, Malloc, measured},
};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;

/// A stream's HTTP/2 window (2 MiB) is full, and a response or two are being put together and decoded.
const UNDER_WAY: usize = 4 * MIB;

/// What the client may allocate beyond what it counts when little is under way: cancels to be sent, say.
const AT_REST: usize = 256 << 10;

/// For a whole step.
const DEADLINE: Duration = Duration::from_secs(240);

async fn serve(version: EtcdVersion) -> (EtcdServer, Client) {
    let server = EtcdServer::builder(version)
        .flag("quota-backend-bytes", 8_u64 << 30)
        .flag("unsafe-no-fsync", true)
        .start_async()
        .await
        .expect("etcd starts");
    let writer = etcd_watch_tokio::connect([server.endpoint()]).await.expect("a client");
    (server, writer)
}

async fn put(writer: &Client, key: String, bytes: usize) -> i64 {
    let put = writer.put(key, vec![b'v'; bytes]).await.expect("it is put");
    put.revision()
}

/// One tiny event waits for each of 300 consumers, while another one takes values of 1 MB. Each tiny event comes with a
/// large one of the same revision, so that both are received into one buffer.
async fn tiny_events_hold_no_large_buffers(case: Case, version: EtcdVersion) {
    const STALLED: usize = 300;
    const TOTAL: usize = 16 * MIB;
    let (server, writer) = serve(version).await;
    let mut client = ClientProcess::start(case, &server.endpoint(), TOTAL).await;
    client.ask(Command::Watch { keys: Keys::OneEach { prefix: "tiny/".into() }, count: STALLED }).await;
    client.ask(Command::Consume { key: "large".into() }).await;
    let base = client.figures().await;

    for index in 0..STALLED {
        let puts = Txn::new()
            .and_then(Put::new(client::key("tiny/", index), "v"))
            .and_then(Put::new("large", vec![b'v'; 1_000_000]));
        writer.txn(puts).await.expect("the transaction is made");
    }
    let figures = client.until(|figures| figures.consumed == STALLED && figures.waiting == STALLED).await;
    judge("300 tiny events beside large ones", case.malloc, &base, &figures, TOTAL);
    assert_eq!(figures.overflows, 0);
}

/// A response of 1.2 MB comes for each of 1,000 consumers that take nothing.
async fn unread_responses_keep_to_the_budget(case: Case, version: EtcdVersion) {
    const UNREAD: usize = 1_000;
    const TOTAL: usize = 64 * MIB;
    let (server, writer) = serve(version).await;
    let mut client = ClientProcess::start(case, &server.endpoint(), TOTAL).await;
    client.ask(Command::Watch { keys: Keys::Prefix("all/".into()), count: UNREAD }).await;
    let base = client.figures().await;

    let revision = put(&writer, "all/one".into(), 1_200_000).await;
    // Every watch has had its response: it waits, or was dropped for another.
    let figures = client.until(|figures| figures.waiting + figures.overflowed == UNREAD).await;
    judge("1,000 unread responses of 1.2 MB", case.malloc, &base, &figures, TOTAL);
    assert!(figures.queued_bytes > TOTAL / 2, "the budget is made use of: {figures:?}");

    let taken = client.ask(Command::TakeThrough { revision, at_once: UNREAD / 10 }).await;
    assert_eq!(taken.events, vec![1; UNREAD], "each gets all in the end");
    let figures = client.figures().await;
    judge("the same, taken", case.malloc, &base, &figures, TOTAL);
}

const PARTS: usize = 12;
const PART_BYTES: usize = 256 << 10;

/// Keys of 3 MiB together, whose deletion is one revision that brings all of it as previous values.
async fn fill(writer: &Client) {
    for index in 0..PARTS {
        put(writer, client::key("parts/", index), PART_BYTES).await;
    }
}

/// A revision of 3 MiB comes in fragments for each of 100 consumers, which take nothing until the budget is full.
async fn fragments_keep_to_the_budget(case: Case, endpoint: &str, writer: &Client) {
    const WATCHES: usize = 100;
    const TOTAL: usize = 16 * MIB;
    let mut client = ClientProcess::start(case, endpoint, TOTAL).await;
    fill(writer).await;
    client.ask(Command::Watch { keys: Keys::Prefix("parts/".into()), count: WATCHES }).await;
    let base = client.figures().await;

    let deleted = writer.delete(Delete::prefix("parts/")).await.expect("they are deleted");
    let revision = deleted.revision();
    let figures = client.until(|figures| figures.waiting + figures.overflowed == WATCHES).await;
    judge("100 unread revisions of 3 MiB in fragments", case.malloc, &base, &figures, TOTAL);

    let taken = client.ask(Command::TakeThrough { revision, at_once: WATCHES }).await;
    assert_eq!(taken.events, vec![PARTS; WATCHES], "each gets all in the end");
    let figures = client.figures().await;
    judge("the same, taken", case.malloc, &base, &figures, TOTAL);
}

async fn fragments_of_etcd_keep_to_the_budget(case: Case, version: EtcdVersion) {
    let server = EtcdServer::builder(version).max_request_bytes(300 << 10);
    let server = server.flag("unsafe-no-fsync", true).start_async().await.expect("etcd starts");
    let writer = etcd_watch_tokio::connect([server.endpoint()]).await.expect("a client");
    fragments_keep_to_the_budget(case, &server.endpoint(), &writer).await;
}

/// etcd sends the fragments of a response one after the other. Here all watches have incomplete revisions at once.
async fn fragments_that_interleave_keep_to_the_budget(case: Case) {
    let quirks = Quirks { interleave_fragments: true, ..Quirks::default() };
    let model = ModelConfig { fragment_bytes: 400 << 10, quirks, ..ModelConfig::default() };
    let server = EmbeddedEtcd::start(model).await.expect("it starts");
    let writer = etcd_watch_tokio::connect([server.endpoint()]).await.expect("a client");
    fragments_keep_to_the_budget(case, &server.endpoint(), &writer).await;
}

/// Prints what has been measured, and holds it to the bounds.
fn judge(what: &str, malloc: Malloc, base: &Figures, figures: &Figures, total: usize) {
    let allocated = figures.allocated_peak.saturating_sub(base.allocated);
    let allocated_now = figures.allocated.saturating_sub(base.allocated);
    let resident = figures.resident_peak.saturating_sub(base.resident);
    let resident_now = figures.resident.saturating_sub(base.resident);
    println!(
        "{what}, budget {}, {malloc:?}: counted {}; allocated {} at the peak, {} now; resident {} at the peak, {} now; \
         {} overflows, {} creates",
        mebibytes(total),
        mebibytes(figures.queued_bytes),
        mebibytes(allocated),
        mebibytes(allocated_now),
        mebibytes(resident),
        mebibytes(resident_now),
        figures.overflows,
        figures.creates,
    );
    assert!(allocated_now <= figures.queued_bytes + AT_REST, "{allocated_now} bytes allocated: {figures:?}");
    assert!(allocated <= total * 5 / 4, "{allocated} bytes allocated at a budget of {total}");
    let factor_in_quarters = match malloc {
        Malloc::FixedThresholds => 5,
        Malloc::AsItComes => 7,
    };
    let allowed = total * factor_in_quarters / 4 + UNDER_WAY;
    assert!(resident <= allowed, "{resident} bytes resident at a budget of {total}");
}

fn mebibytes(bytes: usize) -> String {
    let hundredths = bytes * 100 / MIB;
    format!("{}.{:02} MiB", hundredths / 100, hundredths % 100)
}

// Each is also what the client's process runs, which finds the test by its name.

#[test]
fn tiny_events_hold_no_large_buffers_of_3_4() {
    let run = |case| tiny_events_hold_no_large_buffers(case, EtcdVersion::V3_4);
    measured("tiny_events_hold_no_large_buffers_of_3_4", &[Malloc::FixedThresholds], run);
}

#[test]
fn tiny_events_hold_no_large_buffers_of_3_5() {
    let run = |case| tiny_events_hold_no_large_buffers(case, EtcdVersion::V3_5);
    measured("tiny_events_hold_no_large_buffers_of_3_5", &Malloc::ALL, run);
}

#[test]
fn unread_responses_of_3_4_keep_to_the_budget() {
    let run = |case| unread_responses_keep_to_the_budget(case, EtcdVersion::V3_4);
    measured("unread_responses_of_3_4_keep_to_the_budget", &[Malloc::FixedThresholds], run);
}

#[test]
fn unread_responses_of_3_5_keep_to_the_budget() {
    let run = |case| unread_responses_keep_to_the_budget(case, EtcdVersion::V3_5);
    measured("unread_responses_of_3_5_keep_to_the_budget", &Malloc::ALL, run);
}

#[test]
fn fragments_of_3_4_keep_to_the_budget() {
    let run = |case| fragments_of_etcd_keep_to_the_budget(case, EtcdVersion::V3_4);
    measured("fragments_of_3_4_keep_to_the_budget", &[Malloc::FixedThresholds], run);
}

#[test]
fn fragments_of_3_5_keep_to_the_budget() {
    let run = |case| fragments_of_etcd_keep_to_the_budget(case, EtcdVersion::V3_5);
    measured("fragments_of_3_5_keep_to_the_budget", &Malloc::ALL, run);
}

#[test]
fn fragments_of_many_watches_at_once_keep_to_the_budget() {
    let run = fragments_that_interleave_keep_to_the_budget;
    measured("fragments_of_many_watches_at_once_keep_to_the_budget", &Malloc::ALL, run);
}
