//! What a cache of very many keys costs: `cargo run --release -p etcd-watch-bench --bin cache`.
//!
//! No server and no socket: what a mirror would hand out goes into the cache by hand, so that what is measured is the
//! cache alone. Figures that have a bound stand beside it. Reads are measured with a writer and without one: where they
//! waited for it, the longest of a thousand would show it.

// A command line speaks to its user on standard output.
#![allow(clippy::print_stdout)]

mod feed;
mod readers;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Parser;
use etcd_watch_bench::usage;
use etcd_watch_client::{cache::Cache, fuzzing::CacheByHand};
use etcd_watch_core::KeyRange;

use feed::Feed;

/// Bytes of a key beyond its own and its value's.
const MOST_BYTES: usize = 120;

/// The time of an update of one key.
const LONGEST_UPDATE: Duration = Duration::from_micros(2);

/// Keys in one page of the list.
const PAGE: usize = 10_000;

/// After so many updates the reader takes another snapshot.
const HELD_FOR: usize = 1_000;

/// Measures a cache.
#[derive(Parser)]
#[command(name = "cache")]
struct Arguments {
    /// How many keys there are.
    #[arg(long, default_value_t = 1_000_000)]
    keys: usize,
    /// How long a value is.
    #[arg(long, default_value_t = 64)]
    value: usize,
    /// How many updates of one key are timed.
    #[arg(long, default_value_t = 200_000)]
    updates: usize,
    /// How many threads read.
    #[arg(long, default_value_t = 8)]
    readers: usize,
    /// How many updates come in each millisecond while they read.
    #[arg(long, default_value_t = 20)]
    rate: usize,
    /// How many seconds they read.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

fn main() -> Result<()> {
    let Arguments { keys, value, updates, readers, rate, seconds } = Arguments::parse();
    let mut feed = Feed::new(keys, value)?;
    // The client is never used: nothing runs on this runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = {
        let _inside = runtime.enter();
        etcd_watch_tokio::builder().endpoints(["http://127.0.0.1:1"]).connect_lazy()?
    };
    let mut cache = CacheByHand::new(&client, KeyRange::prefix(feed::PREFIX));

    let before = usage::rss()?;
    let listing = list(&mut feed, &mut cache)?;
    let beyond = |cache: &Cache| -> Result<usize> {
        let data = cache.snapshot().bytes();
        Ok(usage::rss()?.saturating_sub(before + data) / keys)
    };
    let of_list = beyond(cache.cache())?;
    let mut times = update(&mut feed, &mut cache, updates)?;
    let after_updates = beyond(cache.cache())?;

    println!("| {keys} keys, values of {value} B | measured | bound |\n|---|--:|--:|");
    println!("| bytes of a key beyond the data, after the list | {of_list} | {MOST_BYTES} |");
    println!("| the same, after {updates} updates | {after_updates} | {MOST_BYTES} |");
    println!("| list, a key | {:?} | |", listing / u32::try_from(keys)?);
    times.sort_unstable();
    println!("| update of one key, median | {:?} | {LONGEST_UPDATE:?} |", part(&times, 500));
    println!("| update of one key, p99 | {:?} | |", part(&times, 990));

    let lasts = Duration::from_secs(seconds);
    let reading = readers::Readers::start(cache.cache(), keys, readers, lasts);
    let alone = reading.done();
    let reading = readers::Readers::start(cache.cache(), keys, readers, lasts);
    write(&mut feed, &mut cache, rate, lasts)?;
    let beside = reading.done();
    println!("\n| {readers} readers | reads/s | p50 | p99 | p99.9 |\n|---|--:|--:|--:|--:|");
    for (what, reads) in [("alone", &alone), ("beside the writer", &beside)] {
        let [half, most, nearly_all] = [500, 990, 999].map(|thousandths| reads.within(thousandths));
        println!("| {what} | {:.0} | {half:?} | {most:?} | {nearly_all:?} |", reads.per_second());
    }
    Ok(())
}

/// Lists all keys; how long the cache took.
fn list(feed: &mut Feed, cache: &mut CacheByHand) -> Result<Duration> {
    let mut took = Duration::ZERO;
    while let Some(events) = feed.page(PAGE)? {
        let began = Instant::now();
        for event in events {
            cache.take(&event);
        }
        took += began.elapsed();
    }
    Ok(took)
}

/// Updates keys, one in a revision, while a reader holds a snapshot; how long each took.
fn update(feed: &mut Feed, cache: &mut CacheByHand, updates: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(updates);
    let mut held = cache.cache().snapshot();
    for number in 0..updates {
        let event = feed.update()?;
        let began = Instant::now();
        cache.take(&event);
        times.push(began.elapsed());
        drop(event);
        if number % HELD_FOR == 0 {
            held = cache.cache().snapshot();
        }
    }
    drop(held);
    Ok(times)
}

/// Updates keys at a rate.
fn write(feed: &mut Feed, cache: &mut CacheByHand, rate: usize, lasts: Duration) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < lasts {
        for _ in 0..rate {
            cache.take(&feed.update()?);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The time within which so many thousandths of sorted times are.
fn part(times: &[Duration], thousandths: usize) -> Duration {
    times.get(times.len() * thousandths / 1_000).copied().unwrap_or_default()
}
