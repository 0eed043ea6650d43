//! A response over the limit: the stream ends without saying whose it was.

use etcd_watch_core::{CloseReason, Failure, KeyRange, StreamKey, WatchConfig, WatchKey, WatchRequest};

use crate::{
    support::*,
    world::{Asked, World},
};

const TOO_LARGE: Failure = Failure::ResponseTooLarge { bytes: 9_000_000, limit: 4_194_304 };
const RECONNECTS: usize = 40;

/// Says something to the watch with this id.
type Say = fn(&mut World, StreamKey, i64);

fn of(number: usize) -> WatchRequest {
    WatchRequest::new(KeyRange::key(format!("k{number}"))).start_revision(1)
}

/// The stream fails this long after a watch has been created on it.
fn fail_behind(world: &mut World, culprit: WatchKey, asked: Asked, after: u64) {
    if let Asked::Create { stream, watch, .. } = asked
        && watch == Some(culprit)
    {
        world.fail_in(ms(after), stream, TOO_LARGE);
    }
    world.answer(asked);
}

/// Lets time pass until the culprit has ended, within the reconnects that may take, and the others run again.
fn ends_alone(
    world: &mut World,
    culprit: WatchKey,
    others: &[WatchKey],
    server: &mut dyn FnMut(&mut World, Asked),
) {
    let is_over = |world: &World| world.ended.contains_key(&culprit) || world.reconnects() > RECONNECTS;
    world.run_until(ms(2 * 3_600_000), server, is_over);
    assert!(world.reconnects() <= RECONNECTS, "{} reconnects", world.reconnects());
    world.run_until(ms(3_600_000), server, |world| others.iter().all(|&watch| world.is_active(watch)));
    let ended: Vec<WatchKey> = world.ended.keys().copied().collect();
    assert_eq!(ended.len(), 1, "exactly one ends: {ended:?}");
    assert!(
        matches!(world.ended.get(&culprit), Some(CloseReason::TooLarge { bytes: 9_000_000, .. })),
        "it is the culprit {culprit:?}: {:?}",
        world.ended
    );
    let waiting = others.iter().filter(|&&watch| !world.is_active(watch)).count();
    assert_eq!(waiting, 0, "all others run");
    assert!(world.reconnects() <= RECONNECTS, "{} reconnects", world.reconnects());
}

#[test]
fn among_a_thousand_unheard_watches_exactly_the_one_over_the_limit_ends() {
    let mut world = World::new(WatchConfig::default());
    let mut others = world.driver.watch_together((0..1000).map(of));
    let culprit = others.remove(699);
    ends_alone(&mut world, culprit, &others, &mut |world, asked| fail_behind(world, culprit, asked, 100));
}

#[test]
fn the_culprit_is_found_beside_a_busy_neighbour_that_loses_nothing() {
    // The neighbour is created before the culprit or behind it, and is heard before the failure or not.
    for (is_first, fails_after) in [(true, 100), (true, 2), (false, 100), (false, 2)] {
        let mut world = World::new(WatchConfig::default());
        let busy = |world: &mut World| world.driver.watch(from_now("busy").start_revision(1));
        let first = is_first.then(|| busy(&mut world));
        let mut others = world.driver.watch_together((0..1000).map(of));
        let culprit = others.remove(699);
        let neighbour = first.unwrap_or_else(|| busy(&mut world));
        others.push(neighbour);
        let mut is_busy = true;
        let mut server = |world: &mut World, asked: Asked| match asked {
            Asked::Tick(0) => {
                world.put("busy", b"v");
                world.tick_in(ms(20), 0);
            }
            asked => fail_behind(world, culprit, asked, fails_after),
        };
        world.tick_in(ms(20), 0);
        ends_alone(&mut world, culprit, &others, &mut server);
        let mut server = |world: &mut World, asked: Asked| match asked {
            Asked::Tick(0) => is_busy = false,
            asked => server(world, asked),
        };
        world.run(ms(10_000), &mut server);
        assert!(!is_busy);
        let puts = world.puts_of("busy");
        assert!(puts.len() > 10);
        assert_eq!(world.seen_by(neighbour), puts, "every revision once, in order");
    }
}

#[test]
fn a_lone_watch_ends_after_at_most_four_failures_whatever_it_hears_before_each() {
    let before: [(&str, Say); 3] = [
        ("nothing", |_, _, _| {}),
        ("a progress notification", |world, stream, id| world.say(stream, progress(id, 100))),
        ("an event it had", |world, stream, id| world.say(stream, events(id, &[40]))),
    ];
    for (name, say) in before {
        let mut world = World::new(WatchConfig::default());
        let watch = world.driver.watch(all_from(50));
        let mut failures = 0;
        let mut server = |world: &mut World, asked: Asked| {
            world.answer(asked.clone());
            if let Asked::Create { stream, create, watch: Some(_) } = asked {
                failures += 1;
                say(world, stream, create.watch_id);
                world.fail_in(ms(100), stream, TOO_LARGE);
            }
        };
        world.run(ms(600_000), &mut server);
        let end = world.ended.get(&watch);
        assert!(matches!(end, Some(CloseReason::TooLarge { .. })), "after {name}: {end:?}");
        assert!(failures <= 4, "after {name}: {failures} failures");
    }
}
