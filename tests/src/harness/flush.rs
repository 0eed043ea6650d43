//! What a restart finds on disk.

use std::time::{Duration, Instant};

use super::{EtcdServer, Etcdctl, HarnessError, wait::INTERVAL};

/// How long a commit may take; etcd makes one every 100 ms if there is something to write.
const PATIENCE: Duration = Duration::from_secs(20);
/// The key that is written to have something to commit.
const KEY: &str = "testkit/flush";

impl EtcdServer {
    /// Writes until all that was done so far is in the database on disk, so that a restart doesn't do it again from
    /// the log. That matters to what is not in the database: simple tokens. A server that repeats the call which issued
    /// one knows it again; after a flush they are unknown to a restarted server for sure.
    ///
    /// Puts the key `testkit/flush`, twice, through this `etcdctl`, which has to be allowed to.
    ///
    /// # Errors
    /// If the key can't be put, or the server doesn't write to disk within 20 s.
    pub async fn flush(&self, etcdctl: &Etcdctl) -> Result<(), HarnessError> {
        // The first commit seen may have begun before the first put; the second one can't have.
        for _ in 0..2 {
            let before = self.commits()?;
            etcdctl.run(["put", KEY, ""]).await?;
            let end = Instant::now() + PATIENCE;
            while self.commits()? <= before {
                if Instant::now() >= end {
                    return Err(HarnessError::NotFlushed { waited: PATIENCE });
                }
                tokio::time::sleep(INTERVAL).await;
            }
        }
        Ok(())
    }

    fn commits(&self) -> Result<f64, HarnessError> {
        self.metric("etcd_disk_backend_commit_duration_seconds_count")
    }
}
