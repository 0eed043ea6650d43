//! The experiment of Jepsen's analyses of etcd: contenders add to a register under a lock while holders stand still. How
//! many additions are lost depends on how the holder makes sure that it still has the lock.

use std::ops::AddAssign;
use std::time::Duration;

use etcd_watch_client::concurrency::{Mutex, Name};
use etcd_watch_client::{BoxError, Client, Get, Put, Txn};
use etcd_watch_testkit::sim::{Failure, Host, World};

use super::stage::{sim, up_to};
use super::trouble::{on_the_way, open_session, stand_still};
use super::truth::history;

const TTL: Duration = Duration::from_secs(3);

/// How a holder makes sure that it holds the lock when it writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Holder {
    /// Not at all: it has had the lock.
    Believes,
    /// It asks the guard right before.
    Asks,
    /// The server checks the fencing token in the transaction that writes.
    Fenced,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Additions {
    /// Additions that the store has executed.
    pub(crate) executed: u64,
    /// Those of them that are not in the register at the end.
    pub(crate) lost: u64,
}

impl AddAssign for Additions {
    fn add_assign(&mut self, other: Self) {
        self.executed += other.executed;
        self.lost += other.lost;
    }
}

/// Runs the experiment with a seed, for so long.
pub(crate) fn run(holder: Holder, lasts: Duration, seed: u64) -> Result<Additions, Box<Failure>> {
    let mut additions = Additions::default();
    let told = &mut additions;
    sim().run(seed, move |world| async move {
        *told = add_up(world, lasts, holder).await?;
        Ok(())
    })?;
    Ok(additions)
}

/// The experiment as a promise: nothing is lost.
pub(super) async fn nothing_is_lost(world: World, lasts: Duration, holder: Holder) -> Result<(), BoxError> {
    let Additions { executed, lost } = add_up(world, lasts, holder).await?;
    match lost {
        0 if executed < 10 => Err(format!("hardly anything was added: {executed} times").into()),
        0 => Ok(()),
        lost => Err(format!("{lost} of {executed} additions are lost").into()),
    }
}

async fn add_up(world: World, lasts: Duration, holder: Holder) -> Result<Additions, BoxError> {
    for name in ["a", "b", "c", "d", "e"] {
        let host = world.host(name);
        host.spawn(add(world.clone(), host.clone(), host.client().connect_lazy()?, holder));
        let (world, mut rng) = (world.clone(), world.rng());
        tokio::spawn(async move {
            loop {
                world.sleep(up_to(&mut rng, 30_000)).await;
                stand_still(&world, &host, &mut rng, 12_000).await;
            }
        });
    }
    world.faults(on_the_way().every(Duration::from_secs(10))).await;
    world.sleep(lasts).await;
    let (mut executed, mut last) = (0, 0);
    for put in history(world.etcd()).iter().filter(|change| change.key == "register") {
        executed += 1;
        last = String::from_utf8(put.value.to_vec())?.parse::<u64>()?;
    }
    Ok(Additions { executed, lost: executed - last })
}

async fn add(world: World, host: Host, client: Client, holder: Holder) -> Result<(), BoxError> {
    let mut rng = world.rng();
    loop {
        let session = open_session(&host, &client, TTL).await;
        let mutex = Mutex::new(&session, Name::new("lock")?);
        while let Ok(guard) = mutex.lock().await {
            let Ok(read) = client.get(Get::key("register")).await else { continue };
            let count = read.first().map_or("0", |kv| kv.value_str().unwrap_or("0")).parse::<u64>()?;
            host.sleep(up_to(&mut rng, 1000)).await;
            let add = Txn::new().and_then(Put::new("register", (count + 1).to_string()));
            // The outcome of a write is the store's to tell.
            match holder {
                Holder::Fenced => drop(client.txn(add.when(guard.is_owner())).await),
                Holder::Asks if !guard.is_held() => {}
                Holder::Asks | Holder::Believes => drop(client.txn(add).await),
            }
            let _ = guard.unlock().await;
        }
    }
}
