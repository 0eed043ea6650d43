//! This project's client, on any runtime.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use etcd_watch_bench::{
    PREFIX,
    meter::{Figures, Meter},
};
use etcd_watch_tokio::{Client, KeyRange, Watch, WatchResponse};
use tokio::sync::{mpsc, oneshot};

use crate::Events;

/// Takes events with one consumer, or with one for each of several watches.
pub(crate) async fn events(client: &Client, watches: usize, task: &Events) -> Result<Figures> {
    let meter = Meter::new(task.events, task.stamped);
    if watches == 1 {
        let watch = client.watch(KeyRange::prefix(PREFIX))?;
        let (done, is_done) = oneshot::channel();
        // A task, as in a service: an executor of smol runs what it is blocked on only after 200 other tasks' turns.
        client.runtime().spawn(Box::pin(async move {
            let _ = done.send(consume_alone(watch, meter).await);
        }));
        return is_done.await.context("the consumer is gone")?;
    }
    let meter = Arc::new(Mutex::new(meter));
    let (done, mut is_done) = mpsc::unbounded_channel();
    let mut stuck = Vec::new();
    for index in 0..watches {
        let watch = client.watch(KeyRange::prefix(PREFIX))?;
        if index < task.stuck {
            stuck.push(watch);
            continue;
        }
        let (meter, done) = (meter.clone(), done.clone());
        client.runtime().spawn(Box::pin(async move {
            let _ = done.send(consume(watch, &meter).await);
        }));
    }
    is_done.recv().await.context("the consumers are gone")??;
    let figures = meter.lock().unwrap_or_else(PoisonError::into_inner).figures();
    drop(stuck);
    figures
}

/// Takes from the only watch until it has got what was expected.
async fn consume_alone(mut watch: Watch, mut meter: Meter) -> Result<Figures> {
    while !meter.is_done() {
        let response = watch.try_next().await?.context("the watch has ended")?;
        count(&mut meter, &response);
    }
    meter.figures()
}

/// Takes from a watch until all watches together have got what was expected.
async fn consume(mut watch: Watch, meter: &Mutex<Meter>) -> Result<()> {
    while let Some(response) = watch.try_next().await? {
        let mut meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
        count(&mut meter, &response);
        if meter.is_done() {
            return Ok(());
        }
    }
    Err(anyhow!("a watch has ended"))
}

fn count(meter: &mut Meter, response: &WatchResponse) {
    meter.response();
    for event in response.events() {
        meter.event(event.key(), event.value(), event.mod_revision());
    }
}
