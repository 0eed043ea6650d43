//! Waits until watches run.

use std::time::Duration;

use anyhow::{Context, Result};
use etcd_watch_tokio::{Watch, WatchState};
use tokio::time::{sleep, timeout};

/// How long all watches may take to be created.
const DEADLINE: Duration = Duration::from_secs(120);

/// Between two looks at whether a watch runs.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until all watches run on the server, and takes no responses of them: responses that wait would count as memory of
/// the watches. On tokio.
///
/// # Errors
/// Some don't run after two minutes.
pub async fn all_run(watches: &[Watch]) -> Result<()> {
    let is_running = |watch: &Watch| watch.stats().is_some_and(|stats| stats.state == WatchState::Active);
    let all_run = async {
        for watch in watches {
            while !is_running(watch) {
                sleep(LOOK_EVERY).await;
            }
        }
    };
    timeout(DEADLINE, all_run).await.context("not all watches were created in time")
}
