//! Answers that a stream owes.

use etcd_watch_core::{KeyRange, WatchConfig};

use crate::{
    support::*,
    world::{Asked, World},
};

#[test]
fn a_create_that_is_never_answered_has_a_busy_stream_replaced() {
    let mut world = World::new(WatchConfig::default().answer_timeout(ms(10_000)));
    let mut asked_at = None;
    let mut server = |world: &mut World, asked: Asked| match asked {
        Asked::Tick(tick) => {
            world.put("busy", b"v");
            world.tick_in(ms(100), tick);
        }
        Asked::Create { create, .. } if asked_at.is_none() && create.range == KeyRange::key("mute") => {
            asked_at = Some(world.now());
        }
        other => world.answer(other),
    };
    let busy = world.driver.watch(from_now("busy").start_revision(1));
    world.tick_in(ms(100), 0);
    world.run(ms(5_000), &mut server);
    let mute = world.driver.watch(from_now("mute").start_revision(1));
    world.run_until(ms(60_000), &mut server, |world| !world.closes.is_empty());
    let asked_at = asked_at.expect("a create");
    let (closed_at, _) = world.closes.first().expect("the stream is replaced");
    let waited = closed_at.since(asked_at);
    assert!(waited >= ms(10_000) && waited <= ms(11_000), "{waited:?} after the request");

    let mut server = |world: &mut World, asked: Asked| match asked {
        Asked::Tick(_) => {}
        other => world.answer(other),
    };
    world.run(ms(10_000), &mut server);
    assert!(world.is_active(mute) && world.is_active(busy), "both go on on the next stream");
    assert_eq!(world.seen_by(busy), world.puts_of("busy"), "nothing is lost");
}
