//! What is written, through the clients that watch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use etcd_watch_client::{CallError, Client, Delete, KeyRange, Put, Txn};
use fastrand::Rng;
use tokio::{sync::RwLock, task::JoinHandle};

use crate::{
    clients::NamedClient,
    clock::Clock,
    keys::{KEYS, KEYS_PER_GROUP, before_mark, key, mark},
};

/// Whoever writes holds it for reading, and finds the store's clock in it; whoever holds it for writing has peace.
pub(crate) type Gate = Arc<RwLock<Arc<Clock>>>;

/// The shortest that servers grant.
const LEASE: Duration = Duration::from_secs(2);
const LARGEST_VALUE: usize = 400;
/// How many writers each client has: one that waits for a leader is not to be all there is.
const WRITERS_PER_CLIENT: u32 = 2;

/// Tasks that write until they are dropped.
pub(crate) struct Writers {
    tasks: Vec<JoinHandle<()>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    made: AtomicU64,
    unsure: AtomicU64,
    failed: AtomicU64,
}

/// What came of the writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// They were acknowledged.
    pub made: u64,
    /// They may or may not have been made.
    pub unsure: u64,
    /// They were not made: nobody answered in time, or a lease had run out.
    pub failed: u64,
}

impl Writers {
    pub(crate) fn start(clients: &[NamedClient], gate: &Gate, per_second: u32, seed: u64) -> Self {
        let counts = Arc::new(Counts::default());
        let writers =
            u32::try_from(clients.len()).unwrap_or(u32::MAX).saturating_mul(WRITERS_PER_CLIENT).max(1);
        let pace = Duration::from_secs(1) * writers / per_second.max(1);
        let each = clients.iter().flat_map(|client| (0..WRITERS_PER_CLIENT).map(|_| client.client.clone()));
        let tasks = (0..).zip(each).map(|(number, client)| {
            let random = Rng::with_seed(seed.wrapping_add(number));
            tokio::spawn(write_on(client, gate.clone(), counts.clone(), pace, random))
        });
        Self { tasks: tasks.collect(), counts: counts.clone() }
    }

    pub(crate) fn counts(&self) -> Writes {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { made, unsure, failed } = &*self.counts;
        Writes { made: count(made), unsure: count(unsure), failed: count(failed) }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Writes something that every watch sees; its revision. Not retried.
pub(crate) async fn write_mark(client: &Client, clock: &Clock) -> Result<i64, CallError> {
    clock.acknowledge(transact(client, before_mark()).await?);
    let revision = transact(client, mark()).await?;
    clock.acknowledge(revision);
    Ok(revision)
}

async fn write_on(client: Client, gate: Gate, counts: Arc<Counts>, pace: Duration, mut random: Rng) {
    let mut lease = 0;
    let mut ticks = tokio::time::interval(pace);
    // After a fault there is no need to make up for what was not written.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let clock = gate.read().await;
        let counter = match write(&client, &mut random, &mut lease).await {
            Ok(revision) => {
                clock.acknowledge(revision);
                &counts.made
            }
            Err(CallError::MaybeExecuted { .. }) => &counts.unsure,
            Err(_) => &counts.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

async fn write(client: &Client, random: &mut Rng, lease: &mut i64) -> Result<i64, CallError> {
    let index = random.u32(..KEYS);
    match random.u32(..100) {
        0..60 => client.put(key(index), value(random)).await.map(|put| put.revision()),
        60..72 => transact(client, Txn::new().and_then(Delete::key(key(index)))).await,
        72..75 => {
            // Several at once, if they are there.
            let first = index / KEYS_PER_GROUP * KEYS_PER_GROUP;
            let range = KeyRange::range(key(first), key(first + 4)).expect("the keys are in order");
            transact(client, Txn::new().and_then(Delete::new(range))).await
        }
        75..94 => transact(client, transaction(index, random)).await,
        _ => {
            // The one of before may have run out: that write fails, and the next one has a lease of its own.
            if *lease == 0 || random.bool() {
                *lease = client.lease_grant(LEASE).await?.id();
            }
            let put = Put::new(key(index), value(random)).lease(*lease);
            let written = client.put_with(put).await;
            if written.is_err() {
                *lease = 0;
            }
            written.map(|put| put.revision())
        }
    }
}

/// Makes a transaction; its revision. One that changed nothing has the revision of an earlier one.
async fn transact(client: &Client, txn: Txn) -> Result<i64, CallError> {
    Ok(client.txn(txn).await?.revision())
}

/// Several keys in a row, none twice.
fn transaction(index: u32, random: &mut Rng) -> Txn {
    let count = random.u32(2..12);
    (index..index + count).fold(Txn::new(), |txn, index| {
        let key = key(index % KEYS);
        if random.u32(..5) == 0 {
            txn.and_then(Delete::key(key))
        } else {
            txn.and_then(Put::new(key, value(random)))
        }
    })
}

fn value(random: &mut Rng) -> Vec<u8> {
    let length = random.usize(8..=LARGEST_VALUE);
    std::iter::repeat_with(|| random.alphanumeric() as u8).take(length).collect()
}
