//! The experiment of Jepsen's analyses of etcd: contenders add to a register under a lock while holders stand still. How
//! many additions are lost depends on how the holder makes sure that it still has the lock.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use etcd_watch_client::concurrency::{Mutex, Name, Session};
use etcd_watch_client::{BoxError, Client, Get, Put, Txn};
use etcd_watch_testkit::sim::{Failure, Faults, Host, Sim, World};

use super::trouble::{on_the_way, stand_still, up_to};
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

/// Runs the experiment with seeds, for so long each.
pub(crate) fn run(
    holder: Holder,
    lasts: Duration,
    seeds: impl IntoIterator<Item = u64>,
) -> Result<Additions, Box<Failure>> {
    let all = Arc::new(StdMutex::new(Additions::default()));
    let sim = Sim::new().limit(Duration::from_secs(7 * 86_400));
    sim.run_seeds(seeds, |world| {
        let all = all.clone();
        async move {
            let run = add_up(world, lasts, holder).await?;
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.executed += run.executed;
            all.lost += run.lost;
            Ok(())
        }
    })?;
    let all = *all.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(all)
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
    let faults: Faults = on_the_way().every(Duration::from_secs(10));
    world.faults(faults).await;
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
        let Ok(session) = Session::builder(&client).ttl(TTL).open().await else {
            host.sleep(Duration::from_millis(500)).await;
            continue;
        };
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
