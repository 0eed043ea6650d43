//! Clients on an executor that the application runs itself, and without smol's global one.

#![cfg(unix)]

mod common;

use std::{sync::Arc, thread};

use common::{DEADLINE, everything_from, nothing_is_left_on, revisions_through, serve};
use etcd_watch_smol::{Client, ClientBuilder, SmolRuntime};
use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion, wait_until_blocking};
use futures_lite::future::block_on;
use smol::Executor;

fn client_on(executor: &Arc<Executor<'static>>, server: &EtcdServer) -> Client {
    let builder = ClientBuilder::on(SmolRuntime::on(executor.clone())).endpoints([server.endpoint()]);
    builder.connect_lazy().expect("valid settings")
}

async fn put(client: &Client) -> i64 {
    client.put("key", "value").await.expect("it is put").revision()
}

fn smols_own_executor_does_not_run() {
    #[cfg(target_os = "linux")]
    {
        let threads = common::threads();
        assert!(!threads.iter().any(|name| name.starts_with("smol-")), "{threads:?}");
    }
}

#[test]
fn a_thread_of_the_application_runs_all_of_a_client() {
    let mut server = serve(EtcdVersion::V3_5);
    let executor = Arc::new(Executor::new());
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    let running = thread::spawn({
        let executor = executor.clone();
        move || block_on(executor.run(stopped.recv()))
    });
    for ending in ["dropped", "closed"] {
        let client = client_on(&executor, &server);
        let mut watch = client.watch(everything_from(1)).expect("it is opened");
        block_on(async {
            let last = put(&client).await;
            assert_eq!(revisions_through(&mut watch, last).await.last(), Some(&last));
            server.restart().expect("etcd starts again");
            let last = put(&client).await;
            assert_eq!(revisions_through(&mut watch, last).await, [last]);
            #[cfg(target_os = "linux")]
            assert_eq!(
                common::connections_to(server.address().port()),
                2,
                "one for the watch, one for calls"
            );
            if ending == "closed" {
                client.close().await;
            }
        });
        drop(watch);
        drop(client);
        wait_until_blocking(&format!("no task of a client {ending} is left"), DEADLINE, || {
            executor.is_empty()
        });
        nothing_is_left_on(&server);
    }
    smols_own_executor_does_not_run();
    drop(stop);
    let ended = running.join().expect("no panic");
    assert!(ended.is_err(), "it ends since the channel is gone");
    assert_eq!(Arc::strong_count(&executor), 1, "nothing holds the executor any more");
}

#[test]
fn a_client_goes_on_after_its_executor_stood_still() {
    let mut server = serve(EtcdVersion::V3_5);
    let executor = Arc::new(Executor::new());
    let client = client_on(&executor, &server);
    let mut watch = client.watch(everything_from(1)).expect("it is opened");
    // One thread runs it all, and only while there is something to wait for.
    for round in 2..5 {
        let seen = block_on(executor.run(async {
            let last = put(&client).await;
            assert_eq!(last, round);
            revisions_through(&mut watch, last).await
        }));
        assert_eq!(seen, [round]);
        server.restart().expect("etcd starts again");
    }
    drop((watch, client));
    block_on(executor.run(async {
        while !executor.is_empty() {
            futures_lite::future::yield_now().await;
        }
    }));
    nothing_is_left_on(&server);
    smols_own_executor_does_not_run();
}
