//! A tokio runtime that has shut down, under a client that goes on elsewhere: nothing panics, and everything ends.

use std::{
    future::{Future, pending},
    pin::pin,
    sync::{Arc, Barrier, mpsc},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use etcd_watch_testkit::{model::ModelConfig, server::EmbeddedEtcd};
use etcd_watch_tokio::{CallError, ClientBuilder, CloseReason, KeyRange, Peer, Runtime as _, TokioRuntime};
use tokio::runtime::{Builder, Runtime};

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(3_600);

const DEADLINE: Duration = Duration::from_secs(60);

/// One runtime of each kind.
fn both() -> [Runtime; 2] {
    let current_thread = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let threads = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    [current_thread, threads]
}

/// What the future completes with, polled on a thread that no runtime is on.
fn elsewhere<T>(mut future: impl Future<Output = T> + Unpin) -> T {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..DEADLINE.as_millis() {
        if let Poll::Ready(output) = pin!(&mut future).poll(&mut cx) {
            return output;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("it never completes")
}

#[test]
fn a_sleep_completes_when_its_runtime_shuts_down_and_at_once_afterwards() {
    for tokio in both() {
        let runtime = TokioRuntime::new(tokio.handle().clone());
        let mut polled = runtime.sleep(LONG);
        let never_polled = runtime.sleep(LONG);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(polled.as_mut().poll(&mut cx).is_pending());
        drop(tokio);
        elsewhere(polled);
        elsewhere(never_polled);
        elsewhere(runtime.sleep(LONG));
    }
}

#[test]
fn a_sleep_wakes_its_task_when_its_runtime_shuts_down() {
    for tokio in both() {
        let runtime = TokioRuntime::new(tokio.handle().clone());
        let (polled, is_polled) = mpsc::channel();
        let sleeper = thread::spawn(move || {
            let other = Builder::new_current_thread().build().expect("a runtime");
            let mut sleep = runtime.sleep(LONG);
            other.block_on(std::future::poll_fn(|cx| {
                let poll = sleep.as_mut().poll(cx);
                polled.send(()).ok();
                poll
            }));
        });
        is_polled.recv().expect("it is polled");
        drop(tokio);
        sleeper.join().expect("it doesn't panic");
    }
}

#[test]
fn sleeps_may_be_polled_while_their_runtime_shuts_down() {
    for _ in 0..100 {
        for tokio in both() {
            let begun = Arc::new(Barrier::new(3));
            let sleepers = [(); 2].map(|()| {
                let (runtime, begun) = (TokioRuntime::new(tokio.handle().clone()), begun.clone());
                thread::spawn(move || {
                    let mut cx = Context::from_waker(Waker::noop());
                    let mut sleep = runtime.sleep(LONG);
                    begun.wait();
                    while sleep.as_mut().poll(&mut cx).is_pending() {}
                    elsewhere(runtime.sleep(LONG));
                })
            });
            begun.wait();
            drop(tokio);
            sleepers.into_iter().for_each(|sleeper| sleeper.join().expect("it doesn't panic"));
        }
    }
}

#[test]
fn nothing_can_be_resolved_or_connected_to_after_the_end() {
    for tokio in both() {
        let runtime = TokioRuntime::new(tokio.handle().clone());
        let resolving = runtime.resolve("localhost".into(), 1);
        let peer = Peer::Tcp(([127, 0, 0, 1], 1).into());
        let connecting = runtime.connect(peer.clone());
        drop(tokio);
        // What had begun may have ended before the runtime.
        let _ = (elsewhere(resolving), elsewhere(connecting).err());
        let resolved = elsewhere(runtime.resolve("localhost".into(), 1)).expect_err("there is no runtime");
        let connected = elsewhere(runtime.connect(peer)).err().expect("there is no runtime");
        for error in [resolved, connected] {
            assert!(error.to_string().contains("has shut down"), "{error}");
        }
    }
}

#[test]
fn a_task_is_dropped_by_a_runtime_that_shuts_down_and_by_one_that_has() {
    for tokio in both() {
        let runtime = TokioRuntime::new(tokio.handle().clone());
        let spawn = || {
            let (alive, is_alive) = mpsc::channel::<()>();
            runtime.spawn(Box::pin(async move {
                let _alive = alive;
                pending().await
            }));
            is_alive
        };
        let before = spawn();
        drop(tokio);
        let after = spawn();
        for dropped in [before, after] {
            assert_eq!(dropped.recv_timeout(DEADLINE), Err(mpsc::RecvTimeoutError::Disconnected));
        }
    }
}

#[test]
fn a_client_whose_runtime_has_shut_down_says_so() {
    let servers = Runtime::new().expect("a runtime");
    let etcd = servers.block_on(EmbeddedEtcd::start(ModelConfig::default())).expect("a free port");
    for tokio in both() {
        let runtime = TokioRuntime::new(tokio.handle().clone());
        let client = ClientBuilder::on(runtime).endpoints([etcd.endpoint()]).request_timeout(LONG);
        let client = client.connect_lazy().expect("valid settings");
        tokio.block_on(client.put("key", "value")).expect("it is put");
        let mut watch = client.watch(KeyRange::prefix("key")).expect("it is opened");
        drop(tokio);
        let put = elsewhere(Box::pin(client.put("key", "value"))).expect_err("there is no runtime");
        assert!(matches!(put, CallError::RuntimeGone { .. }), "{put}");
        let ended = elsewhere(Box::pin(watch.try_next())).expect_err("there is no runtime");
        assert_eq!(ended.reason(), &CloseReason::RuntimeGone);
        elsewhere(Box::pin(client.close()));
    }
}
