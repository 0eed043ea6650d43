//! The machine's common budget (`Config::total_buffer_bytes`) bounds the memory of the client's process.
//!
//! The client runs in a process of its own, so that neither the server nor the writers count. The base is measured
//! when all watches are open and nothing waits; what the process grows by beyond that is held to the bound, at its
//! peak as well as in the end.
//!
//! Two figures are taken. The bytes that the process has allocated are what the client is answerable for: at most
//! 1.25 times the budget. The resident memory also has what the system's allocator keeps of freed memory, and what
//! it loses between blocks: at most 1.5 times the budget.

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
use etcd_watch_tokio::{Client, Delete, Put};
use peak_alloc::PeakAlloc;

use crate::{
    client::{Command, Keys},
    process::{ClientProcess, Figures},
};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;

/// For a whole step.
const DEADLINE: Duration = Duration::from_secs(240);

async fn serve(version: EtcdVersion) -> (EtcdServer, Client) {
    let server = EtcdServer::builder(version)
        .flag("quota-backend-bytes", 8_u64 << 30)
        .flag("unsafe-no-fsync", true)
        .start_async()
        .await
        .expect("etcd starts");
    let writer = Client::connect([server.endpoint()]).await.expect("a client");
    (server, writer)
}

async fn put(writer: &Client, key: String, bytes: usize) -> i64 {
    let put = writer.put(Put::new(key, vec![b'v'; bytes])).await.expect("it is put");
    put.header.expect("etcd sends headers").revision
}

/// One tiny event waits for each of 300 consumers, while another one takes values of 1 MB. Each tiny event comes just
/// before a large one, so that both are received into one buffer.
async fn tiny_events_hold_no_large_buffers(test: &str, version: EtcdVersion) {
    const STALLED: usize = 300;
    const TOTAL: usize = 16 * MIB;
    let (server, writer) = serve(version).await;
    let mut client = ClientProcess::start(test, &server.endpoint(), TOTAL).await;
    client.ask(Command::Watch { keys: Keys::OneEach { prefix: "tiny/".into() }, count: STALLED }).await;
    client.ask(Command::Consume { key: "large".into() }).await;
    let base = client.figures().await;

    for index in 0..STALLED {
        put(&writer, client::key("tiny/", index), 1).await;
        put(&writer, "large".into(), 1_000_000).await;
    }
    let figures = client.until(|figures| figures.consumed == STALLED && figures.waiting == STALLED).await;
    report("300 tiny events beside large ones", &base, &figures, TOTAL);
    assert_eq!(figures.overflows, 0);
    assert_bounded(&base, &figures, TOTAL);
}

/// A response of 1.2 MB comes for each of 1,000 consumers that take nothing.
async fn unread_responses_keep_to_the_budget(test: &str, version: EtcdVersion) {
    const UNREAD: usize = 1_000;
    const TOTAL: usize = 64 * MIB;
    let (server, writer) = serve(version).await;
    let mut client = ClientProcess::start(test, &server.endpoint(), TOTAL).await;
    client.ask(Command::Watch { keys: Keys::Prefix("all/".into()), count: UNREAD }).await;
    let base = client.figures().await;

    let revision = put(&writer, "all/one".into(), 1_200_000).await;
    // Every watch has had its response: it waits, or was dropped for another.
    let figures = client.until(|figures| figures.waiting + figures.overflowed == UNREAD).await;
    report("1,000 unread responses of 1.2 MB", &base, &figures, TOTAL);
    assert_bounded(&base, &figures, TOTAL);
    assert!(figures.queued_bytes > TOTAL / 2, "the budget is made use of: {figures:?}");

    let taken = client.ask(Command::TakeThrough { revision, at_once: false }).await;
    assert_eq!(taken.events, vec![1; UNREAD], "each gets all in the end");
    let figures = client.figures().await;
    report("the same, taken", &base, &figures, TOTAL);
    assert_bounded(&base, &figures, TOTAL);
}

const PARTS: usize = 12;
const PART_BYTES: usize = 256 << 10;

/// Keys of 3 MiB together, whose deletion is one revision that brings all of it as previous values.
async fn fill(writer: &Client) {
    for index in 0..PARTS {
        put(writer, client::key("parts/", index), PART_BYTES).await;
    }
}

