//! Reads of a cache beside updates: `cargo run --release -p etcd-watch-bench --bin readers`.
//!
//! Times depend on the computer and on what else it does, so what counts are the ratios: how many reads eight threads
//! make beside a writer that never rests, and how many updates the cache takes in beside eight threads that read without
//! a pause, each against the same without the other. Where reads and updates wait for each other, both fall by far more
//! than their share of the processors.

// A command line speaks to its user on standard output.
#![allow(clippy::print_stdout)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use clap::Parser;
use etcd_watch_testkit::{model::ModelConfig, server::EmbeddedEtcd};
use etcd_watch_tokio::{
    Client, KeyRange, Put, Txn,
    cache::{Cache, CacheRequest},
};
use tokio::task::JoinHandle;

/// Keys in the cache.
const KEYS: usize = 10_000;

/// Keys that one update changes.
const KEYS_PER_UPDATE: usize = 16;

/// How many reads are timed together.
const READS_PER_LOOK: usize = 64;

/// Measures reads of a cache beside updates.
#[derive(Parser)]
#[command(name = "readers")]
struct Arguments {
    /// How many threads read.
    #[arg(long, default_value_t = 8)]
    readers: usize,
    /// How many seconds each part takes.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// What happened in one part, per second.
struct Part {
    reads: f64,
    updates: f64,
    /// Of `READS_PER_LOOK` reads in a row.
    longest: Duration,
}

fn main() -> Result<()> {
    let Arguments { readers, seconds } = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (_etcd, client, cache) = runtime.block_on(filled())?;
    let lasts = Duration::from_secs(seconds);
    let part = |readers: usize, is_written: bool| -> Result<Part> {
        let writer = is_written.then(|| Writer::start(&runtime, client.clone()));
        let part = measure(&cache, readers, lasts);
        writer.map_or(Ok(()), |writer| runtime.block_on(writer.stop()))?;
        Ok(part)
    };
    let one = part(1, false)?;
    let alone = part(readers, false)?;
    let written = part(0, true)?;
    let together = part(readers, true)?;

    let line = |what: &str, part: &Part| {
        println!("| {what} | {:.0} | {:.0} | {:?} |", part.reads, part.updates, part.longest);
    };
    println!("| | reads/s | updates/s | longest {READS_PER_LOOK} reads |\n|---|--:|--:|--:|");
    line("1 reader", &one);
    line(&format!("{readers} readers"), &alone);
    line("updates", &written);
    line(&format!("{readers} readers and updates"), &together);
    println!("\nreads of {readers} readers, beside one: {:.2}", alone.reads / one.reads);
    println!("reads beside updates, to reads alone: {:.2}", together.reads / alone.reads);
    println!("updates beside reads, to updates alone: {:.2}", together.updates / written.updates);
    runtime.block_on(client.close());
    Ok(())
}

fn key(number: usize) -> String {
    format!("bench/{number:06}")
}

/// A server with keys, and a cache of them.
async fn filled() -> Result<(EmbeddedEtcd, Client, Cache)> {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await?;
    let client = etcd_watch_tokio::connect([etcd.endpoint()]).await?;
    let mut written = 0;
    for first in (0..KEYS).step_by(100) {
        written = write(&client, first, 100).await?;
    }
    let cache = client.cache(CacheRequest::new(KeyRange::prefix("bench/")))?;
    cache.wait_for(written).await?;
    Ok((etcd, client, cache))
}

/// Puts so many keys in one revision, and says which that is.
async fn write(client: &Client, first: usize, count: usize) -> Result<i64> {
    let puts = (first..first + count).map(|number| Put::new(key(number % KEYS), "a value of some bytes"));
    let txn = puts.fold(Txn::new(), Txn::and_then);
    Ok(client.txn(txn).await?.revision())
}

/// Writes without a pause.
struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<()>>,
}

impl Writer {
    fn start(runtime: &tokio::runtime::Runtime, client: Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = runtime.spawn(async move {
            let mut first = 0;
            while !stopped.load(Ordering::Relaxed) {
                write(&client, first, KEYS_PER_UPDATE).await?;
                first = (first + 7_919) % KEYS;
            }
            Ok(())
        });
        Self { stop, task }
    }

    async fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.map_err(|panic| anyhow!(panic))?
    }
}

/// Reads with so many threads, and counts the updates that the cache takes in meanwhile.
fn measure(cache: &Cache, readers: usize, lasts: Duration) -> Part {
    let (began, revision) = (Instant::now(), cache.snapshot().revision());
    let threads: Vec<_> = (0..readers)
        .map(|reader| {
            let cache = cache.clone();
            thread::spawn(move || read(&cache, reader, began + lasts))
        })
        .collect();
    thread::sleep(lasts);
    let (mut reads, mut longest) = (0, Duration::ZERO);
    for thread in threads {
        let (by_one, longest_of_one) =
            thread.join().expect("a reader panics only if the cache has lost a key");
        reads += by_one;
        longest = longest.max(longest_of_one);
    }
    let seconds = began.elapsed().as_secs_f64();
    let updates = cache.snapshot().revision() - revision;
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    Part { reads: reads as f64 / seconds, updates: updates as f64 / seconds, longest }
}

/// Reads until then; how often, and the longest time that some reads took.
fn read(cache: &Cache, reader: usize, until: Instant) -> (u64, Duration) {
    let keys: Vec<String> = (0..READS_PER_LOOK).map(|at| key((reader * 1_009 + at * 157) % KEYS)).collect();
    let (mut reads, mut longest) = (0, Duration::ZERO);
    let mut before = Instant::now();
    while before < until {
        let found = keys.iter().filter_map(|key| cache.get(key)).count();
        assert_eq!(found, keys.len(), "no key is ever deleted");
        reads += found as u64;
        let now = Instant::now();
        longest = longest.max(now - before);
        before = now;
    }
    (reads, longest)
}
