//! Serves the metrics of a client, of a cache and of a session at `/metrics`, for Prometheus. `docs/metrics.md` lists them.
//!
//! `cargo run -p etcd-watch-prometheus -- http://127.0.0.1:2379 127.0.0.1:9464`
#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use etcd_watch_tokio::{BoxError, KeyRange, cache::CacheRequest, concurrency::Session};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use std::{env::args, net::SocketAddr};

/// Upper bounds of durations in seconds, as OpenTelemetry's conventions for calls advise.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let endpoint = args().nth(1).unwrap_or_else(|| "http://127.0.0.1:2379".into());
    let address: SocketAddr = args().nth(2).unwrap_or_else(|| "127.0.0.1:9464".into()).parse()?;
    // Before there is a client: what a client registers goes to the exporter that is installed then.
    let exporter = PrometheusBuilder::new().with_http_listener(address);
    exporter.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?.install()?;
    let client = etcd_watch_tokio::builder().endpoints([endpoint]).name("shop").connect().await?;
    let users = client.cache(CacheRequest::new(KeyRange::prefix("users/")).name("users"))?;
    users.ready().await?;
    let session = Session::open(&client).await?;
    println!("metrics are served at http://{address}/metrics");
    // It is lost when etcd can't be reached for longer than the session's lease lasts.
    Err(session.lost().await.into())
}
