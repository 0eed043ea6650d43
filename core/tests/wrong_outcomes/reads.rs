//! Reads of the current revision: how long they may go on without an answer.

use etcd_watch_core::{CloseReason, Failure, KeyRange, WatchConfig, WatchKey};

use crate::{
    support::*,
    world::{Asked, World},
};

fn config() -> WatchConfig {
    WatchConfig::default().unreachable_deadline(Some(ms(30_000)))
}

fn denied() -> Failure {
    Failure::status(7, "etcdserver: permission denied")
}

#[test]
fn a_read_is_given_up_by_its_own_first_unanswered_attempt() {
    let mut world = World::new(config());
    let mut server = |world: &mut World, asked: Asked| match asked {
        Asked::Read { range, keys } if keys == KeyRange::key("secret") => {
            world.read_in(world.latency, range, Err(denied()));
        }
        Asked::Read { .. } => {}
        other => world.answer(other),
    };
    let neighbour = world.driver.watch(all_from(1));
    let secret = world.driver.watch(from_now("secret"));
    world.run(ms(1_000), &mut server);
    assert!(matches!(world.ended.get(&secret), Some(CloseReason::PermissionDenied { .. })));

    world.run(ms(3_600_000), &mut server);
    let late = world.driver.watch(from_now("late"));
    world.run(ms(29_900), &mut server);
    assert_eq!(world.ended.get(&late), None, "its read was sent less than 30 s ago");
    world.run(ms(200), &mut server);
    let end = world.ended.get(&late);
    let Some(CloseReason::Unreachable { millis, .. }) = end else { panic!("it is given up: {end:?}") };
    assert!((30_000..30_100).contains(millis), "{millis}");
    assert!(world.is_active(neighbour), "its stream answers");
}

#[test]
fn a_denial_is_an_answer_and_the_clock_begins_anew_behind_it() {
    const DENIED: usize = 99;
    let mut world = World::new(config());
    let mut server = |world: &mut World, asked: Asked| match asked {
        Asked::Read { range, keys } => {
            let is_allowed = keys == KeyRange::key("open");
            let result = if is_allowed { Ok(world.revision) } else { Err(denied()) };
            world.read_in(ms(400), range, result);
        }
        other => world.answer(other),
    };
    let requests = (0..DENIED).map(|n| from_now(Box::leak(format!("secret{n}").into_boxed_str())));
    let watches: Vec<WatchKey> = world.driver.watch_together(requests.chain([from_now("open")]));
    world.run(ms(120_000), &mut server);
    let (allowed, denied) = watches.split_last().expect("there are watches");
    for watch in denied {
        let end = world.ended.get(watch);
        assert!(matches!(end, Some(CloseReason::PermissionDenied { .. })), "{watch:?}: {end:?}");
    }
    assert_eq!(world.ended.get(allowed), None);
    assert!(world.is_active(*allowed));
}
