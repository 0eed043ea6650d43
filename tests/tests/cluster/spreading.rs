//! Streams that came together on one member, and are spread over all again.

use std::time::{Duration, Instant};

use etcd_watch_testkit::harness::{EtcdVersion, wait_until};

use crate::{
    kinds::{self, Kind},
    runtime::On,
    settings::Settings,
    world::{DEADLINE, SLACK, World, spread},
};

/// How often a client that spreads its watches by itself does so.
const SPREAD_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn streams_are_spread_again_after_they_came_together(version: EtcdVersion) {
    let mut world = World::start(version).await;
    let clients = On::ALL.len() as u64;
    world.add_clients_with(|_, settings| spread(settings));
    world.watch_all(kinds).await;
    world.start_writers();
    spread_evenly(&world, clients).await;

    come_together(&world, 0).await;
    let since = Instant::now();
    world.links.iter().for_each(|link| link.restore());
    for on in On::ALL {
        let client = world.client(on.name());
        let moves = client.stats().moves;
        client.spread_watches().await;
        let moved = || client.stats().moves - moves;
        wait_until("the streams move", DEADLINE, || moved() > 0).await;
        assert!(moved() <= 2, "of three streams, one stays");
    }
    spread_evenly(&world, clients).await;
    let away = world.back("spread on request", since, &world.all()).await;
    assert!(away.longest() < SLACK, "to move is no failure");

    // The same by clients that do it over and over.
    for on in On::ALL {
        let name = format!("{} by itself", on.name());
        let settings = spread(Settings::new(world.link_endpoints()));
        world.add_client(&name, on, Settings { spread_every: Some(SPREAD_EVERY), ..settings });
        world.watch(&name, kinds()).await;
    }
    come_together(&world, 1).await;
    let since = Instant::now();
    world.links.iter().for_each(|link| link.restore());
    for on in On::ALL {
        world.client(on.name()).spread_watches().await;
    }
    spread_evenly(&world, 2 * clients).await;
    world.back("half of them spread by themselves", since, &world.all()).await;
    world.finish().await;
}

/// All streams go to this member, since the others can't be reached.
async fn come_together(world: &World, member: usize) {
    let all: u64 = world.streams().iter().sum();
    let since = Instant::now();
    for number in world.cluster.all_but(member) {
        world.unlink(number);
    }
    world.streams_on(member, all).await;
    let away = world.back(format!("only member {member} is left"), since, &world.all()).await;
    assert!(away.longest() < SLACK, "it is where they went");
    let sum = || world.streams().iter().sum::<u64>();
    wait_until("there are as many streams as before", DEADLINE, || sum() == all).await;
}

/// Waits until every member has one of the three streams of each client.
async fn spread_evenly(world: &World, clients: u64) {
    wait_until("the streams are spread evenly", DEADLINE, || world.streams() == [clients; 3]).await;
    let kinds = kinds().len() as u64;
    assert_eq!(kinds % 3, 0, "each stream of a client has as many watches");
    let watches = || -> Vec<u64> {
        world.cluster.members().map(|member| member.watcher_count().expect("it tells")).collect()
    };
    let even = [clients * kinds / 3; 3];
    wait_until("the watches are spread evenly", DEADLINE, || watches() == even).await;
    println!("  watches on the members: {even:?}");
}

/// Slow ones are off the server every now and then, and can't be counted.
fn kinds() -> Vec<Kind> {
    kinds::shared().into_iter().filter(|kind| kind.rest.is_none()).collect()
}
