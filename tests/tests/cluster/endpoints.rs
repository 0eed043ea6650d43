//! The list of endpoints, as the cluster has it and as the application changes it.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use etcd_watch_testkit::harness::{EtcdCluster, EtcdServer, EtcdVersion, wait_until};

use crate::{
    kinds,
    party::{On, Settings},
    world::{DEADLINE, SLACK, World},
};

/// How often clients that do so by themselves read the member list.
const SYNC_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn the_member_list_is_followed(version: EtcdVersion) {
    let mut world = World::start(version.clone()).await;
    let learner = learner(&world.cluster, version).await;
    let mut all = world.cluster.endpoints();
    all.sort();

    // Each client is given one endpoint only.
    world.add_clients_with(|_, settings| Settings { endpoints: vec![all[0].clone()], ..settings });
    let first = world.cluster.members().position(|member| member.endpoint() == all[0]).expect("it is one");
    for on in On::ALL {
        let name = format!("{} by itself", on.name());
        let settings = Settings::new(vec![all[0].clone()]);
        world.add_client(name, on, Settings { sync_every: Some(SYNC_EVERY), ..settings });
    }
    world.watch_all(kinds::shared).await;
    world.start_writers();
    for (name, party) in &world.parties[..On::ALL.len()] {
        assert_eq!(party.endpoints(), all[..1]);
        let mut synced = party.sync_endpoints().await;
        synced.sort();
        assert_eq!(synced, all, "{name}: all members, and not the learner {}", learner.endpoint());
    }
    for (name, party) in &world.parties[On::ALL.len()..] {
        wait_until("the endpoints are synced", DEADLINE, || {
            let mut synced = party.endpoints();
            synced.sort();
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

    // The member that is left out now is one with streams.
    let left = (0..world.cluster.size()).max_by_key(|&number| world.streams()[number]).expect("a member");
    let rest: Vec<usize> = world.cluster.all_but(left);
    let since = Instant::now();
    let keep = &world.parties[..On::ALL.len()];
    // Those that read the list themselves would read it back.
    world.parties[On::ALL.len()..].iter().for_each(|(_, party)| party.set_endpoints(all.clone()));
    let moves: Vec<u64> = keep.iter().map(|(_, party)| party.stats().moves).collect();
    for (_, party) in keep {
        party.set_endpoints(rest.iter().map(|&number| world.cluster.member(number).endpoint()).collect());
    }
    let what = format!("member {left} is taken off the list");
    let away = world.back(what, since, &world.all()).await;
    assert!(away.longest() < SLACK, "nothing has to be found out");
    let moved = keep.iter().zip(moves).filter(|((_, party), before)| party.stats().moves > *before).count();
    assert!(moved > 0, "somebody was on that member");
    world.finish().await;
}

/// A fourth member that has no vote.
async fn learner(cluster: &EtcdCluster, version: EtcdVersion) -> EtcdServer {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let peer = format!("http://{}", listener.local_addr().expect("it has an address"));
    let arguments = ["member", "add", "learner", "--learner"];
    let etcdctl = cluster.etcdctl().expect("it has an etcdctl");
    let urls = format!("--peer-urls={peer}");
    let arguments = arguments.into_iter().chain([&urls[..]]);
    let end = Instant::now() + DEADLINE;
    // A cluster doesn't take members before all of it has been well for 5 s.
    let added = loop {
        match etcdctl.run(arguments.clone()).await {
            Ok(added) => break added,
            Err(error) if error.to_string().contains("unhealthy cluster") => assert!(Instant::now() < end),
            Err(error) => panic!("the learner is not added: {error}"),
        }
    };
    let initial = added.lines().find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER="));
    let initial = initial.expect("it says how to start it").trim_matches('"').to_owned();
    drop(listener);
    let builder = EtcdServer::builder(version)
        .flag("name", "learner")
        .flag("listen-peer-urls", &peer)
        .flag("initial-advertise-peer-urls", &peer)
        .flag("initial-cluster", initial)
        .flag("initial-cluster-state", "existing");
    builder.start_async().await.expect("the learner starts")
}