/// Each of 100 watches gets a revision of 3 MiB in fragments, and all of them arrive.
async fn fragments_keep_to_the_budget(test: &str, endpoint: &str, writer: &Client) {
    const WATCHES: usize = 100;
    const TOTAL: usize = 16 * MIB;
    let mut client = ClientProcess::start(test, endpoint, TOTAL).await;
    fill(writer).await;
    client.ask(Command::Watch { keys: Keys::Prefix("parts/".into()), count: WATCHES }).await;
    let base = client.figures().await;

    let deleted = writer.delete(Delete::prefix("parts/")).await.expect("they are deleted");
    let revision = deleted.header.expect("etcd sends headers").revision;
    let taken = client.ask(Command::TakeThrough { revision, at_once: true }).await;
    assert_eq!(taken.events, vec![PARTS; WATCHES], "each gets all in the end");
    let figures = client.figures().await;
    report("100 revisions of 3 MiB in fragments", &base, &figures, TOTAL);
    assert_bounded(&base, &figures, TOTAL);
}

async fn fragments_of_etcd_keep_to_the_budget(test: &str, version: EtcdVersion) {
    let server = EtcdServer::builder(version).max_request_bytes(300 << 10);
    let server = server.flag("unsafe-no-fsync", true).start_async().await.expect("etcd starts");
    let writer = Client::connect([server.endpoint()]).await.expect("a client");
    fragments_keep_to_the_budget(test, &server.endpoint(), &writer).await;
}

/// etcd sends the fragments of a response one after the other. Here all watches have incomplete revisions at once.
async fn fragments_that_interleave_keep_to_the_budget(test: &str) {
    let quirks = Quirks { interleave_fragments: true, ..Quirks::default() };
    let model = ModelConfig { fragment_bytes: 800 << 10, quirks, ..ModelConfig::default() };
    let server = EmbeddedEtcd::start(model).await.expect("it starts");
    let writer = Client::connect([server.endpoint()]).await.expect("a client");
    fragments_keep_to_the_budget(test, &server.endpoint(), &writer).await;
}

/// What has been measured, before it is judged.
fn report(what: &str, base: &Figures, figures: &Figures, total: usize) {
    let grown = |now: usize, base: usize| now.saturating_sub(base) as f64 / MIB as f64;
    println!(
        "{what}, budget {} MiB: counted {:.2} MiB; allocated {:.2} MiB, {:.2} at the peak; resident {:.2} MiB, \
         {:.2} at the peak; {} overflows, {} creates",
        total / MIB,
        grown(figures.queued_bytes, 0),
        grown(figures.allocated, base.allocated),
        grown(figures.allocated_peak, base.allocated),
        grown(figures.resident, base.resident),
        grown(figures.resident_peak, base.resident),
        figures.overflows,
        figures.creates,
    );
}

fn assert_bounded(base: &Figures, figures: &Figures, total: usize) {
    let allocated = figures.allocated_peak.saturating_sub(base.allocated);
    assert!(allocated <= total * 5 / 4, "{allocated} bytes allocated at a budget of {total}");
    let resident = figures.resident_peak.saturating_sub(base.resident);
    assert!(resident <= total * 3 / 2, "{resident} bytes resident at a budget of {total}");
}

/// The tests; each is also what the client's process runs, as the client.
macro_rules! measured {
    ($($name:ident => $run:expr;)*) => {$(
        #[test]
        fn $name() {
            process::measured(stringify!($name), $run);
        }
    )*};
}

measured! {
    tiny_events_hold_no_large_buffers_of_3_4 => |test| tiny_events_hold_no_large_buffers(test, EtcdVersion::V3_4);
    tiny_events_hold_no_large_buffers_of_3_5 => |test| tiny_events_hold_no_large_buffers(test, EtcdVersion::V3_5);
    unread_responses_of_3_4_keep_to_the_budget =>
        |test| unread_responses_keep_to_the_budget(test, EtcdVersion::V3_4);
    unread_responses_of_3_5_keep_to_the_budget =>
        |test| unread_responses_keep_to_the_budget(test, EtcdVersion::V3_5);
    fragments_of_3_4_keep_to_the_budget => |test| fragments_of_etcd_keep_to_the_budget(test, EtcdVersion::V3_4);
    fragments_of_3_5_keep_to_the_budget => |test| fragments_of_etcd_keep_to_the_budget(test, EtcdVersion::V3_5);
    fragments_of_many_watches_at_once_keep_to_the_budget => fragments_that_interleave_keep_to_the_budget;
}
