//! Watches through the whole client, against the embedded etcd.

mod common;

use std::time::Duration;

use common::{DEADLINE, Recorder, put, start, through_proxy};
use etcd_watch_testkit::{harness::wait_until, model::ModelConfig, proxy::Cut, server::EmbeddedEtcd};
use etcd_watch_tokio::{
    ClientBuilder, CloseReason, KeyRange, Overflow, ResponseKind, Watch, WatchConfig, WatchRequest,
    WatchState, WatchStats,
};
use hyper_util::rt::TokioIo;
use tokio::time::{sleep, timeout};

fn everything_from(revision: i64) -> WatchRequest {
    WatchRequest::new(KeyRange::all()).start_revision(revision)
}

#[tokio::test]
async fn what_is_put_arrives_in_order() {
    let (_etcd, client) = start().await;
    let mut watch = client.watch(everything_from(1)).unwrap();
    for n in 0..100 {
        put(&client, n).await;
    }
    let mut seen = Recorder::default();
    seen.read_until(&mut watch, 101).await;
    assert_eq!(seen.revisions, (2..=101).collect::<Vec<_>>());
    assert_eq!(watch.resume_revision(), Some(102));
}

#[tokio::test]
async fn a_watch_from_now_sees_what_follows_its_creation() {
    let (_etcd, client) = start().await;
    put(&client, 0).await;
    let request = WatchRequest::new(KeyRange::prefix("key")).created_notify(true);
    let mut watch = client.watch(request).unwrap();
    assert_eq!(watch.resume_revision(), None);
    let created = watch.try_next().await.unwrap().unwrap();
    assert_eq!(created.kind(), ResponseKind::Created);
    put(&client, 1).await;
    let mut seen = Recorder::default();
    seen.read_until(&mut watch, 3).await;
    assert_eq!(seen.revisions, [3]);
}

#[tokio::test]
async fn nothing_is_lost_or_repeated_through_cuts() {
    let (etcd, writer) = start().await;
    let (proxy, client) = through_proxy(&etcd).await;
    let mut watch = client.watch(everything_from(1)).unwrap();
    let writing = tokio::spawn(async move {
        for n in 0..1_000 {
            put(&writer, n).await;
        }
    });
    let cutting = tokio::spawn(async move {
        for _ in 0..15 {
            sleep(Duration::from_millis(40)).await;
            proxy.cut_all(Cut::Reset);
        }
        proxy
    });
    let mut seen = Recorder::default();
    seen.read_until(&mut watch, 1_001).await;
    assert_eq!(seen.revisions, (2..=1_001).collect::<Vec<_>>());
    writing.await.unwrap();
    let _proxy = cutting.await.unwrap();
}

#[tokio::test]
async fn a_watch_outlives_a_restart_of_the_server() {
    let (mut etcd, client) = start().await;
    let mut watch = client.watch(everything_from(1)).unwrap();
    put(&client, 0).await;
    let mut seen = Recorder::default();
    seen.read_until(&mut watch, 2).await;
    etcd.stop().await;
    etcd.restart().await.unwrap();
    put(&client, 1).await;
    seen.read_until(&mut watch, 3).await;
    assert_eq!(seen.revisions, [2, 3]);
    assert!(client.stats().reconnects >= 1);
}

#[tokio::test]
async fn a_dropped_handle_is_cancelled_on_the_server() {
    let (etcd, client) = start().await;
    let watchers = || etcd.with_model(|model| model.watcher_count());
    let kept = client.watch(everything_from(1)).unwrap();
    let dropped: Vec<_> = (0..50).map(|_| client.watch(everything_from(1)).unwrap()).collect();
    wait_until("all are created", DEADLINE, || watchers() == 51).await;
    drop(dropped);
    wait_until("all but one are gone", DEADLINE, || watchers() == 1).await;
    assert_eq!(client.stats().watches, 1);
    drop(kept);
    wait_until("all are gone", DEADLINE, || watchers() == 0).await;
}

