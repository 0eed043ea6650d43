//! A cluster without a majority.

use std::time::{Duration, Instant};

use etcd_watch_testkit::harness::{EtcdVersion, wait_until};
use etcd_watch_client::{CallError, CloseReason, Get, Put};

use crate::{
    kinds,
    observer::Observer,
    party::{On, Settings},
    world::{DEADLINE, SLACK, World},
};

/// How long the impatient look for a leader.
const IMPATIENT: Duration = Duration::from_secs(3);
/// How long the patient do: longer than any scenario lasts.
const PATIENT: Duration = Duration::from_secs(600);
/// How long a call may take.
const REQUEST: Duration = Duration::from_secs(2);

pub(crate) async fn without_a_majority_watches_wait_as_long_as_they_are_told(version: EtcdVersion) {
    let mut world = World::start(version).await;
    // For ever, which is the default.
    world.add_clients_with(|_, settings| Settings { request_timeout: REQUEST, ..settings });
    for (how, deadline) in [("impatient", IMPATIENT), ("patient", PATIENT)] {
        for on in On::ALL {
            let settings = Settings { request_timeout: REQUEST, ..Settings::new(world.link_endpoints()) };
            let settings = settings.config(|config| config.no_leader_deadline(Some(deadline)));
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
    println!("  two members are killed: no leader after {:.1} s", (leaderless - since).as_secs_f64());
    calls(&world).await;

    let is_impatient = |observer: &&Observer| observer.client.starts_with("impatient");
    let ended = || world.observers.iter().filter(is_impatient).all(|observer| observer.end().is_some());
    wait_until("the impatient give up", DEADLINE, ended).await;
    let took = leaderless.elapsed();
    println!("  the impatient have given up after {:.1} s", took.as_secs_f64());
    assert!(took < IMPATIENT + SLACK);
    for observer in world.observers.iter().filter(is_impatient) {
        let end = observer.end();
        let Some(CloseReason::NoLeader { millis }) = end else { panic!("{observer}: {end:?}") };
        assert!(u128::from(millis) >= IMPATIENT.as_millis(), "{observer}: {millis} ms");
    }
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

/// What calls come to without a leader.
async fn calls(world: &World) {
    for (name, party) in &world.parties {
        let writing = Instant::now();
        let error = party.put(Put::new("w/a0", "lost")).await.expect_err("nothing can be written");
        let took = writing.elapsed();
        let CallError::Timeout { last: Some(last), after, .. } = &error else { panic!("{name}: {error}") };
        assert_eq!(*after, REQUEST);
        assert!(took < REQUEST + SLACK, "{name}: {took:?}");
        let last = last.to_string();
        assert!(last.contains("no leader") || last.contains("connection failed"), "{name}: {last}");
    }
    let (name, party) = &world.parties[0];
    let error = party.get(Get::key("w/a0")).await.expect_err("a linearizable read needs a leader");
    assert!(matches!(error, CallError::Timeout { last: Some(_), .. }), "{name}: {error}");
    let stale = party.get(Get::key("w/a0").serializable(true)).await;
    assert!(stale.is_ok(), "one that may be stale is answered: {stale:?}");
}
