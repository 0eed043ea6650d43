//! How long the lock between the driver and the consumers was held, by processor time and by the clock on the wall.

use std::{
    fmt,
    panic::Location,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use etcd_watch_bench::usage;
use etcd_watch_client::lock_times::{Clocks, Probe, install};

/// The times are counted in steps of so many nanoseconds, up to a longest.
const STEP: u64 = 100;
const STEPS: usize = 10_000;

/// The times since the last call of [`times`].
static HELD: Held = Held { wall: Histogram::new(), cpu: Histogram::new(), longest: Mutex::new(None) };

/// Times of both clocks.
pub(crate) struct Held {
    wall: Histogram,
    cpu: Histogram,
    /// By processor time, and what code held the lock.
    longest: Mutex<Option<(Duration, &'static Location<'static>)>>,
}

struct Histogram {
    steps: [AtomicU64; STEPS],
    longest: AtomicU64,
}

/// What was measured in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    cpu: Quantiles,
    wall: Quantiles,
    longest_by: Option<&'static Location<'static>>,
}

#[derive(Clone, Copy, Debug)]
struct Quantiles {
    count: u64,
    p50: Duration,
    p999: Duration,
    p9999: Duration,
    longest: Duration,
}

/// Has the client tell how long it holds its lock.
pub(crate) fn measure() {
    install(Probe { now, held: |clocks, by| HELD.add(clocks, by) });
}

/// What was measured since the last call.
pub(crate) fn times() -> Times {
    let longest = HELD.longest.lock().unwrap_or_else(PoisonError::into_inner).take();
    Times { cpu: HELD.cpu.take(), wall: HELD.wall.take(), longest_by: longest.map(|(_, by)| by) }
}

fn now() -> Clocks {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    Clocks { wall: EPOCH.get_or_init(Instant::now).elapsed(), cpu: usage::thread_cpu() }
}

impl Held {
    fn add(&self, Clocks { wall, cpu }: Clocks, by: &'static Location<'static>) {
        self.wall.add(wall);
        if self.cpu.add(cpu) {
            let mut longest = self.longest.lock().unwrap_or_else(PoisonError::into_inner);
            if longest.is_none_or(|(longest, _)| longest < cpu) {
                *longest = Some((cpu, by));
            }
        }
    }
}

impl Histogram {
    const fn new() -> Self {
        Self { steps: [const { AtomicU64::new(0) }; STEPS], longest: AtomicU64::new(0) }
    }

    /// Whether it is the longest so far.
    fn add(&self, time: Duration) -> bool {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let step = usize::try_from(nanos / STEP).unwrap_or(usize::MAX).min(STEPS - 1);
        self.steps[step].fetch_add(1, Ordering::Relaxed);
        self.longest.fetch_max(nanos, Ordering::Relaxed) < nanos
    }

    /// What was added, which is forgotten.
    fn take(&self) -> Quantiles {
        let steps: Vec<u64> = self.steps.iter().map(|step| step.swap(0, Ordering::Relaxed)).collect();
        let longest = Duration::from_nanos(self.longest.swap(0, Ordering::Relaxed));
        let count = steps.iter().sum();
        let at = |share: f64| Duration::from_nanos(quantile(&steps, share)).min(longest);
        Quantiles { count, p50: at(0.5), p999: at(0.999), p9999: at(0.9999), longest }
    }
}

/// The upper end, in nanoseconds, of the step that holds this quantile.
fn quantile(steps: &[u64], share: f64) -> u64 {
    let rank = (steps.iter().sum::<u64>() as f64 * share).ceil() as u64;
    let mut below = 0;
    let step = steps.iter().position(|count| {
        below += count;
        below >= rank
    });
    (step.unwrap_or(steps.len()) as u64 + 1) * STEP
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, wall, longest_by } = self;
        write!(f, "held {} times; processor time: {cpu}; time: {wall}", cpu.count)?;
        match longest_by {
            Some(by) => write!(f, "; the longest by {}:{}", by.file(), by.line()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p999, p9999, longest] =
            [self.p50, self.p999, self.p9999, self.longest].map(|time| time.as_secs_f64() * 1e6);
        write!(f, "{p50:.1} us p50, {p999:.1} us p99.9, {p9999:.1} us p99.99, {longest:.1} us longest")
    }
}
