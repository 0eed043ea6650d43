//! Clients in a process in which no tokio runtime runs, against real servers that are killed under them.

#![cfg(unix)]

mod common;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use common::{DEADLINE, On, SECOND, everything_from, in_time, nothing_is_left_on, revisions_through, serve};
use etcd_watch_smol::{Client, CloseReason, Get, Put};
use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};

/// One test at a time, since each looks at the threads of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads of tokio runtimes; `own` are threads that have to be there, so that names are surely read.
#[cfg(target_os = "linux")]
fn tokios_threads(own: &str) -> Vec<String> {
    let mut threads = common::threads();
    assert!(threads.iter().any(|name| name.starts_with(own)), "{own} in {threads:?}");
    threads.retain(|name| name.starts_with("tokio"));
    threads
}

async fn put(client: &Client, key: &str) -> i64 {
    let put = client.put(key.to_owned(), "value").await.expect("it is put");
    put.revision()
}

/// A watch, keys and a lease go on through kills; then all that there was ends, dropped or closed.
async fn everything_goes_on_through_kills(on: On, server: &mut EtcdServer) {
    // Long enough for a restart between two renewals, on a busy machine, too.
    const TTL: u32 = 12;
    let endpoint = server.endpoint();
    let builder = || on().endpoints([endpoint.clone()]);
    let client = builder().connect_timeout(DEADLINE).connect().await.expect("etcd serves");
    let closed = builder().connect_lazy().expect("valid settings");

    let mut watch = client.watch(everything_from(1)).expect("it is opened");
    let mut closing = closed.watch(everything_from(1)).expect("it is opened");
    let granted = Instant::now();
    let lease = client.lease_grant(TTL * SECOND).await.expect("it is granted");
    let keeper = lease.keep_alive();
    client.put_with(Put::new("leased", "value").lease(lease.id())).await.expect("it is put");
    for round in 0..2 {
        let last = put(&client, &format!("before {round}")).await;
        // In the first round nobody reads: what was on its way is lost with the connection.
        if round == 1 {
            assert_eq!(revisions_through(&mut watch, last).await, (2..=last).collect::<Vec<_>>());
        }
        server.restart().expect("etcd starts again");
    }
    let last = put(&client, "after").await;
    assert_eq!(revisions_through(&mut watch, last).await, [last]);
    assert_eq!(revisions_through(&mut closing, last).await, (2..=last).collect::<Vec<_>>());

    let outlived = (TTL * SECOND + SECOND).saturating_sub(granted.elapsed());
    let runtime = client.runtime().clone();
    let lost = async { Some(keeper.lost().await) };
    let kept = async {
        runtime.sleep(outlived).await;
        None
    };
    assert_eq!(futures_lite::future::or(lost, kept).await, None, "the lease is kept alive");
    assert_eq!(client.get(Get::key("leased")).await.expect("it is read").count(), 1);
    drop(keeper);

    in_time("the client is closed", closed.close()).await;
    let end = in_time("the watch ends", closing.next()).await.expect("it says why");
    assert_eq!(end.expect_err("it ended").reason(), &CloseReason::ShutDown);
    // The watch outlives its client.
    drop(client);
    let writer = builder().connect_lazy().expect("valid settings");
    let previous = last;
    let last = put(&writer, "last").await;
    // The lease may have expired meanwhile.
    assert_eq!(revisions_through(&mut watch, last).await, (previous + 1..=last).collect::<Vec<_>>());
}

fn versions() -> [EtcdVersion; 2] {
    [EtcdVersion::V3_4, EtcdVersion::V3_5]
}

#[test]
fn everything_works_under_smol_alone() {
    let _alone = alone();
    for mut server in versions().map(serve) {
        smol::block_on(everything_goes_on_through_kills(etcd_watch_smol::builder, &mut server));
        #[cfg(target_os = "linux")]
        assert!(tokios_threads("smol-1").is_empty());
        nothing_is_left_on(&server);
    }
}

#[test]
fn everything_works_under_async_std_alone() {
    let _alone = alone();
    for mut server in versions().map(serve) {
        async_std::task::block_on(everything_goes_on_through_kills(
            etcd_watch_smol::async_std::builder,
            &mut server,
        ));
        #[cfg(target_os = "linux")]
        assert!(tokios_threads("async-std/runti").is_empty());
        nothing_is_left_on(&server);
    }
}

#[test]
fn handles_may_be_polled_on_any_executor() {
    fn polled(on: On, server: &EtcdServer) {
        let client = on().endpoints([server.endpoint()]);
        let client = client.connect_lazy().expect("valid settings");
        futures_lite::future::block_on(async {
            let mut watch = client.watch(everything_from(1)).expect("it is opened");
            let last = put(&client, "elsewhere").await;
            assert_eq!(revisions_through(&mut watch, last).await.last(), Some(&last));
        });
    }
    let _alone = alone();
    let server = serve(EtcdVersion::V3_5);
    polled(etcd_watch_smol::builder, &server);
    polled(etcd_watch_smol::async_std::builder, &server);
    nothing_is_left_on(&server);
}

/// Two runtimes in one process have nothing to do with each other.
#[test]
fn clients_of_both_runtimes_live_side_by_side() {
    let _alone = alone();
    let server = serve(EtcdVersion::V3_5);
    smol::block_on(async {
        let ours = etcd_watch_smol::connect([server.endpoint()]).await.expect("a client");
        let theirs = etcd_watch_smol::async_std::connect([server.endpoint()]).await.expect("a client");
        let mut our_watch = ours.watch(everything_from(1)).expect("it is opened");
        let mut their_watch = theirs.watch(everything_from(1)).expect("it is opened");
        put(&ours, "ours").await;
        let last = put(&theirs, "theirs").await;
        assert_eq!(revisions_through(&mut our_watch, last).await, [2, 3]);
        assert_eq!(revisions_through(&mut their_watch, last).await, [2, 3]);
    });
    nothing_is_left_on(&server);
}

#[cfg(target_os = "linux")]
#[test]
fn a_tokio_runtime_would_be_seen() {
    let _alone = alone();
    let tokio = tokio::runtime::Runtime::new().expect("tokio starts");
    let own = tokio.block_on(async { tokio::spawn(async { tokios_threads("tokio") }).await });
    assert!(!own.expect("no panic").is_empty());
}
