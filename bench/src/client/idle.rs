//! What watches take that nothing happens to.

use std::{hint::black_box, time::Instant};

use anyhow::Result;
use etcd_watch_bench::{median, running::all_run, usage};
use etcd_watch_tokio::{Client, KeyRange, OpenError, Watch};
use serde::Serialize;

/// How often statistics are asked for; the median counts.
const ASKED: usize = 21;

/// What was measured.
#[derive(Serialize)]
pub(crate) struct Idle {
    /// Memory of the process before the watches and with them, in bytes.
    rss_before: usize,
    rss_after: usize,
    /// A call of `Client::stats`, and one of `Client::watch_stats`, in seconds.
    stats_seconds: f64,
    watch_stats_seconds: f64,
}

pub(crate) async fn measure(client: &Client, watches: usize) -> Result<Idle> {
    // The first watch allocates what is allocated once; it isn't counted.
    all_run(client, &open(client, 1)?).await?;
    let rss_before = usage::rss()?;
    let opened = open(client, watches)?;
    all_run(client, &opened).await?;
    let rss_after = usage::rss()?;
    let idle = Idle {
        rss_before,
        rss_after,
        stats_seconds: timed(|| _ = black_box(client.stats())),
        watch_stats_seconds: timed(|| _ = black_box(client.watch_stats())),
    };
    drop(opened);
    Ok(idle)
}

fn open(client: &Client, watches: usize) -> Result<Vec<Watch>, OpenError> {
    (0..watches).map(|index| client.watch(KeyRange::key(format!("bench/{index}")))).collect()
}

/// The median time of a call, in seconds.
fn timed(mut call: impl FnMut()) -> f64 {
    median((0..ASKED).map(|_| {
        let begun = Instant::now();
        call();
        begun.elapsed().as_secs_f64()
    }))
}
