//! The list of endpoints, as the cluster has it and as the application changes it.

use std::time::{Duration, Instant};

use etcd_watch_client::Endpoint;
use etcd_watch_testkit::harness::{EtcdVersion, wait_until};

use crate::{
    kinds,
    learner::Learner,
    runtime::On,
    settings::Settings,
    world::{DEADLINE, PATIENCE, SLACK, World},
};

/// How often clients that do so by themselves read the member list.
const SYNC_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn the_member_list_is_followed(version: EtcdVersion) {
    let mut world = World::start(version).await;
    let learner = Learner::start(&world.cluster).await;
    let mut all = world.cluster.endpoints();
    all.sort();

    // Each client is given one endpoint only.
    let given =
        |settings| Settings { endpoints: vec![all[0].clone()], request_timeout: PATIENCE, ..settings };
    world.add_clients_with(|_, settings| given(settings));
    let first = world.cluster.members().position(|member| member.endpoint() == all[0]).expect("it is one");
    for on in On::ALL {
        let name = format!("{} by itself", on.name());
        let settings = Settings::new(vec![all[0].clone()]);
        world.add_client(name, on, Settings { sync_every: Some(SYNC_EVERY), ..settings });
    }
    world.watch_all(kinds::shared).await;
    world.start_writers();
    for (name, client) in &world.clients[..On::ALL.len()] {
        assert_eq!(names(&client.endpoints()), all[..1]);
        let synced = names(&client.sync_endpoints().await.expect("the member list is read"));
        assert_eq!(synced, all, "{name}: all members, and not the learner {}", learner.endpoint);
    }
    for (name, client) in &world.clients[On::ALL.len()..] {
        wait_until("the endpoints are synced", DEADLINE, || {
            let synced = names(&client.endpoints());
            assert!(synced == all || synced == all[..1], "{name}: {synced:?}");
            synced == all
        })
        .await;
    }

    let since = Instant::now();
    world.cluster.member_mut(first).kill();
    let rest = world.cluster.all_but(first);
    let away = world.back("kill the member they were told of", since, &rest).await;
    assert!(away.longest() < SLACK * 2, "the others are known");
    world.cluster.member_mut(first).restart_async().await.expect("it starts again");
    world.cluster.member(first).wait_until_healthy().await.expect("it serves");

    // Those that read the list themselves would read it back.
    world.retire(|observer| observer.client.ends_with("by itself")).await;
    let clients = On::ALL.len() as u64;
    wait_until("their streams are closed", DEADLINE, || world.streams().iter().sum::<u64>() == clients).await;
    // The member that is left out now is one with streams.
    let left = (0..world.cluster.size()).max_by_key(|&number| world.streams()[number]).expect("a member");
    let on_it = world.streams()[left];
    let rest: Vec<String> =
        world.cluster.all_but(left).into_iter().map(|number| endpoint(&world, number)).collect();
    let since = Instant::now();
    for (_, client) in &world.clients[..On::ALL.len()] {
        client.set_endpoints(rest.clone()).expect("they are endpoints");
    }
    let what = format!("member {left} is taken off the list");
    let away = world.back(what, since, &world.all()).await;
    assert!(away.longest() < SLACK, "nothing has to be found out");
    world.streams_on(left, 0).await;
    let moves: u64 = world.clients.iter().map(|(_, client)| client.stats().moves).sum();
    // One may have been lost meanwhile, on a busy machine.
    assert!((1..=on_it).contains(&moves), "{moves} moved of {on_it} that were there, and nothing else");
    world.finish().await;
}

/// As text, in order.
fn names(endpoints: &[Endpoint]) -> Vec<String> {
    let mut names: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    names.sort();
    names
}

fn endpoint(world: &World, number: usize) -> String {
    world.cluster.member(number).endpoint()
}