#[tokio::test]
async fn a_handle_dropped_before_its_creation_leaves_nothing_behind() {
    let (etcd, client) = start().await;
    for _ in 0..20 {
        drop(client.watch(everything_from(1)).unwrap());
        drop(client.watch(KeyRange::prefix("key")).unwrap());
    }
    let kept = client.watch(everything_from(1)).unwrap();
    let watchers = || etcd.with_model(|model| model.watcher_count());
    wait_until("only one is left", DEADLINE, || watchers() == 1).await;
    drop(kept);
}

#[tokio::test]
async fn a_cancelled_watch_ends_without_an_error() {
    let (etcd, client) = start().await;
    let mut watch = client.watch(everything_from(1)).unwrap();
    put(&client, 0).await;
    Recorder::default().read_until(&mut watch, 2).await;
    watch.cancel();
    assert_eq!(timeout(DEADLINE, watch.try_next()).await.unwrap(), Ok(None));
    assert_eq!(timeout(DEADLINE, watch.try_next()).await.unwrap(), Ok(None));
    let watchers = || etcd.with_model(|model| model.watcher_count());
    wait_until("it is gone on the server", DEADLINE, || watchers() == 0).await;
}

#[tokio::test]
async fn compacted_history_ends_the_watch_with_its_reason() {
    let (_etcd, client) = start().await;
    for n in 0..10 {
        put(&client, n).await;
    }
    client.compact(8).await.unwrap();
    let mut watch = client.watch(everything_from(3)).unwrap();
    let error = timeout(DEADLINE, watch.try_next()).await.unwrap().unwrap_err();
    let expected = CloseReason::Compacted { compact_revision: 8, next_revision: 3 };
    assert_eq!(error.reason(), &expected);
    assert_eq!(watch.try_next().await, Ok(None));
}

#[tokio::test]
async fn closing_the_client_ends_its_watches_and_its_streams() {
    let (etcd, client) = start().await;
    let mut watch = client.watch(everything_from(1)).unwrap();
    let streams = || etcd.with_model(|model| model.watch_streams().len());
    wait_until("the stream is open", DEADLINE, || streams() == 1).await;
    timeout(DEADLINE, client.close()).await.unwrap();
    let error = timeout(DEADLINE, watch.try_next()).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), &CloseReason::ShutDown);
    assert!(client.watch(everything_from(1)).is_err());
    assert!(client.get("key").await.is_err());
    wait_until("the stream is gone", DEADLINE, || streams() == 0).await;
}

#[tokio::test]
async fn connections_end_with_the_last_client_and_watch() {
    let (etcd, _writer) = start().await;
    let (proxy, client) = through_proxy(&etcd).await;
    let mut watch = client.watch(everything_from(1)).unwrap();
    put(&client, 0).await;
    drop(client);
    Recorder::default().read_until(&mut watch, 2).await;
    assert!(proxy.connections() > 0, "the watch outlives the client");
    drop(watch);
    wait_until("every connection is closed", DEADLINE, || proxy.connections() == 0).await;
}

#[tokio::test]
async fn an_idle_stream_is_reset_and_opened_again_when_needed() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.unwrap();
    let config = WatchConfig::default().linger(Duration::from_millis(50));
    let client = ClientBuilder::on(common::runtime()).endpoints([etcd.endpoint()]).watch_config(config);
    let client = client.connect_lazy().unwrap();
    let streams = || etcd.with_model(|model| model.watch_streams().len());
    drop(client.watch(everything_from(1)).unwrap());
    let watch = client.watch(everything_from(1)).unwrap();
    wait_until("the stream is open", DEADLINE, || streams() == 1).await;
    drop(watch);
    wait_until("the stream is gone", DEADLINE, || streams() == 0).await;
    let mut watch = client.watch(everything_from(1)).unwrap();
    put(&client, 0).await;
    Recorder::default().read_until(&mut watch, 2).await;
}

