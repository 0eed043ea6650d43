//! Services and clients with a bug that seeds have to find, and the same ones without it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use etcd_watch_client::concurrency::{Mutex, Name, Session};
use etcd_watch_client::{BoxError, Client, Get, KeyRange, Put, Txn, WatchRequest};
use etcd_watch_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request};
use etcd_watch_testkit::sim::{FaultKind, Faults, Host, Sim, World};

use crate::scenarios;
use crate::scenarios::agreement::watches_agree;
use crate::scenarios::linearizable::{Puts, calls_are_those_of_one_store};
use crate::scenarios::told::Told;

/// Seeds of which one has to find a bug.
const ENOUGH: u64 = 100;
/// Seeds that find none where there is none.
const WELL: u64 = 10;

fn sim() -> Sim {
    Sim::new().limit(Duration::from_secs(7 * 86_400))
}

/// One of the seeds fails for this reason.
fn finds<S: Future<Output = Result<(), BoxError>>>(what: &str, scenario: impl FnMut(World) -> S) {
    let failure = sim().run_seeds(0..ENOUGH, scenario).expect_err("it is found");
    println!("{what}: found by seed {}: {}", failure.seed, failure.cause);
    assert!(failure.cause.to_string().contains(what), "{failure}");
}

fn is_well<S: Future<Output = Result<(), BoxError>>>(scenario: impl FnMut(World) -> S) {
    sim().run_seeds(0..WELL, scenario).unwrap_or_else(|failure| panic!("{failure}"));
}

/// What outlives a process.
#[derive(Debug, Default)]
struct Disk {
    checkpoint: i64,
    seen: BTreeSet<(i64, Vec<u8>)>,
}

type Shared = Arc<StdMutex<Disk>>;

