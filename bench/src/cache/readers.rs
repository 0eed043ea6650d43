//! Threads that read a cache, and how long their reads take.

use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use etcd_watch_client::cache::Cache;

use crate::feed;

/// Steps of a histogram in which a time doubles.
const STEPS: u32 = 8;

/// Threads that read until their time is over.
pub(crate) struct Readers {
    threads: Vec<JoinHandle<Reads>>,
}

/// How long reads took, in steps of an eighth.
pub(crate) struct Reads {
    counts: Vec<u64>,
    lasted: Duration,
}

impl Readers {
    pub(crate) fn start(cache: &Cache, keys: usize, readers: usize, lasts: Duration) -> Self {
        let start = |reader| {
            let cache = cache.clone();
            thread::spawn(move || read(&cache, keys, reader, lasts))
        };
        Self { threads: (0..readers).map(start).collect() }
    }

    /// Waits until the time is over.
    pub(crate) fn done(self) -> Reads {
        let mut all = Reads { counts: vec![0; 64 * STEPS as usize], lasted: Duration::ZERO };
        for thread in self.threads {
            let reads = thread.join().expect("a reader panics only if the cache has lost a key");
            all.counts.iter_mut().zip(&reads.counts).for_each(|(all, one)| *all += one);
            all.lasted = all.lasted.max(reads.lasted);
        }
        all
    }
}

fn read(cache: &Cache, keys: usize, reader: usize, lasts: Duration) -> Reads {
    let mut reads = Reads { counts: vec![0; 64 * STEPS as usize], lasted: lasts };
    let wanted: Vec<Vec<u8>> =
        (0..4_096).map(|at| feed::key((reader * 104_729 + at * 7_919) % keys)).collect();
    let began = Instant::now();
    let mut before = began;
    while before - began < lasts {
        for key in &wanted {
            assert!(cache.get(key).is_some(), "no key is ever deleted");
            let now = Instant::now();
            reads.count(now - before);
            before = now;
        }
    }
    reads
}

impl Reads {
    fn count(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(u64::from(STEPS));
        let doubled = nanos.ilog2();
        let step = (nanos >> (doubled - STEPS.ilog2())) as usize & (STEPS as usize - 1);
        self.counts[(doubled * STEPS) as usize + step] += 1;
    }

    /// The time within which so many thousandths of all reads were done.
    pub(crate) fn within(&self, thousandths: u64) -> Duration {
        let total: u64 = self.counts.iter().sum();
        let mut left = total * thousandths / 1_000;
        let at = self.counts.iter().position(|&count| {
            let is_here = count > left;
            left = left.saturating_sub(count);
            is_here
        });
        let at = at.unwrap_or(0) as u64;
        let (doubled, step) = (at / u64::from(STEPS), at % u64::from(STEPS));
        Duration::from_nanos(((u64::from(STEPS) + step + 1) << doubled) / u64::from(STEPS))
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    pub(crate) fn per_second(&self) -> f64 {
        self.counts.iter().sum::<u64>() as f64 / self.lasted.as_secs_f64()
    }
}
