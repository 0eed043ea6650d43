//! A cluster without a majority.

use std::time::{Duration, Instant};

use etcd_watch_client::{CallError, CloseReason, Get, Put};
use etcd_watch_testkit::harness::{EtcdVersion, wait_until};
use tokio::task::JoinSet;

use crate::{
    kinds,
    observer::Observer,
    runtime::On,
    settings::Settings,
    world::{DEADLINE, SLACK, World, secs},
};

/// How long the impatient look for a leader.
const IMPATIENT: Duration = Duration::from_secs(3);
/// How long the patient do: longer than any scenario lasts.
const PATIENT: Duration = Duration::from_secs(600);
/// How long a call may take.
const REQUEST: Duration = Duration::from_secs(3);

pub(crate) async fn without_a_majority_watches_wait_as_long_as_they_are_told(version: EtcdVersion) {
    let mut world = World::start(version).await;
    // Past the links, which accept what dead members would refuse: what may have been sent is not repeated.
    let settings = Settings { request_timeout: REQUEST, ..Settings::new(world.cluster.endpoints()) };
    // For ever, which is the default.
    world.add_clients_with(|_, _| settings.clone());
    for (how, deadline) in [("impatient", IMPATIENT), ("patient", PATIENT)] {
        for on in On::ALL {
            let settings = settings.clone().config(|config| config.no_leader_deadline(Some(deadline)));
            world.add_client(format!("{how} {}", on.name()), on, settings);
        }
    }
    world.watch_all(kinds::all).await;
    world.start_writers();
    world.back("all is well", Instant::now(), &world.all()).await;

    let survivor = world.cluster.wait_for_leader().await.expect("there is a leader");
    let since = Instant::now();
    for number in world.cluster.all_but(survivor) {
        world.cluster.member_mut(number).kill();
    }
    world.cluster.wait_until_leaderless(survivor).await.expect("it has lost the majority");
    let leaderless = Instant::now();
    println!("  two members are killed: no leader after {:.1} s", secs(leaderless - since));
    calls(&world).await;

    let is_impatient = |observer: &&Observer| observer.client.starts_with("impatient");
    let ended = || world.observers.iter().filter(is_impatient).all(|observer| observer.end().is_some());
    wait_until("the impatient give up", DEADLINE, ended).await;
    let mut longest = Duration::ZERO;
    for observer in world.observers.iter().filter(is_impatient) {
        let end = observer.end();
        let Some((CloseReason::NoLeader { millis }, at)) = end else { panic!("{observer}: {end:?}") };
        assert!(u128::from(millis) >= IMPATIENT.as_millis(), "{observer}: {millis} ms");
        longest = longest.max(at.saturating_duration_since(leaderless));
    }
    println!("  the impatient gave up after {:.1} s", secs(longest));
    assert!(longest < IMPATIENT + SLACK);
    let given_up: Vec<Observer> =
        world.observers.extract_if(.., |observer| observer.client.starts_with("impatient")).collect();

    let since = Instant::now();
    for number in world.cluster.all_but(survivor) {
        world.cluster.member_mut(number).restart_async().await.expect("it starts again");
    }
    let away = world.back("they are back", since, &world.all()).await;
    assert!(away.longest() < SLACK * 2, "an election and a reconnect take no longer");
    let history = world.history().await;
    for observer in &given_up {
        observer.check(&history, observer.last());
    }
    world.finish().await;
}

/// What calls come to without a leader, by all clients at once.
async fn calls(world: &World) {
    let mut calls = JoinSet::new();
    for (name, client) in &world.clients {
        let (name, client) = (name.clone(), client.clone());
        calls.spawn(async move {
            let since = Instant::now();
            let error = client.put(Put::new("w/a0", "lost")).await.expect_err("nothing can be written");
            in_time(&name, since, &error);
            let since = Instant::now();
            let error = client.get(Get::key("w/a0")).await.expect_err("a linearizable read needs a leader");
            in_time(&name, since, &error);
            let stale = client.get(Get::key("w/a0").serializable(true)).await;
            assert!(stale.is_ok(), "{name}: one that may be stale is answered: {stale:?}");
        });
    }
    while let Some(done) = calls.join_next().await {
        done.expect("calls come to what they have to");
    }
}

/// That the call timed out, and says what the last attempt came to.
fn in_time(name: &str, since: Instant, error: &CallError) {
    let took = since.elapsed();
    let CallError::Timeout { last: Some(last), after, .. } = error else { panic!("{name}: {error}") };
    assert!(*after == REQUEST && took >= REQUEST && took < REQUEST + SLACK, "{name}: {took:?}");
    let last = last.to_string();
    let reasons = ["no leader", "connection failed", "timed out"];
    assert!(reasons.iter().any(|reason| last.contains(reason)), "{name}: {last}");
}