fn with<T>(disk: &Shared, work: impl FnOnce(&mut Disk) -> T) -> T {
    work(&mut disk.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Works on events, and goes on behind the checkpoint. With the bug it saves one after each event, though a revision may
/// have more of them.
async fn consume(client: Client, host: Host, disk: Shared, has_bug: bool) -> Result<(), BoxError> {
    let from = with(&disk, |disk| disk.checkpoint) + 1;
    let mut watch = client.watch(WatchRequest::new(KeyRange::prefix("k")).start_revision(from))?;
    while let Some(response) = watch.try_next().await? {
        let events: Vec<_> =
            response.events().map(|event| (event.mod_revision(), event.key().to_vec())).collect();
        let last = events.last().map(|(revision, _)| *revision);
        for (revision, key) in events {
            host.sleep(Duration::from_millis(20)).await;
            with(&disk, |disk| disk.seen.insert((revision, key)));
            if has_bug {
                with(&disk, |disk| disk.checkpoint = revision);
            }
        }
        if let Some(last) = last {
            with(&disk, |disk| disk.checkpoint = last);
        }
    }
    Ok(())
}

/// The consumer's process is killed now and then; in the end it has seen everything.
async fn everything_is_seen(world: World, has_bug: bool) -> Result<(), BoxError> {
    let (host, disk, mut rng) = (world.host("consumer"), Shared::default(), world.rng());
    world.faults(Faults::all().without(FaultKind::Compaction).without(FaultKind::Suspend)).await;
    let etcd = world.etcd().clone();
    let writing = tokio::spawn({
        let mut rng = world.rng();
        async move {
            for _ in 0..50 {
                let put =
                    |key: u8| PutRequest { key: vec![b'k', b'0' + key].into(), ..PutRequest::default() };
                let op = |key| RequestOp { request: Some(Request::RequestPut(put(key))) };
                let txn = TxnRequest { success: (0..3).map(op).collect(), ..TxnRequest::default() };
                etcd.with_model(|model| model.txn(&txn)).expect("a lawful transaction");
                tokio::time::sleep(Duration::from_millis(rng.u64(..1000))).await;
            }
        }
    });
    for _ in 0..10 {
        let process = consume(host.client().connect_lazy()?, host.clone(), disk.clone(), has_bug);
        let process = host.spawn(process);
        world.sleep(Duration::from_millis(rng.u64(..6000))).await;
        host.kill();
        assert!(process.await.is_none(), "it is killed");
    }
    writing.await?;
    world.calm().await;
    let _process = host.spawn(consume(host.client().connect_lazy()?, host.clone(), disk.clone(), has_bug));
    world.sleep(Duration::from_secs(60)).await;
    for event in world.etcd().history() {
        let kv = event.kv.unwrap_or_default();
        if !with(&disk, |disk| disk.seen.contains(&(kv.mod_revision, kv.key.to_vec()))) {
            return Err(format!("never seen: {:?} at {}", kv.key, kv.mod_revision).into());
        }
    }
    Ok(())
}

#[test]
fn a_consumer_that_resumes_within_a_revision_is_found() {
    finds("never seen", |world| everything_is_seen(world, true));
    is_well(|world| everything_is_seen(world, false));
}

/// Adds to a counter, under a lock. With the bug the write doesn't depend on the lock being held, and on nobody having
/// added meanwhile.
async fn add(client: Client, host: Host, has_bug: bool) -> Result<(), BoxError> {
    loop {
        let Ok(session) = Session::builder(&client).ttl(Duration::from_secs(3)).open().await else {
            host.sleep(Duration::from_millis(500)).await;
            continue;
        };
        let mutex = Mutex::new(&session, Name::new("lock")?);
        while let Ok(guard) = mutex.lock().await {
            let Ok(read) = client.get(Get::key("counter")).await else { break };
            let count = read.first().map_or("0", |kv| kv.value_str().unwrap_or("0")).parse::<u64>()?;
            let unchanged = read.first().map_or(0, |kv| kv.mod_revision);
            host.sleep(Duration::from_millis(300)).await;
            let put = Put::new("counter", (count + 1).to_string());
            let txn = Txn::new().and_then(put);
            let same = etcd_watch_client::Compare::mod_revision(KeyRange::key("counter")).equals(unchanged);
            let txn = if has_bug { txn } else { txn.when(guard.is_owner()).when(same) };
            let _ = client.txn(txn).await;
            let _ = guard.unlock().await;
        }
    }
}

/// Nobody's addition is lost.
async fn the_counter_only_goes_up(world: World, has_bug: bool) -> Result<(), BoxError> {
    for name in ["a", "b", "c"] {
        let host = world.host(name);
        host.spawn(add(host.client().connect_lazy()?, host.clone(), has_bug));
    }
    world.faults(Faults::all()).await;
    world.sleep(Duration::from_secs(60)).await;
    world.calm().await;
    let history = world.etcd().history();
    let puts = history.iter().filter_map(|event| event.kv.as_ref()).filter(|kv| kv.key == "counter");
    for (kv, expected) in puts.zip(1..) {
        if kv.value != expected.to_string() {
            return Err(format!("an addition is lost: {:?} instead of {expected}", kv.value).into());
        }
    }
    Ok(())
}

#[test]
fn a_lock_without_fencing_is_found() {
    finds("an addition is lost", |world| the_counter_only_goes_up(world, true));
    is_well(|world| the_counter_only_goes_up(world, false));
}

#[test]
fn a_client_that_repeats_a_put_that_may_have_been_executed_is_found() {
    finds("Once was broken", |world| calls_are_those_of_one_store(world, Puts::Repeated));
}

#[test]
fn a_client_that_takes_a_lost_answer_for_a_refusal_is_found() {
    finds("NotExecuted was broken", |world| calls_are_those_of_one_store(world, Puts::Denied));
}

#[test]
fn a_watch_that_leaves_an_event_out_is_found_by_others() {
    finds("a0 lacks an event of it", |world| watches_agree(world, Told::WithoutAnEvent));
}

#[test]
fn a_watch_that_tells_a_revision_in_parts_is_found_by_others() {
    finds("a0 has it in parts", |world| watches_agree(world, Told::InParts));
}

#[test]
fn a_watch_that_stops_is_no_success() {
    finds("unknown whether they agree: a0 is at", |world| watches_agree(world, Told::NotToTheEnd));
}

/// Each is found, for the right reason, by one of a few seeds.
#[test]
fn bugs_of_sessions_locks_elections_configurations_and_registrations_are_found() {
    const LASTS: Duration = Duration::from_secs(120);
    for (what, told, scenario) in scenarios::PLANTED {
        let failure = scenarios::find(scenario, LASTS, 0..20).unwrap_or_else(|| panic!("{what}: not found"));
        println!("{what}: found by seed {}: {}", failure.seed, failure.cause);
        assert!(failure.cause.to_string().contains(told), "{what}: {failure}");
    }
}
