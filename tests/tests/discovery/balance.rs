//! A balanced tonic channel, fed by discovery: the code of the example, on a real etcd.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use etcd_watch_client::{Put, discovery::ServiceEndpoint};
use etcd_watch_testkit::harness::wait_until;
use etcd_watch_tokio::balance::{self, BalanceHandle};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use crate::{
    example::{Instance, ask},
    runtime::On,
    world::{Backend, DEADLINE, TARGET, World, in_time, soon},
};

/// Of the instances' leases: long enough for a busy machine, and short enough to see the end of one that has crashed.
const TTL: Duration = Duration::from_secs(8);

/// Asks all the time, and counts.
struct Asking {
    answers: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Duration>,
}

impl Asking {
    fn start(channel: &Channel) -> Self {
        let (answers, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let task = {
            let (channel, answers, stop) = (channel.clone(), answers.clone(), stop.clone());
            tokio::spawn(async move {
                let mut slowest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    ask(&channel).await.expect("somebody answers, always");
                    slowest = slowest.max(asked.elapsed());
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                slowest
            })
        };
        Self { answers, stop, task }
    }

    /// Waits for more answers.
    async fn more(&self, what: &str) {
        let before = self.answers.load(Ordering::Relaxed);
        wait_until(what, DEADLINE, || {
            assert!(!self.task.is_finished(), "{what}: nobody answered");
            self.answers.load(Ordering::Relaxed) > before + 50
        })
        .await;
    }

    async fn stop(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let slowest = self.task.await.expect("every question was answered");
        (self.answers.load(Ordering::Relaxed), slowest)
    }
}

async fn start(world: &World, name: &str) -> Instance {
    soon("it starts", Instance::start(&world.endpoint(), TARGET, name, TTL)).await.expect("it starts")
}

async fn until_known(handle: &BalanceHandle, instances: &[&Instance]) {
    let wanted: BTreeSet<_> = instances.iter().map(|instance| instance.address()).collect();
    soon("the channel knows them", handle.until(|known| *known == wanted)).await;
}

/// Waits until exactly these answer.
async fn until_they_answer(channel: &Channel, names: &[&str]) {
    let all = async {
        let mut heard = BTreeSet::new();
        while heard.len() < names.len() {
            let name = ask(channel).await.expect("somebody answers");
            assert!(names.contains(&name.as_str()), "{name} answers beside {names:?}");
            heard.insert(name);
        }
    };
    soon(&format!("{names:?} answer"), all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_answers_while_servers_come_and_go_and_etcd_restarts() {
    for backend in Backend::real() {
        in_time(answers_throughout(World::start(On::Tokio, backend).await)).await;
    }
}

async fn answers_throughout(mut world: World) {
    let (channel, handle) = balance::channel(&world.service()).expect("a tokio runtime");
    let (anna, ben) = (start(&world, "anna").await, start(&world, "ben").await);
    until_known(&handle, &[&anna, &ben]).await;
    until_they_answer(&channel, &["anna", "ben"]).await;
    let asking = Asking::start(&channel);

    asking.more("both are there").await;
    anna.crash();
    asking.more("one has crashed and is still listed").await;
    until_known(&handle, &[&ben]).await;
    until_they_answer(&channel, &["ben"]).await;

    let cleo = start(&world, "cleo").await;
    until_known(&handle, &[&ben, &cleo]).await;
    until_they_answer(&channel, &["ben", "cleo"]).await;
    let address = ben.address();
    let unknown = handle.until(|known| !known.contains(&address));
    soon("it leaves", ben.leave(unknown)).await.expect("it leaves");
    asking.more("one has left").await;
    until_they_answer(&channel, &["cleo"]).await;

    world.stop().await;
    asking.more("etcd is down").await;
    assert_eq!(handle.addresses(), BTreeSet::from([cleo.address()]));
    world.restart().await;
    let dora = start(&world, "dora").await;
    until_known(&handle, &[&cleo, &dora]).await;
    until_they_answer(&channel, &["cleo", "dora"]).await;
    asking.more("etcd is back").await;

    let (answers, slowest) = asking.stop().await;
    println!("{answers} answers, the slowest after {slowest:?}");
    cleo.crash();
    dora.crash();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_can_not_be_used_are_left_out_and_one_address_is_one_endpoint() {
    let world = World::start(On::Tokio, Backend::Model).await;
    let service = world.service();
    let (_channel, handle) = balance::channel_with(&service, |service| {
        if service.metadata == "no" {
            return Err("it says no".into());
        }
        Ok(balance::endpoint(service)?.timeout(Duration::from_secs(1)))
    })
    .expect("a tokio runtime");
    let at = ServiceEndpoint::new;
    for (name, endpoint) in [
        ("1", at("127.0.0.1:1")),
        ("2", at("127.0.0.1:1").metadata("another name for it")),
        ("3", at("not an address")),
        ("4", at("127.0.0.1:2").metadata("no")),
    ] {
        service.add(name, endpoint).await.expect("it is added");
    }
    world.direct().put(Put::new(format!("{TARGET}/5"), "garbage")).await.expect("it is put");
    let has = |addresses: &[&str]| {
        let wanted: BTreeSet<_> = addresses.iter().map(|&address| address.to_owned()).collect();
        move |known: &BTreeSet<String>| *known == wanted
    };
    let is_left_out = || has(&["127.0.0.1:2", "not an address"])(&handle.skipped());
    wait_until("both are left out", DEADLINE, is_left_out).await;
    soon("the good one is there", handle.until(has(&["127.0.0.1:1"]))).await;

    // It is tried again once it has changed.
    service.add("4", at("127.0.0.1:2").metadata("yes")).await.expect("it is added");
    soon("it is there", handle.until(has(&["127.0.0.1:1", "127.0.0.1:2"]))).await;
    service.delete("1").await.expect("it is deleted");
    service.add("3", at("127.0.0.1:3")).await.expect("it is added");
    // Under its other name the first address is still there.
    soon("it is there", handle.until(has(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]))).await;
    assert_eq!(handle.skipped(), BTreeSet::new());
    service.delete("2").await.expect("it is deleted");
    soon("it is gone", handle.until(has(&["127.0.0.1:2", "127.0.0.1:3"]))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_nobody_uses_is_brought_up_to_date_when_somebody_does() {
    let world = World::start(On::Tokio, Backend::Model).await;
    let service = world.service();
    let (channel, handle) = balance::channel(&service).expect("a tokio runtime");
    // More changes than wait at the channel, and none of them for the better.
    for round in 0..40 {
        for name in ["a", "b", "c"] {
            let endpoint = ServiceEndpoint::new(format!("127.0.0.1:{}", 1 + round % 7));
            service.add(name, endpoint).await.expect("it is added");
            service.delete(name).await.expect("it is deleted");
        }
    }
    let anna = start(&world, "anna").await;
    until_they_answer(&channel, &["anna"]).await;
    until_known(&handle, &[&anna]).await;
    anna.crash();
}
