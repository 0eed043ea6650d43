//! Runs of many seeds on several threads, as the simulators' examples take them from their command lines.

use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it is told how far the run is.
const TELLS_EVERY: Duration = Duration::from_secs(60);

/// Which seeds are run, and on how many threads.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Seeds {
    /// The first seed.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub(crate) first: u64,
    /// How many seeds; 1000 unless `--minutes` is given.
    #[arg(long, value_name = "N")]
    pub(crate) seeds: Option<u64>,
    /// No seed is begun after so many minutes.
    #[arg(long, value_name = "N")]
    pub(crate) minutes: Option<NonZeroU64>,
    /// How many threads run seeds.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN)]
    pub(crate) jobs: NonZeroUsize,
}

impl Seeds {
    /// All of them.
    pub(crate) fn range(&self) -> Range<u64> {
        let unless_given = if self.minutes.is_some() { u64::MAX } else { 1000 };
        self.first..self.first.saturating_add(self.seeds.unwrap_or(unless_given))
    }

    /// Runs each seed until one fails, and adds up what comes of them in the order in which they end. No seed is begun
    /// after one that has failed.
    ///
    /// # Errors
    /// The failure of the lowest seed that fails, whatever the threads do: all seeds before it have been run.
    pub(crate) fn run<T, E: Send>(
        &self,
        run: impl Fn(u64) -> Result<T, E> + Sync,
        add: impl FnMut(T) + Send,
    ) -> Result<(), (u64, E)> {
        let Range { start, end } = self.range();
        let all = Run {
            next: AtomicU64::new(start),
            last: end,
            ends: self.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes.get())),
            has_failed: AtomicBool::new(false),
            failures: Mutex::new(Vec::new()),
            sum: Mutex::new(Sum { add, count: 0, told: Instant::now() }),
        };
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.get() {
                scope.spawn(|| all.work(&run));
            }
        });
        let failures = all.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        failures.into_iter().min_by_key(|(seed, _)| *seed).map_or(Ok(()), Err)
    }
}

/// Seeds that are being run.
struct Run<A, E> {
    next: AtomicU64,
    last: u64,
    ends: Option<Instant>,
    has_failed: AtomicBool,
    failures: Mutex<Vec<(u64, E)>>,
    sum: Mutex<Sum<A>>,
}

struct Sum<A> {
    add: A,
    count: u64,
    told: Instant,
}

impl<A, E> Run<A, E> {
    /// What one thread does.
    fn work<T>(&self, run: impl Fn(u64) -> Result<T, E>)
    where
        A: FnMut(T),
    {
        while !self.has_failed.load(Ordering::Relaxed) && self.ends.is_none_or(|end| Instant::now() < end) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.last {
                return;
            }
            match run(seed) {
                Ok(done) => self.sum.lock().unwrap_or_else(PoisonError::into_inner).add(done),
                Err(failure) => {
                    self.has_failed.store(true, Ordering::Relaxed);
                    self.failures.lock().unwrap_or_else(PoisonError::into_inner).push((seed, failure));
                }
            }
        }
    }
}

impl<A> Sum<A> {
    fn add<T>(&mut self, done: T)
    where
        A: FnMut(T),
    {
        (self.add)(done);
        self.count += 1;
        if self.told.elapsed() > TELLS_EVERY {
            self.told = Instant::now();
            eprintln!("{} seeds so far", self.count);
        }
    }
}
