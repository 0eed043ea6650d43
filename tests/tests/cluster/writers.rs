//! Writes of every kind, at random, through the clients that watch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use etcd_watch_client::{CallError, Client, Delete, KeyRange, Put, Txn};
use tokio::task::JoinSet;

use crate::kinds::{KEYS, key};

/// The pace of each writer: enough that something is always on its way, and a history that is soon compared.
const PACE: Duration = Duration::from_millis(15);

/// One writer for each client, until told to stop.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    made: AtomicU64,
    unsure: AtomicU64,
    late: AtomicU64,
}

impl Writers {
    pub(crate) fn start<'a>(clients: impl IntoIterator<Item = &'a Client>) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let mut tasks = JoinSet::new();
        for (seed, client) in (1..).zip(clients) {
            let (client, stop, counts) = (client.clone(), stop.clone(), counts.clone());
            let mut random = fastrand::Rng::with_seed(seed);
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    counts.count(write(&client, &mut random).await);
                    tokio::time::sleep(PACE).await;
                }
            });
        }
        Self { stop, counts, tasks }
    }

    /// How many writes were made.
    pub(crate) fn made(&self) -> u64 {
        self.counts.made.load(Ordering::Relaxed)
    }

    /// Waits for their last writes; what came of all, in words.
    pub(crate) async fn stop(mut self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("the writer writes");
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { made, unsure, late } = &*self.counts;
        format!("{} writes made, {} maybe, {} not for lack of time", count(made), count(unsure), count(late))
    }
}

impl Counts {
    fn count(&self, result: Result<(), CallError>) {
        let counter = match result {
            Ok(()) => &self.made,
            Err(CallError::MaybeExecuted { .. }) => &self.unsure,
            Err(CallError::Timeout { .. }) => &self.late,
            Err(error) => panic!("no fault of the cluster explains {error}"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

async fn write(client: &Client, random: &mut fastrand::Rng) -> Result<(), CallError> {
    let index = random.u32(..KEYS);
    let value = "x".repeat(random.usize(..200)) + &random.u32(..).to_string();
    match random.u32(..10) {
        0..=4 => client.put(Put::new(key(index), value)).await.map(drop),
        5..=6 => client.delete(Delete::key(key(index))).await.map(drop),
        7 => {
            // Several at once, if they are there; what a mark has put stays.
            let range = KeyRange::range(key(index / 4 * 4), key(index / 4 * 4 + 3));
            client.delete(Delete::new(range.expect("it is not empty"))).await.map(drop)
        }
        _ => {
            let count = 2 + random.u32(..KEYS - 2);
            let txn = (index..index + count).fold(Txn::new(), |txn, index| {
                let key = key(index % KEYS);
                if index % 5 == 0 {
                    txn.and_then(Delete::key(key))
                } else {
                    txn.and_then(Put::new(key, value.clone()))
                }
            });
            client.txn(txn).await.map(drop)
        }
    }
}
