//! What is polled and dropped leaves no waker behind: each would hold a task, and what that owns.

mod common;

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
};

use common::start;
use etcd_watch_tokio::{
    Client, KeyRange, MirrorRequest, WatchRequest,
    cache::{CacheRequest, SubscribeRequest},
    concurrency::{Name, Session, observe},
    config::Config,
};
use futures_util::Stream;

const MANY: usize = 10_000;

/// What may be left, for any number of polls: hyper keeps the waker of who asked last for each connection.
const A_FEW: usize = 10;

/// A task of which only the waker exists.
struct Task(Arc<AtomicUsize>);

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many tasks are still held by a waker.
#[derive(Default)]
struct Tasks(Arc<AtomicUsize>);

impl Tasks {
    fn waker(&self) -> Waker {
        self.0.fetch_add(1, Ordering::Relaxed);
        Arc::new(Task(self.0.clone())).into()
    }

    fn held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Polls a future once, as a task of its own that is given up then.
    fn poll_once(&self, future: impl Future) {
        let waker = self.waker();
        let _ = pin!(future).poll(&mut Context::from_waker(&waker));
    }

    fn poll_stream_once(&self, stream: impl Stream) {
        let waker = self.waker();
        let _ = pin!(stream).poll_next(&mut Context::from_waker(&waker));
    }
}

#[tokio::test]
async fn mirrors_that_are_polled_once_and_dropped_leave_no_waker() {
    let (_etcd, client) = start().await;
    let tasks = Tasks::default();
    for _ in 0..MANY {
        let mirror = client.mirror(MirrorRequest::new(KeyRange::prefix("m/"))).expect("a lawful request");
        tasks.poll_stream_once(mirror);
    }
    assert!(tasks.held() < A_FEW, "{} tasks are held", tasks.held());
}

#[tokio::test]
async fn watches_that_are_polled_once_and_dropped_leave_no_waker() {
    let (_etcd, client) = start().await;
    let tasks = Tasks::default();
    for _ in 0..MANY {
        tasks
            .poll_stream_once(client.watch(WatchRequest::new(KeyRange::key("w"))).expect("a lawful request"));
    }
    assert_eq!(tasks.held(), 0);
}

async fn waits_that_are_given_up(client: &Client, tasks: &Tasks) {
    let cache = client.cache(CacheRequest::new(KeyRange::prefix("c/"))).expect("a lawful request");
    cache.ready().await.expect("it lists");
    let config = Config::value(client, "config", |bytes: &[u8]| str::from_utf8(bytes).map(str::to_owned));
    let config = config.expect("a lawful request");
    config.ready().await.expect("it lists");
    let session = Session::open(client).await.expect("it is granted");
    let lease = client.lease_grant(session.ttl()).await.expect("it is granted");
    let keeper = lease.keep_alive();
    let name = Name::new("election").expect("a lawful name");
    for _ in 0..MANY / 10 {
        tasks.poll_once(cache.wait_for(i64::MAX));
        tasks.poll_once(cache.consistent());
        tasks.poll_once(cache.closed());
        tasks.poll_stream_once(
            cache.subscribe(SubscribeRequest::new(KeyRange::prefix("c/"))).expect("lawful"),
        );
        tasks.poll_once(config.clone().changed());
        tasks.poll_once(session.lost());
        tasks.poll_once(keeper.lost());
        tasks.poll_stream_once(observe(client, &name));
    }
    // The tasks that go on by themselves are not those that were given up.
    assert!(tasks.held() < A_FEW, "{} tasks are held", tasks.held());
    cache.close();
}

#[tokio::test]
async fn whatever_is_waited_for_and_given_up_leaves_no_waker() {
    let (_etcd, client) = start().await;
    let tasks = Tasks::default();
    waits_that_are_given_up(&client, &tasks).await;
    client.close().await;
    assert_eq!(tasks.held(), 0);
}
