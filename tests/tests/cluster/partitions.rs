//! Members that are cut off from the others, while clients reach all of them.

use std::time::Instant;

use etcd_watch_testkit::harness::{EtcdVersion, wait_until};

use crate::{
    kinds::{self, Kind},
    observer::Observer,
    runtime::On,
    settings::Settings,
    world::{DEADLINE, SLACK, World},
};

pub(crate) async fn watches_leave_a_member_that_is_cut_off_unless_they_do_without_a_leader(
    version: EtcdVersion,
) {
    let mut world = World::busy(version).await;
    let mut was_lonely = None;
    for part in ["the leader", "a follower"] {
        let leader = world.cluster.wait_for_leader().await.expect("there is a leader");
        let follower = world.cluster.all_but(leader).into_iter().find(|&number| Some(number) != was_lonely);
        let lonely = if part == "the leader" { leader } else { follower.expect("there are two followers") };
        was_lonely = Some(lonely);
        let majority = world.cluster.all_but(lonely);
        let stay = stay(&mut world, lonely, part).await;
        let stays = |observer: &Observer| stay.contains(&observer.client);
        world.client("smol").spread_watches().await;
        world.back("all is well", Instant::now(), &world.all()).await;
        let streams = || world.streams()[lonely];
        wait_until("others are there, too", DEADLINE, || streams() > stay.len() as u64).await;

        let since = Instant::now();
        world.cluster.partition(&[lonely]);
        let away = world.back_of(format!("{part} cut off"), since, &majority, |one| !stays(one)).await;
        assert!(away.longest() < SLACK * 2, "an election takes no longer");
        world.cluster.wait_until_leaderless(lonely).await.expect("it hears nothing of the others");
        // It says `no leader` to those that want to know, and the others stay with it.
        world.streams_on(lonely, stay.len() as u64).await;
        let mark = world.mark(&majority).await;
        world.back_of("another mark", Instant::now(), &majority, |one| !stays(one)).await;
        for observer in world.observers.iter().filter(|one| stays(one)) {
            assert!(observer.reached(mark).is_none(), "{observer}: its member can't know of the mark");
        }
        let since = Instant::now();
        world.cluster.heal();
        world.back("the partition is over", since, &world.all()).await;
        for name in &stay {
            let stats = world.client(name).stats();
            // Those that want a leader are sent away as often as they come back. On a busy machine a connection may
            // be taken for dead once.
            assert!(stats.reconnects <= 1, "{name}: it was left in peace: {stats:?}");
        }
    }
    world.finish().await;
}

/// Clients that know this member only, and whose watches do without a leader; their names.
async fn stay(world: &mut World, member: usize, part: &str) -> [String; 3] {
    let names = On::ALL.map(|on| format!("{} with {part}", on.name()));
    for (on, name) in On::ALL.into_iter().zip(&names) {
        world.add_client(name, on, Settings::new(vec![world.links[member].endpoint()]));
        world.watch(name, kinds::shared().into_iter().map(Kind::without_leader).collect()).await;
    }
    names
}
