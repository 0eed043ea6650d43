//! How long it takes until many watches run: at first, and again after the connection was lost.

use std::{
    io::{Write, stdout},
    time::Instant,
};

use anyhow::{Context, Result, anyhow};
use etcd_watch_tokio::{Client, KeyRange, ResponseKind, Watch, WatchRequest};
use tokio::sync::mpsc;

/// The key whose change the watches hear of when they have resumed.
const KEY: &str = "bench/changed";

/// The seconds until watches of a key each are created.
pub(crate) async fn create(client: &Client, watches: usize) -> Result<f64> {
    // The connection for calls is there before the time begins, as it is for others.
    client.get("warm").await?;
    let begun = Instant::now();
    let opened = open(client, watches, |index| format!("bench/{index}")).await?;
    let seconds = begun.elapsed().as_secs_f64();
    drop(opened);
    Ok(seconds)
}

/// The seconds between the first watch that has resumed and the last.
pub(crate) async fn resume(client: &Client, watches: usize) -> Result<f64> {
    let (told, mut heard) = mpsc::unbounded_channel();
    for mut watch in open(client, watches, |_| KEY.to_owned()).await? {
        let told = told.clone();
        client.runtime().spawn(Box::pin(async move {
            let changed = changed(&mut watch).await.map(|()| Instant::now());
            // The watch lives on until all have heard.
            let _ = told.send((changed, watch));
        }));
    }
    let mut output = stdout();
    writeln!(output, "ready")?;
    output.flush()?;
    let mut times = Vec::with_capacity(watches);
    let mut resumed = Vec::with_capacity(watches);
    while times.len() < watches {
        let (time, watch) = heard.recv().await.context("the consumers are gone")?;
        times.push(time?);
        resumed.push(watch);
    }
    let (first, last) = (times.iter().min(), times.iter().max());
    Ok(last.zip(first).map_or(0.0, |(last, &first)| last.duration_since(first).as_secs_f64()))
}

/// Waits for an event.
async fn changed(watch: &mut Watch) -> Result<()> {
    while let Some(response) = watch.try_next().await? {
        if response.kind() == ResponseKind::Events {
            return Ok(());
        }
    }
    Err(anyhow!("a watch has ended"))
}

/// Opens watches of one key each, and waits until the server has created them.
pub(crate) async fn open(
    client: &Client,
    watches: usize,
    key: impl Fn(usize) -> String,
) -> Result<Vec<Watch>> {
    let request = |index| WatchRequest::new(KeyRange::key(key(index))).created_notify(true);
    let mut opened = (0..watches).map(|index| client.watch(request(index))).collect::<Result<Vec<_>, _>>()?;
    for watch in &mut opened {
        watch.try_next().await?.context("a watch has ended")?;
    }
    Ok(opened)
}
