//! What is written: puts, deletes, transactions over several keys, and keys that go with their lease.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use etcd_watch_tokio::{CallError, Client, Delete, KeyRange, Put, Txn};
use fastrand::Rng;
use tokio::task::JoinSet;

/// The first part of every key that is written.
pub(super) const PREFIXES: [&str; 4] = ["config/", "jobs/", "locks/", "services/"];

/// The key that is written most.
pub(super) const HOT_KEY: &str = "config/flags";

const WRITERS: u64 = 4;
const KEYS_PER_PREFIX: u64 = 200;
const LARGEST_VALUE: usize = 512;

/// The shortest that servers grant.
const LEASE: Duration = Duration::from_secs(2);

/// A writer rests for so many microseconds after each write: some 400 writes a second each.
const REST_MICROS: std::ops::Range<u64> = 500..3500;

/// Tasks that write until they are told to stop.
pub(super) struct Writers {
    tasks: JoinSet<Result<(), CallError>>,
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
}

impl Writers {
    pub(super) fn start(client: &Client, seed: u64) -> Self {
        let mut tasks = JoinSet::new();
        let (stop, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        for writer in 0..WRITERS {
            let writer = Writer {
                client: client.clone(),
                rng: Rng::with_seed(seed.wrapping_mul(WRITERS).wrapping_add(writer)),
                writes: writes.clone(),
                leases: Vec::new(),
            };
            tasks.spawn(writer.run(stop.clone()));
        }
        Self { tasks, stop, writes }
    }

    /// How many requests have changed something so far.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Lets every writer finish what it is at, and end its leases: after this the store rests.
    pub(super) async fn stop(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(self.writes.load(Ordering::Relaxed))
    }
}

struct Writer {
    client: Client,
    rng: Rng,
    writes: Arc<AtomicU64>,
    leases: Vec<i64>,
}

impl Writer {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Result<(), CallError> {
        while !stop.load(Ordering::Relaxed) {
            self.write().await?;
            self.writes.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_micros(self.rng.u64(REST_MICROS))).await;
        }
        for &lease in &self.leases {
            // It may have run out meanwhile, which does the same.
            let _ = self.client.lease_revoke(lease).await;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), CallError> {
        match self.rng.u32(0..100) {
            0..55 => {
                let put = self.put();
                self.client.put_with(put).await?;
            }
            55..65 => {
                let put = Put::new(HOT_KEY, self.value());
                self.client.put_with(put).await?;
            }
            65..75 => {
                let key = self.key();
                self.client.delete(Delete::key(key)).await?;
            }
            75..77 => {
                // Ten keys or so, in one revision.
                let prefix =
                    format!("{}{:02}", self.rng.choice(PREFIXES).unwrap_or_default(), self.rng.u64(0..20));
                self.client.delete(Delete::new(KeyRange::prefix(prefix))).await?;
            }
            77..97 => {
                let txn = self.transaction();
                self.client.txn(txn).await?;
            }
            _ => {
                let lease = self.client.lease_grant(LEASE).await?.id();
                self.leases.push(lease);
                for _ in 0..self.rng.u32(1..4) {
                    let put = self.put().lease(lease);
                    self.client.put_with(put).await?;
                }
            }
        }
        Ok(())
    }

    /// Several keys, none twice: etcd refuses that.
    fn transaction(&mut self) -> Txn {
        let mut keys: Vec<String> = (0..self.rng.u32(2..9)).map(|_| self.key()).collect();
        keys.sort_unstable();
        keys.dedup();
        self.rng.shuffle(&mut keys);
        keys.into_iter().fold(Txn::new(), |txn, key| {
            if self.rng.u32(0..5) == 0 {
                txn.and_then(Delete::key(key))
            } else {
                txn.and_then(Put::new(key, self.value()))
            }
        })
    }

    fn put(&mut self) -> Put {
        Put::new(self.key(), self.value())
    }

    fn key(&mut self) -> String {
        format!("{}{:03}", self.rng.choice(PREFIXES).unwrap_or_default(), self.rng.u64(0..KEYS_PER_PREFIX))
    }

    fn value(&mut self) -> Vec<u8> {
        let length = self.rng.usize(8..=LARGEST_VALUE);
        std::iter::repeat_with(|| self.rng.alphanumeric() as u8).take(length).collect()
    }
}
