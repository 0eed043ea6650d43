//! What this process has used, as Linux tells it.

use std::{io, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// The processor time of all threads of this process, in user and system mode.
#[must_use]
pub fn cpu() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// The processor time of this thread, in user and system mode.
#[must_use]
pub fn thread_cpu() -> Duration {
    read(ClockId::ThreadCPUTime)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    // The clock begins at zero, so neither part is negative.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The most memory that this process has had, in bytes: what Linux calls `VmHWM`.
///
/// # Errors
/// `/proc` doesn't tell it: the system is not Linux.
pub fn peak_rss() -> io::Result<u64> {
    status("VmHWM:")
}

/// The memory that this process has now, in bytes: what Linux calls `VmRSS`.
///
/// # Errors
/// `/proc` doesn't tell it: the system is not Linux.
pub fn rss() -> io::Result<usize> {
    usize::try_from(status("VmRSS:")?).map_err(io::Error::other)
}

fn status(name: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
    let kib: Option<u64> = kib.and_then(|kib| kib.parse().ok());
    Ok(kib.ok_or_else(|| io::Error::other(format!("/proc/self/status has no {name}")))? << 10)
}
