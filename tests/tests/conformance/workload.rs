//! Writes of every kind, at random, by several writers at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use etcd_watch_client::{Client, Delete, KeyRange, Put, Txn};
use tokio::task::JoinSet;

const WRITERS: u64 = 4;
const KEYS: u32 = 12;

/// Writers of the keys `w/a0` to `w/c3`, that stop after a number of writes or when told to.
pub(crate) struct Workload {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Workload {
    pub(crate) fn start(client: &Client, seed: u64, writes: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let (client, stop) = (client.clone(), stop.clone());
            let mut random = Random(seed.wrapping_mul(1_000).wrapping_add(writer + 1));
            tasks.spawn(async move {
                for count in 0..writes {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    write(&client, &mut random, count).await;
                }
            });
        }
        Self { stop, tasks }
    }

    pub(crate) async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.finish_all().await;
    }

    pub(crate) async fn finish(mut self) {
        self.finish_all().await;
    }

    async fn finish_all(&mut self) {
        while let Some(done) = self.tasks.join_next().await {
            done.expect("the writer writes");
        }
    }
}

async fn write(client: &Client, random: &mut Random, count: usize) {
    let key = key(random.below(KEYS));
    let value = "x".repeat(random.below(200) as usize) + &count.to_string();
    match random.below(10) {
        0..=5 => {
            client.put(Put::new(key, value)).await.expect("it is put");
        }
        6..=7 => {
            client.delete(Delete::key(key)).await.expect("it is deleted");
        }
        8 => {
            // A whole letter at once.
            let letter = KeyRange::prefix(key.as_bytes()[..3].to_vec());
            client.delete(Delete::new(letter)).await.expect("they are deleted");
        }
        _ => {
            let first = random.below(KEYS);
            let count = 1 + random.below(KEYS - 1);
            let txn = (first..first + count).fold(Txn::new(), |txn, index| {
                let key = self::key(index % KEYS);
                if index % 5 == 0 {
                    txn.and_then(Delete::key(key))
                } else {
                    txn.and_then(Put::new(key, value.clone()))
                }
            });
            client.txn(txn).await.expect("the transaction is made");
        }
    }
}

fn key(index: u32) -> String {
    let letter = ["a", "b", "c"][(index / 4) as usize % 3];
    format!("w/{letter}{}", index % 4)
}

/// Good enough to choose writes, and the same for the same seed: Knuth's MMIX generator.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let high = u32::try_from(self.0 >> 33).expect("31 bits");
        high % limit
    }
}
