//! A client that does everything that has metrics, on a real etcd.

use std::{future::Future, time::Duration};

use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};
use etcd_watch_tokio::{
    BoxError, Client, Get, KeyRange,
    cache::CacheRequest,
    concurrency::{Election, Mutex, Name, Session},
    config::Config,
    discovery::Discovery,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

/// An exporter as `examples/prometheus` has it.
pub(crate) fn exporter() -> (PrometheusRecorder, PrometheusHandle) {
    let builder = PrometheusBuilder::new();
    let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &[0.01, 0.1, 1.0, 10.0]);
    let recorder = builder.expect("there are bounds").build_recorder();
    let handle = recorder.handle();
    (recorder, handle)
}

pub(crate) async fn server() -> EtcdServer {
    EtcdServer::builder(EtcdVersion::V3_7).start_async().await.expect("etcd starts")
}

pub(crate) async fn client(endpoint: String) -> Client {
    let builder = etcd_watch_tokio::builder().endpoints([endpoint]).name("mine");
    builder.connect().await.expect("etcd answers")
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("in time")
}

/// Waits until the exporter serves a text that is as wanted; that text.
pub(crate) async fn until(handle: &PrometheusHandle, what: &str, is_so: impl Fn(&str) -> bool) -> String {
    let begun = std::time::Instant::now();
    loop {
        let text = handle.render();
        if is_so(&text) {
            return text;
        }
        assert!(begun.elapsed() < DEADLINE, "{what}: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Does everything that has metrics; what is served while it is going on.
pub(crate) async fn everything(handle: &PrometheusHandle) -> Result<String, BoxError> {
    let server = server().await;
    let client = client(server.endpoint()).await;
    let put = client.put("users/ann", "admin").await?;
    client.get(Get::key("users/ann").revision(put.revision() + 1000)).await.expect_err("it is in the future");
    let mut watch = client.watch(etcd_watch_tokio::WatchRequest::new("users/ann").start_revision(1))?;
    soon(watch.try_next()).await?;

    let cache = client.cache(CacheRequest::new(KeyRange::prefix("users/")).name("users"))?;
    soon(cache.ready()).await?;
    let config = Config::value(&client, "settings", |bytes| String::from_utf8(bytes.to_vec()))?;
    soon(config.ready()).await?;
    Discovery::new(&client, "services/shop")?.list().await?;

    let session = Session::open(&client).await?;
    let locked = Mutex::new(&session, Name::new("lock")?).lock().await?;
    let leads = Election::new(&session, Name::new("election")?).campaign("me").await?;
    let lease = client.lease_grant(Duration::from_secs(60)).await?;
    client.lease_revoke(lease.id()).await?;
    soon(lease.keep_alive().lost()).await;

    let served = until(handle, "the watches are exported", |text| {
        text.contains("etcd_watch_watches{client=\"mine\"} ")
            && text.contains("etcd_watch_cache_keys{cache=\"users\"} 1")
    });
    let text = served.await;
    drop((locked, leads));
    session.close().await?;
    client.close().await;
    Ok(text)
}
