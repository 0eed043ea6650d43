//! Taking with some number of consumers.

use std::{
    hint::black_box,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use etcd_watch_bench::{PREFIX, usage};
use etcd_watch_tokio::{KeyRange, Watch, WatchConfig, WatchError, WatchResponse};
use futures_util::{StreamExt, stream::select_all};
use tokio::sync::{Notify, mpsc};

use crate::{Scenario, server::Server};

/// What a run has taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) events: u64,
    /// From the first event on, until all were taken.
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

/// What all consumers have taken together.
struct Meter {
    expected: u64,
    taken: AtomicU64,
    begun: OnceLock<(Instant, Duration)>,
    done: Notify,
}

/// Runs a scenario in a runtime of its own, with the threads that tokio starts by itself.
pub(crate) fn take(scenario: Scenario, frames: u64) -> Result<Taken> {
    // Each watch gets as many as the others.
    let frames = frames.next_multiple_of(scenario.watches.into());
    let expected = frames * u64::from(scenario.events_per_frame);
    let server = Server::start(scenario, frames)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(take_from(&server.endpoint, scenario, expected))
}

async fn take_from(endpoint: &str, scenario: Scenario, expected: u64) -> Result<Taken> {
    let watches = scenario.watches as usize;
    let config = WatchConfig::default().max_watches_per_stream(watches);
    let client = etcd_watch_tokio::builder().endpoints([endpoint]).watch_config(config).connect().await?;
    let opened = (0..watches).map(|_| client.watch(KeyRange::prefix(PREFIX)));
    let opened: Vec<Watch> = opened.collect::<Result<_, _>>()?;
    let meter = Arc::new(Meter::new(expected));
    let (failed, mut failure) = mpsc::unbounded_channel();
    let share = watches.div_ceil(scenario.consumers as usize);
    let mut opened = opened.into_iter();
    while opened.len() > 0 {
        let (watches, meter, failed) = (opened.by_ref().take(share).collect(), meter.clone(), failed.clone());
        tokio::spawn(async move {
            let _ = failed.send(consume(watches, &meter).await);
        });
    }
    tokio::select! {
        () = meter.done.notified() => meter.taken(),
        ended = failure.recv() => {
            ended.context("the consumers are gone")??;
            meter.taken()
        }
    }
}

/// Takes from watches until one ends, which they don't by themselves.
async fn consume(mut watches: Vec<Watch>, meter: &Meter) -> Result<(), WatchError> {
    if let [watch] = &mut watches[..] {
        while let Some(response) = watch.try_next().await? {
            meter.add(&response);
        }
        return Ok(());
    }
    let mut watches = select_all(watches);
    while let Some(response) = watches.next().await {
        meter.add(&response?);
    }
    Ok(())
}

impl Meter {
    fn new(expected: u64) -> Self {
        Self { expected, taken: AtomicU64::new(0), begun: OnceLock::new(), done: Notify::new() }
    }

    fn add(&self, response: &WatchResponse) {
        self.begun.get_or_init(|| {
            #[cfg(etcd_watch_lock_times)]
            println!("opening: {}", crate::held::times());
            (Instant::now(), usage::cpu())
        });
        for event in response.events() {
            black_box((event.key(), event.value(), event.mod_revision()));
        }
        let events = response.len() as u64;
        if self.taken.fetch_add(events, Ordering::Relaxed) + events >= self.expected {
            self.done.notify_one();
        }
    }

    fn taken(&self) -> Result<Taken> {
        let &(begun, cpu) = self.begun.get().context("a watch ended before any event came")?;
        let events = self.taken.load(Ordering::Relaxed);
        ensure!(events == self.expected, "{events} events were taken of {}", self.expected);
        #[cfg(etcd_watch_lock_times)]
        println!("taking: {}", crate::held::times());
        Ok(Taken { events, wall: begun.elapsed(), cpu: usage::cpu() - cpu })
    }
}
