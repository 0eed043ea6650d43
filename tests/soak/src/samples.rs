//! What is looked at once a second.

use std::{fs, time::Duration};

/// What was seen at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Since the soak began.
    pub at: Duration,
    /// Events delivered by then.
    pub delivered: u64,
    /// Memory of the process, which all clients and the checker are in, in bytes; `None` where it is not known how to
    /// ask.
    pub rss: Option<u64>,
    /// Watches that the members hold; `None` while one of them can't be asked.
    pub server_watchers: Option<u64>,
}

/// The memory that this process takes, in bytes.
pub(crate) fn rss() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_takes_memory() {
        assert!(super::rss().is_some_and(|rss| rss > 100_000));
    }
}
