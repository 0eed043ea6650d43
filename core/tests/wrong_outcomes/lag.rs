//! Members that seem to be behind what was seen elsewhere.

use etcd_watch_core::{Overflow, StreamEnd, WatchConfig, WatchKey, WatchRequest};

use crate::{
    support::*,
    world::{Asked, World, healthy},
};

#[test]
fn a_member_that_keeps_moving_past_what_was_asked_of_it_does_not_lag() {
    const EVERY: u64 = 10;
    let mut world = World::new(WatchConfig::default());
    // Each watch is created on a member that is two revisions behind the read, and reaches them in 20 ms: by
    // then two more watches wait for later revisions.
    let mut server = |world: &mut World, asked: Asked| match asked {
        Asked::Tick(tick) => {
            world.revision += 1;
            if u64::from(tick) < 60_000 / EVERY {
                world.driver.watch(from_now("k"));
                world.tick_in(ms(EVERY), tick + 1);
            }
        }
        Asked::Read { range, .. } => world.read_in(world.latency, range, Ok(world.revision + 2)),
        other => world.answer(other),
    };
    world.tick_in(ms(EVERY), 0);
    world.run(ms(60_500), &mut server);
    assert_eq!(world.ended.values().collect::<Vec<_>>(), [] as [&_; 0], "no watch ends");
    assert_eq!((world.opens, world.closes), (1, vec![]), "no stream is replaced");
}

/// A stream that a neighbour holds by `Overflow::Pause`, on a member that was behind when another watch was
/// created on it; the two watches, the neighbour first.
fn held_while_behind(world: &mut World) -> [WatchKey; 2] {
    world.revision = 300;
    let slow = world.driver.watch(from_key("slow").overflow(Overflow::Pause));
    world.run(ms(100), &mut healthy);
    world.stalled.insert(slow);
    let ahead = world.driver.watch(from_key("ahead").known_store(CLUSTER, 400));
    world.run(ms(100), &mut healthy);
    assert!(world.is_active(slow) && world.is_active(ahead));
    world.put("slow", &[b'x'; 9000]);
    world.run(ms(10), &mut healthy);
    let (stream, _) = world.place_of(slow).expect("it runs");
    assert!(!world.driver.watcher.wants_frame(stream), "the neighbour holds the stream");
    [slow, ahead]
}

fn from_key(key: &'static str) -> WatchRequest {
    from_now(key).start_revision(301)
}

fn small() -> WatchConfig {
    WatchConfig::default().buffer_bytes(4000)
}

#[test]
fn nothing_is_judged_on_frames_that_nobody_read() {
    for catches_up in [true, false] {
        let mut world = World::new(small());
        let [slow, ahead] = held_while_behind(&mut world);
        world.run(ms(3_600_000), &mut healthy);
        assert_eq!(world.closes, [], "no stream is replaced for an hour");
        assert_eq!(world.ended.len(), 0, "no watch ends");

        if catches_up {
            world.revision = 500;
            world.put("ahead", b"v");
        }
        let released = world.now();
        world.stalled.clear();
        world.take(slow);
        world.run(ms(1_000), &mut healthy);
        assert_eq!(world.closes, [], "once it is read again, the member has time to answer");
        world.run_until(ms(60_000), &mut healthy, |world| !world.closes.is_empty());
        match (catches_up, world.closes.first()) {
            (true, None) => assert_eq!(world.seen_by(ahead), [501]),
            (false, Some((at, StreamEnd::Lagging { .. }))) => {
                assert!(at.since(released) <= ms(61_000), "a member that does lag is left");
            }
            (_, close) => panic!("catches up: {catches_up}, closed: {close:?}"),
        }
    }
}
