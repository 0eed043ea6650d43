//! Waits until watches run.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use etcd_watch_tokio::{Client, Watch, WatchState};

/// How long all watches may take to be created.
const DEADLINE: Duration = Duration::from_secs(120);

/// Between two looks at whether a watch runs.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until all watches run on the server, and takes no responses of them: responses that wait would count as memory of
/// the watches.
///
/// # Errors
/// Some don't run after two minutes.
pub async fn all_run(client: &Client, watches: &[Watch]) -> Result<()> {
    let is_running = |watch: &Watch| watch.stats().is_some_and(|stats| stats.state == WatchState::Active);
    let begun = Instant::now();
    for watch in watches {
        while !is_running(watch) {
            ensure!(begun.elapsed() < DEADLINE, "not all watches were created in time");
            client.runtime().sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}
