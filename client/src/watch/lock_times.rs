//! How long the hub's lock is held, for the bench. Compiled in only with `--cfg etcd_watch_lock_times`: the product has
//! neither the clocks nor the branch.

use std::{
    ops::{Deref, DerefMut},
    panic::Location,
    sync::{MutexGuard, OnceLock},
    time::Duration,
};

/// A time by two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// By the clock on the wall.
    pub wall: Duration,
    /// The processor time of the calling thread.
    pub cpu: Duration,
}

/// Reads the clocks, and is told each time for how long the lock was held.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Called right after the lock was taken, and right before it is released.
    pub now: fn() -> Clocks,
    /// Called after it was released, with the code that had taken it.
    pub held: fn(Clocks, &'static Location<'static>),
}

static PROBE: OnceLock<Probe> = OnceLock::new();

/// From now on the probe is told. The first one stays.
pub fn install(probe: Probe) {
    let _ = PROBE.set(probe);
}

/// A guard that is measured. Its fields are dropped in this order: the lock is released before the probe is told.
pub(crate) struct Timed<'a, T> {
    guard: MutexGuard<'a, T>,
    time: Option<Time>,
}

struct Time {
    probe: Probe,
    since: Clocks,
    until: Clocks,
    by: &'static Location<'static>,
}

impl<'a, T> Timed<'a, T> {
    #[track_caller]
    pub(crate) fn new(guard: MutexGuard<'a, T>) -> Self {
        let by = Location::caller();
        let time = PROBE.get().map(|&probe| {
            let since = (probe.now)();
            Time { probe, since, until: since, by }
        });
        Self { guard, time }
    }
}

impl<T> Deref for Timed<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for Timed<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for Timed<'_, T> {
    fn drop(&mut self) {
        if let Some(time) = &mut self.time {
            time.until = (time.probe.now)();
        }
    }
}

impl Drop for Time {
    fn drop(&mut self) {
        let Self { probe, since, until, by } = *self;
        let wall = until.wall.saturating_sub(since.wall);
        (probe.held)(Clocks { wall, cpu: until.cpu.saturating_sub(since.cpu) }, by);
    }
}
