//! What a server says when it refuses or cancels a watch.

use etcd_watch_core::{CloseReason, WatchConfig, WatchKey};

use crate::{
    support::*,
    world::{Asked, World, healthy},
};

const NO_LEADER: [&str; 2] =
    ["rpc error: code = Unavailable desc = etcdserver: no leader", "etcdserver: no leader"];
const TOO_MANY: [&str; 2] = [
    "rpc error: code = ResourceExhausted desc = etcdserver: too many requests",
    "etcdserver: too many requests",
];

/// A watch whose creates are all answered so, by a refusal or by a cancel behind `Created`.
fn run_refused(world: &mut World, reason: &str, as_cancel: bool, millis: u64) -> WatchKey {
    let watch = world.driver.watch(from_now("k").start_revision(50));
    let mut server = |world: &mut World, asked: Asked| match asked {
        Asked::Create { stream, ref create, watch: Some(_) } => {
            let id = create.watch_id;
            if as_cancel {
                world.answer(asked);
                world.end_on_server(stream, id, canceled(id, reason));
            } else {
                world.say(stream, refused(-1, reason));
            }
        }
        other => world.answer(other),
    };
    world.run_until(ms(millis), &mut server, |world| world.ended.contains_key(&watch));
    watch
}

#[test]
fn a_watch_outlives_any_number_of_no_leader_and_too_many_requests() {
    for reason in NO_LEADER.into_iter().chain(TOO_MANY) {
        for as_cancel in [false, true] {
            let mut world = World::new(WatchConfig::default());
            let watch = run_refused(&mut world, reason, as_cancel, 600_000);
            let case = format!("{reason:?}, as a cancel: {as_cancel}, {} creates", world.creates);
            assert_eq!(world.ended.get(&watch), None, "{case}");
            assert!(world.creates > 8, "{case}");
            world.run(ms(60_000), &mut healthy);
            assert!(world.is_active(watch), "it goes on once it may: {case}");
        }
    }
}

#[test]
fn a_watch_that_no_member_with_a_leader_takes_ends_at_the_deadline_for_that() {
    for reason in NO_LEADER {
        for as_cancel in [false, true] {
            let mut world = World::new(WatchConfig::default().no_leader_deadline(Some(ms(30_000))));
            let began = world.now();
            let watch = run_refused(&mut world, reason, as_cancel, 600_000);
            let waited = world.now().since(began);
            let case = format!("{reason:?}, as a cancel: {as_cancel}, after {waited:?}");
            let end = world.ended.get(&watch);
            assert!(matches!(end, Some(CloseReason::NoLeader { .. })), "{end:?}: {case}");
            assert!(waited >= ms(30_000) && waited <= ms(40_000), "{case}");
        }
    }
}
