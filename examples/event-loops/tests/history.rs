//! Both loops on real servers, through a proxy that cuts connections within frames and a restart of the
//! server: what they print is exactly the store's history.

#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "a test says what it has seen")]

mod common;

use std::time::Duration;

use common::{IO_URING, PATIENCE, READINESS, Running, Store};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion, wait_until},
    proxy::{Cut, FaultProxy},
};
use tokio::time::timeout;

/// Revisions written before the loop starts, while connections are cut, and after the restart.
const PHASES: [usize; 3] = [200, 400, 150];
/// Every so many revisions, a transaction over several keys.
const TXN_EVERY: usize = 10;
/// Every so many revisions, a value that is larger than HTTP/2's frames. Those after the restart come on one
/// connection, and are together more than the stream's flow-control window.
const LARGE_EVERY: usize = 12;
const LARGE: usize = 300 << 10;
/// After how many bytes connections are cut: within the connection's first frames, within a prefix or a
/// message, and within a large one.
const CUTS: [u64; 8] = [40, 300, 1_001, 5_003, 20_011, 60_013, 150_001, 300_007];

/// Less than the loops' shortest timeout once they watch.
const AT_ONCE: Duration = Duration::from_secs(5);

/// How many events a phase's revisions have.
fn events(revisions: usize) -> usize {
    (0..revisions).map(|index| if index % TXN_EVERY == 0 { 3 } else { 1 }).sum()
}

async fn write(store: &mut Store, phase: usize, revisions: std::ops::Range<usize>) {
    let large = "x".repeat(LARGE);
    for index in revisions {
        let (key, other) = (format!("k/{phase}/{index}"), format!("k/{phase}/{index}/other"));
        let value = format!("value {index}");
        if index % TXN_EVERY == 0 {
            let same = "k/same";
            store.txn(&[(&key, Some(&value)), (&other, Some("")), (same, Some(&value))]).await;
        } else if index % TXN_EVERY == 1 {
            store.delete(&format!("k/{phase}/{}", index - 1)).await;
        } else if index % LARGE_EVERY == 2 {
            store.put(&key, &large).await;
        } else {
            store.put(&key, &value).await;
        }
    }
}

async fn prints_exactly_the_history(program: &str, version: EtcdVersion) {
    let mut server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
    let proxy = FaultProxy::start(server.endpoint()).await.expect("the proxy starts");
    let mut store = Store::of(&server).await;
    let [before, during, after] = PHASES;
    write(&mut store, 0, 0..before).await;

    let count = PHASES.map(events).iter().sum::<usize>();
    let arguments = [&proxy.endpoint()[..], "k/", "--rev", "1", "--events", &count.to_string()];
    let mut running = Running::start(program, &arguments);
    let mut printed = vec![running.line().await.expect("a line")];
    let reading = tokio::spawn(running.end());

    let share = during / CUTS.len();
    for (number, bytes) in CUTS.into_iter().enumerate() {
        let cuts = proxy.cuts();
        proxy.cut_next_after_bytes(bytes, if number % 2 == 0 { Cut::Reset } else { Cut::Close });
        write(&mut store, 1, number * share..(number + 1) * share).await;
        // What has been written by now is more than that.
        wait_until("the connection is cut", PATIENCE, || proxy.cuts() > cuts).await;
    }
    server.kill();
    server.restart_async().await.expect("etcd starts again");
    let mut rewritten = Store::of(&server).await;
    write(&mut rewritten, 2, 0..after).await;
    store.history.append(&mut rewritten.history);

    let (status, rest, said) = reading.await.expect("it is read");
    printed.extend(rest);
    println!("{} events through {} cuts and a restart; it said:\n{said}", printed.len(), proxy.cuts());
    assert!(status.success(), "{status}");
    let difference = printed.iter().zip(&store.history).find(|(printed, written)| printed != written);
    assert_eq!(difference, None);
    assert_eq!((printed.len(), store.history.len()), (count, count));
    assert!(proxy.cuts() >= CUTS.len() as u64, "only {} cuts", proxy.cuts());
}