#[tokio::test]
async fn ten_thousand_watches_share_a_stream() {
    let (etcd, client) = start().await;
    let watches: Vec<_> = (0..10_000)
        .map(|n| {
            let key = format!("key{n}");
            client.watch(WatchRequest::new(KeyRange::key(key)).start_revision(1)).unwrap()
        })
        .collect();
    let watchers = || etcd.with_model(|model| model.watcher_count());
    wait_until("all are created", DEADLINE, || watchers() == 10_000).await;
    assert_eq!(etcd.with_model(|model| model.watch_streams().len()), 1);
    for mut watch in watches.into_iter().step_by(1_000) {
        let n = watch.resume_revision();
        assert_eq!(n, Some(1));
        assert!(timeout(Duration::from_millis(1), watch.next()).await.is_err(), "nothing was put");
    }
}

#[tokio::test]
async fn a_paused_stream_goes_on_when_its_consumer_does() {
    let (_etcd, client) = start().await;
    let request = everything_from(1).overflow(Overflow::Pause).buffer_bytes(1024).own_stream(true);
    let mut slow = client.watch(request).unwrap();
    let mut fast = client.watch(everything_from(1)).unwrap();
    for n in 0..300 {
        put(&client, n).await;
    }
    let mut seen = Recorder::default();
    seen.read_until(&mut fast, 301).await;
    assert_eq!(seen.revisions.len(), 300);
    let mut seen = Recorder::default();
    seen.read_until(&mut slow, 301).await;
    assert_eq!(seen.revisions, (2..=301).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_consumer_that_falls_behind_gets_everything_from_history() {
    let (_etcd, client) = start().await;
    let mut slow = client.watch(everything_from(1).buffer_bytes(1024)).unwrap();
    for n in 0..300 {
        put(&client, n).await;
    }
    wait_until("its buffer is full", DEADLINE, || client.stats().overflows > 0).await;
    let mut seen = Recorder::default();
    seen.read_until(&mut slow, 301).await;
    assert_eq!(seen.revisions, (2..=301).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_consumer_that_finds_nothing_where_something_was_dropped_gets_all_of_it() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.unwrap();
    let config = WatchConfig::default().buffer_bytes(4 << 10).total_buffer_bytes(4 << 10);
    let client = ClientBuilder::on(common::runtime()).endpoints([etcd.endpoint()]).watch_config(config);
    let client = client.connect_lazy().unwrap();
    let mut watches: Vec<_> = (0..10).map(|_| client.watch(everything_from(1)).unwrap()).collect();
    for watch in &mut watches {
        // Whoever is woken for it later doesn't come before it is dropped.
        assert!(timeout(Duration::from_millis(1), watch.next()).await.is_err(), "nothing was put");
    }
    for n in 0..100 {
        put(&client, n).await;
    }
    let is_dropped = |stats: WatchStats| stats.state == WatchState::Overflowed && stats.queued_responses == 0;
    let dropped = || watches.iter().filter_map(Watch::stats).filter(|stats| is_dropped(*stats)).count();
    wait_until("most have nothing left", DEADLINE, || dropped() >= 5).await;
    for watch in &mut watches {
        let mut seen = Recorder::default();
        seen.read_until(watch, 101).await;
        assert_eq!(seen.revisions, (2..=101).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn progress_can_be_asked_for() {
    let (_etcd, client) = start().await;
    let mut watch = client.watch(everything_from(1)).unwrap();
    put(&client, 0).await;
    Recorder::default().read_until(&mut watch, 2).await;
    watch.request_progress();
    let progress = timeout(DEADLINE, watch.try_next()).await.unwrap().unwrap().unwrap();
    assert_eq!((progress.kind(), progress.revision()), (ResponseKind::Progress, 2));
}

#[tokio::test]
async fn handles_may_be_polled_on_any_executor() {
    let (_etcd, client) = start().await;
    let elsewhere = {
        let client = client.clone();
        std::thread::spawn(move || {
            block_on(async move {
                let mut watch = client.watch(everything_from(1)).unwrap();
                client.put("key", "elsewhere").await.unwrap();
                let response = watch.try_next().await.unwrap().unwrap();
                response.events().next().unwrap().value().to_vec()
            })
        })
    };
    let value = tokio::task::spawn_blocking(move || elsewhere.join().unwrap()).await.unwrap();
    assert_eq!(value, b"elsewhere");
}

#[tokio::test]
async fn a_connector_may_use_tokio_whoever_awaits_the_call() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.unwrap();
    let address = etcd.address();
    let connector = move |_| async move {
        let socket = tokio::net::TcpStream::connect(address).await?;
        sleep(Duration::from_millis(1)).await;
        Ok(TokioIo::new(socket))
    };
    let builder = etcd_watch_tokio::builder().endpoints(["http://etcd.invalid:2379"]).connector(connector);
    let client = builder.connect_lazy().unwrap();
    let elsewhere = std::thread::spawn(move || block_on(async move { client.put("key", "elsewhere").await }));
    let put = tokio::task::spawn_blocking(move || elsewhere.join().unwrap()).await.unwrap();
    assert_eq!(put.unwrap().revision(), 2);
}

/// An executor without a runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        std::thread::park();
    }
}

#[test]
fn a_watch_whose_runtime_is_gone_ends_rather_than_hangs() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (etcd, client, mut watch) = runtime.block_on(async {
        let (etcd, client) = start().await;
        let watch = client.watch(everything_from(1)).unwrap();
        (etcd, client, watch)
    });
    runtime.shutdown_background();
    let error = block_on(watch.try_next()).unwrap_err();
    assert_eq!(error.reason(), &CloseReason::RuntimeGone);
    assert!(client.watch(everything_from(1)).is_err());
    block_on(client.close());
    drop(etcd);
}

#[tokio::test]
async fn a_watch_goes_on_at_another_endpoint() {
    let (etcd, writer) = start().await;
    let (proxy, _) = through_proxy(&etcd).await;
    let client = etcd_watch_tokio::connect([proxy.endpoint(), etcd.endpoint()]).await.unwrap();
    let mut watch = client.watch(everything_from(1)).unwrap();
    put(&writer, 0).await;
    let mut seen = Recorder::default();
    seen.read_until(&mut watch, 2).await;
    assert!(proxy.connections() > 0, "the first endpoint is the preferred one");
    proxy.refuse();
    proxy.cut_all(Cut::Reset);
    put(&writer, 1).await;
    seen.read_until(&mut watch, 3).await;
    assert_eq!(seen.revisions, [2, 3]);
}

#[tokio::test]
async fn a_client_dropped_while_it_connects_gives_its_connection_up() {
    // Takes connections, and never says anything.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client =
        etcd_watch_tokio::connect_lazy([format!("http://{}", listener.local_addr().unwrap())]).unwrap();
    let watch = client.watch(everything_from(1)).unwrap();
    let (mut accepted, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    drop((client, watch));
    let end = timeout(DEADLINE, tokio::io::copy(&mut accepted, &mut tokio::io::sink())).await.unwrap();
    if let Err(error) = end {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
}

#[tokio::test]
async fn a_name_is_resolved_and_its_addresses_tried() {
    // Often two addresses, of which the server listens on one.
    let (etcd, _) = start().await;
    let endpoint = etcd.endpoint();
    let (_, port) = endpoint.rsplit_once(':').unwrap();
    let client = etcd_watch_tokio::connect([format!("http://localhost:{port}")]).await.unwrap();
    let mut watch = client.watch(everything_from(1)).unwrap();
    put(&client, 0).await;
    Recorder::default().read_until(&mut watch, 2).await;
}
