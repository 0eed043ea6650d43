//! How long a scrape takes of the metrics of a client with many watches: `scrape http://127.0.0.1:2379 100000`.
//!
//! It prints the median as a line of JSON. A scrape is what a server of metrics does for Prometheus: it writes all of
//! them as text. The client's own part, once a second, is done meanwhile, on the same thread.

// A command line speaks to its user on standard output.
#![allow(clippy::print_stdout)]

use std::{
    env::args,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use etcd_watch_tokio::{KeyRange, Watch, WatchConfig, WatchRequest};
use metrics_exporter_prometheus::PrometheusBuilder;

const SCRAPES: usize = 101;

/// The client exports once a second.
const PAUSE: Duration = Duration::from_millis(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let endpoint = args().nth(1).context("usage: scrape ENDPOINT WATCHES")?;
    let count: usize = args().nth(2).context("usage: scrape ENDPOINT WATCHES")?.parse()?;
    let exporter = PrometheusBuilder::new().install_recorder()?;
    let config = WatchConfig::default().max_watches_per_stream(count.max(10_000));
    let config = config.unreachable_deadline(Some(Duration::from_secs(5)));
    let builder = etcd_watch_tokio::builder().endpoints([endpoint]).watch_config(config).name("bench");
    let client = builder.connect().await?;
    let request = |index| WatchRequest::new(KeyRange::key(format!("bench/{index}"))).created_notify(true);
    let mut watches: Vec<Watch> =
        (0..count).map(|index| client.watch(request(index))).collect::<Result<_, _>>()?;
    for watch in &mut watches {
        watch.try_next().await?.context("a watch has ended")?;
    }
    let mut times = Vec::with_capacity(SCRAPES);
    let mut text = String::new();
    for _ in 0..SCRAPES {
        tokio::time::sleep(PAUSE).await;
        let begun = Instant::now();
        exporter.run_upkeep();
        text = exporter.render();
        times.push(begun.elapsed().as_secs_f64());
    }
    let told = text.lines().any(|line| line == format!(r#"etcd_watch_watches{{client="bench"}} {count}"#));
    ensure!(told, "the metrics don't tell the watches:\n{text}");
    times.sort_by(f64::total_cmp);
    println!("{{\"seconds\":{:.9}}}", times[SCRAPES / 2]);
    Ok(())
}