async fn fails_over_and_notices_a_dead_connection(program: &str) {
    let server = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let mut store = Store::of(&server).await;
    let one = FaultProxy::start(server.endpoint()).await.expect("a proxy starts");
    let other = FaultProxy::start(server.endpoint()).await.expect("a proxy starts");
    let endpoints = format!("{},{}", one.endpoint(), other.endpoint());
    let mut running = Running::start(program, &[&endpoints, "k/"]);
    let watching = || server.watcher_count().is_ok_and(|count| count > 0);
    wait_until("it watches from now on", PATIENCE, watching).await;
    store.put("k/a", "by the first").await;
    assert_eq!(running.line().await.as_ref(), store.history.last());
    assert_eq!(other.accepted(), 0);

    one.refuse();
    one.cut_all(Cut::Reset);
    store.put("k/b", "by the other").await;
    assert_eq!(running.line().await.as_ref(), store.history.last());
    assert!(other.accepted() > 0);

    // Nothing says that this connection is dead but that its pings aren't answered.
    one.restore();
    other.black_hole();
    store.put("k/c", "by the first again").await;
    assert_eq!(running.line().await.as_ref(), store.history.last());

    other.restore();
    running.close_stdin();
    let (status, rest, said) = running.end().await;
    assert!(status.success(), "{status}: {said}");
    assert_eq!(rest, [""; 0]);
    assert!(said.contains("no answer to a ping"), "{said}");
}

/// Again and again, since what has to be noticed comes at another moment each time.
async fn ends_when_its_standard_input_is_closed(program: &str) {
    let server = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let mut store = Store::of(&server).await;
    for round in 0..20 {
        let mut running = Running::start(program, &[&server.endpoint(), "k/"]);
        let watching = || server.watcher_count().is_ok_and(|count| count > 0);
        wait_until("it watches", PATIENCE, watching).await;
        store.put("k/a", &round.to_string()).await;
        assert_eq!(running.line().await.as_ref(), store.history.last());
        running.close_stdin();
        // Before a ping, or any other timeout, can wake it.
        let (status, rest, said) = timeout(AT_ONCE, running.end()).await.expect("it ends at once");
        assert!(status.success(), "{status}: {said}");
        assert_eq!(rest, [""; 0]);
        let gone = || server.watcher_count().is_ok_and(|count| count == 0);
        wait_until("its watch is gone", PATIENCE, gone).await;
    }
}

async fn says_that_history_is_compacted(program: &str) {
    let server = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let mut store = Store::of(&server).await;
    for index in 0..5 {
        store.put("k/a", &index.to_string()).await;
    }
    let last = store.delete("k/a").await;
    store.compact(last).await;
    let running = Running::start(program, &[&server.endpoint(), "k/", "--rev", "2"]);
    let (status, printed, said) = running.end().await;
    assert!(!status.success());
    assert_eq!(printed, [""; 0]);
    assert!(said.contains(&format!("compact_revision: {last}")), "{said}");
}

macro_rules! tests {
    ($($name:ident: $scenario:ident($($argument:expr),*);)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $scenario($($argument),*).await;
        }
    )*};
}

tests! {
    the_readiness_loop_prints_exactly_the_history_of_etcd_3_5:
        prints_exactly_the_history(READINESS, EtcdVersion::V3_5);
    the_readiness_loop_prints_exactly_the_history_of_etcd_3_4:
        prints_exactly_the_history(READINESS, EtcdVersion::V3_4);
    the_io_uring_loop_prints_exactly_the_history_of_etcd_3_5:
        prints_exactly_the_history(IO_URING, EtcdVersion::V3_5);
    the_io_uring_loop_prints_exactly_the_history_of_etcd_3_4:
        prints_exactly_the_history(IO_URING, EtcdVersion::V3_4);
    the_readiness_loop_fails_over_and_notices_a_dead_connection:
        fails_over_and_notices_a_dead_connection(READINESS);
    the_io_uring_loop_fails_over_and_notices_a_dead_connection:
        fails_over_and_notices_a_dead_connection(IO_URING);
    the_readiness_loop_ends_when_its_standard_input_is_closed:
        ends_when_its_standard_input_is_closed(READINESS);
    the_io_uring_loop_ends_when_its_standard_input_is_closed:
        ends_when_its_standard_input_is_closed(IO_URING);
    the_readiness_loop_says_that_history_is_compacted: says_that_history_is_compacted(READINESS);
    the_io_uring_loop_says_that_history_is_compacted: says_that_history_is_compacted(IO_URING);
}
