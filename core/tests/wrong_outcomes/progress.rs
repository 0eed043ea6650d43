//! Progress that is wanted: it comes soon, and is asked for no longer than it is wanted.

use std::cell::Cell;

use etcd_watch_core::{Overflow, WatchConfig, WatchKey};

use crate::{
    support::*,
    world::{Asked, World, healthy},
};

/// How a watch whose progress is wanted comes to its end, or off the server for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    ServerCancels,
    Compacted,
    Cancelled,
    Refused,
    FailsAtCreated,
    StallsAtCreated,
}

#[test]
fn a_watch_that_closes_while_its_progress_is_wanted_leaves_no_requests_behind() {
    use Ending::*;
    let mut left = Vec::new();
    for ending in [ServerCancels, Compacted, Cancelled, Refused, FailsAtCreated, StallsAtCreated] {
        let requests = requests_after(ending);
        if requests > 15 {
            left.push((ending, requests));
        }
    }
    assert_eq!(left, [], "in ten minutes there are ten routine requests");
}

/// How many progress requests there are in the ten minutes after a watch has come to its end.
fn requests_after(ending: Ending) -> usize {
    let at_created = matches!(ending, Ending::FailsAtCreated | Ending::StallsAtCreated);
    let mut world = World::new(WatchConfig::default().buffer_bytes(4000).total_buffer_bytes(8000));
    let passes_over = Cell::new(true);
    let ended: Cell<Option<WatchKey>> = Cell::new(None);
    let mut server = |world: &mut World, asked: Asked| match asked {
        Asked::Progress(_) if passes_over.get() => {}
        Asked::Create { stream, create, watch } if ending == Ending::Refused && watch == ended.get() => {
            world.end_on_server(stream, create.watch_id, refused(-1, "no such thing"));
        }
        other => world.answer(other),
    };
    world.driver.watch(from_now("quiet").start_revision(1));
    world.run(ms(100), &mut server);
    if at_created {
        // The common budget is full: the watch's first response is one too many.
        for key in ["a", "b", "c"] {
            let unread = world.driver.watch(from_now(key).start_revision(1));
            world.stalled.insert(unread);
            world.run(ms(10), &mut server);
            world.put(key, &[b'x'; 5000]);
            world.run(ms(10), &mut server);
        }
    }
    let policy = if ending == Ending::FailsAtCreated { Overflow::Fail } else { Overflow::Replay };
    let request = from_now("k").start_revision(1).created_notify(at_created).overflow(policy);
    let watch = world.driver.watch(request);
    if at_created {
        world.stalled.insert(watch);
    }
    ended.set(Some(watch));
    world.driver.request_progress(watch);
    world.run(ms(1_000), &mut server);
    match (ending, world.place_of(watch)) {
        (Ending::ServerCancels, Some((stream, id))) => {
            world.end_on_server(stream, id, canceled(id, "enough"))
        }
        (Ending::Compacted, Some((stream, id))) => world.end_on_server(stream, id, compacted(id, 50)),
        (Ending::Cancelled, Some(_)) => world.driver.cancel(watch),
        (Ending::Refused, None) => {}
        (_, place) => assert!(at_created, "{ending:?} at {place:?}"),
    }
    world.run(ms(1_000), &mut server);
    assert!(at_created || world.ended.contains_key(&watch), "{ending:?}: it has ended");
    passes_over.set(false);
    let before = world.progress_requests;
    world.run(ms(600_000), &mut server);
    assert!(world.driver.stats().streams == 1 && world.opens == 1, "the other watch keeps the stream alive");
    world.progress_requests - before
}

#[test]
fn requests_that_the_server_passed_over_do_not_delay_a_later_bookmark() {
    const PASSED_OVER: usize = 50;
    let mut world = World::new(WatchConfig::default());
    let passes_over = Cell::new(true);
    let mut server = |world: &mut World, asked: Asked| match asked {
        Asked::Progress(_) if passes_over.get() => {}
        other => world.answer(other),
    };
    let first = world.driver.watch(from_now("a").start_revision(1));
    world.run(ms(100), &mut server);
    // The application asks again and again; nothing is written meanwhile.
    for _ in 0..600 {
        if world.progress_requests >= PASSED_OVER {
            break;
        }
        world.driver.request_progress(first);
        world.run(ms(1_000), &mut server);
    }
    let second = world.driver.watch(from_now("b").start_revision(50).progress_notify(true));
    world.run(ms(100), &mut server);
    assert!(world.is_active(second));
    assert_eq!(world.bookmarks.get(&second), None, "no reply has come");
    passes_over.set(false);
    world.driver.request_progress(second);
    let began = world.now();
    let has_come = |world: &World| world.bookmarks.contains_key(&second);
    let came = world.run_until(ms(600_000), &mut server, has_come);
    let waited = world.now().since(began);
    assert!(came && waited <= ms(60_000), "{waited:?} for a bookmark");
    assert_eq!(world.bookmarks[&second], [101], "at the store's revision");
    world.run(ms(1_000), &mut healthy);
    assert!(world.reconnects() <= 1);
}
