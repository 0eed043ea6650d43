//! Spreading watches over streams, and moving streams to where the driver wants them.

use std::collections::BTreeSet;

use etcd_watch_core::{
    ApiMisuse, EndpointHint, Overflow, StreamEnd, StreamKey, TimeoutReason, WatchConfig, WatchKey,
    WatchRequest,
};

use crate::support::*;

fn counts(driver: &Driver) -> Vec<usize> {
    let mut counts = std::collections::BTreeMap::new();
    for (_, stats) in driver.watcher.all_watch_stats() {
        if let Some(stream) = stats.stream {
            *counts.entry(stream).or_insert(0) += 1;
        }
    }
    counts.into_values().collect()
}

#[test]
fn watches_are_spread_over_as_many_streams_as_asked_for_the_fewest_first() {
    let mut driver = Driver::new(WatchConfig::default().streams(3).max_watches_per_stream(4));
    let watches = driver.watch_together((0..7).map(|_| all_from(1)));
    assert_eq!(driver.opens().len(), 3);
    assert_eq!(counts(&driver), [3, 2, 2]);
    // Of the second stream, all but none are gone: the next ones go there.
    driver.cancel(watches[1]);
    driver.cancel(watches[4]);
    driver.watch_together((0..2).map(|_| all_from(1)));
    assert_eq!(counts(&driver), [3, 2, 2]);
    driver.watch_together((0..6).map(|_| all_from(1)));
    assert_eq!(counts(&driver), [4, 4, 4, 1], "past the limit another is opened");
    driver.watch(all_from(1));
    assert_eq!(counts(&driver), [4, 4, 4, 2]);
}

#[test]
fn a_watch_joins_the_stream_that_another_has_left() {
    let mut driver = Driver::new(WatchConfig::default().streams(2));
    let watches = driver.watch_together((0..4).map(|_| all_from(1)));
    driver.cancel(watches[1]);
    assert_eq!(counts(&driver), [2, 1]);
    driver.watch(all_from(1));
    assert_eq!(counts(&driver), [2, 2]);
}

#[test]
fn a_stream_that_is_gone_is_replaced_by_another_to_spread_over() {
    let mut driver = Driver::new(WatchConfig::default().streams(2).linger(ms(1000)));
    let watches = driver.watch_together([all_from(1), all_from(1), all_from(1).own_stream(true)]);
    for open in driver.opens() {
        driver.opened(open.stream, TRUSTED);
    }
    driver.cancel(watches[1]);
    driver.sleep(ms(1000));
    assert_eq!(driver.closes().len(), 1);
    driver.watch(all_from(1));
    let opens = driver.opens();
    assert_eq!(opens.len(), 1, "one shared stream is left, of two");
    driver.opened(opens[0].stream, TRUSTED);
    driver.cancel(watches[2]);
    driver.sleep(ms(1000));
    assert_eq!(driver.closes().len(), 1);
    driver.watch(all_from(1));
    assert_eq!(driver.opens(), [], "one watch's own stream was none of the two");
}

fn stream_of(driver: &Driver, watch: WatchKey) -> StreamKey {
    driver.watcher.watch_stats(watch).and_then(|stats| stats.stream).expect("it is on a stream")
}

#[test]
fn a_watch_with_its_own_stream_shares_it_with_nobody() {
    let mut driver = Driver::new(WatchConfig::default().streams(2));
    let own = || all_from(1).own_stream(true);
    let watches = driver.watch_together([own(), all_from(1), all_from(1), own(), all_from(1)]);
    assert_eq!(driver.opens().len(), 4);
    let streams: Vec<StreamKey> = watches.iter().map(|&watch| stream_of(&driver, watch)).collect();
    let distinct: BTreeSet<StreamKey> = streams[..4].iter().copied().collect();
    assert_eq!(
        distinct.len(),
        4,
        "streams that are not shared don't count for those to spread over: {streams:?}"
    );
    assert!(streams[1..3].contains(&streams[4]), "the shared ones are joined: {streams:?}");
}

#[test]
fn a_pausing_watch_on_its_own_stream_holds_up_nobody_and_its_stream_goes_away_with_it() {
    let config = WatchConfig::default().buffer_floor_bytes(4000).buffer_bytes(4000).linger(ms(1000));
    let mut driver = Driver::new(config);
    let (slow, own, id) = driver.running(all_from(1).overflow(Overflow::Pause).own_stream(true));
    let (neighbour, shared, neighbours_id) = driver.running(all_from(1));
    driver.frame(own, big(id, 1, 9000));
    assert!(!driver.watcher.wants_frame(own) && driver.watcher.wants_frame(shared));
    driver.frame(shared, events(neighbours_id, &[1, 2]));
    assert_eq!(driver.revisions(neighbour), [1, 2]);

    driver.cancel(slow);
    let next = driver.watch(all_from(1).own_stream(true));
    assert_ne!(stream_of(&driver, next).stream(), own.stream(), "not even the next such watch joins it");
    assert_eq!(driver.closes(), [(own, StreamEnd::Idle)], "at once, since no other watch may join it");
    assert_eq!(driver.stats().streams, 2, "of the neighbour and of the next one");
}

#[test]
fn a_stream_that_is_moved_goes_on_at_once_at_exactly_the_next_revision() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(3));
    let other = driver.watch(WatchRequest::new(etcd_watch_core::KeyRange::all()).start_revision(4));
    driver.create_one(stream);
    driver.frame(stream, events(id, &[5]));
    // A part of a revision is there, and some that nobody has taken.
    driver.frame(stream, fragment(id, vec![put(6, "a"), put(7, "k")]));
    driver.watcher.move_stream(driver.now, stream).expect("it is open");
    assert_eq!(driver.closes(), [(stream, StreamEnd::Moved)]);
    let open = driver.opens().remove(0);
    assert_eq!((open.endpoint, open.fresh_token), (EndpointHint::Any, false));
    driver.frame(stream, events(id, &[8]));
    driver.opened(open.stream, TRUSTED);
    let first = driver.creates().remove(0);
    assert_eq!(first.start_revision, 7);
    driver.frame(open.stream, created(first.watch_id));
    assert_eq!(driver.creates()[0].start_revision, 4);
    driver.frame(open.stream, events(first.watch_id, &[7, 8]));
    assert_eq!(driver.revisions(watch), [5, 6, 7, 8]);
    assert_eq!(driver.watcher.resume_revision(other), Some(4));
    let stats = driver.stats();
    assert_eq!((stats.moves, stats.reconnects, stats.opens), (1, 0, 2));
}

#[test]
fn moving_is_no_failure_however_often_it_happens() {
    let config = WatchConfig::default().unreachable_deadline(Some(ms(3000)));
    let mut driver = Driver::new(config);
    let (watch, mut stream, _) = driver.running(all_from(3));
    for _ in 0..50 {
        driver.watcher.move_stream(driver.now, stream).expect("it is open");
        stream = driver.open(TRUSTED);
        driver.create_one(stream);
        driver.sleep(ms(500));
    }
    assert_eq!(driver.watcher.failures_in_a_row(stream), 0);
    driver.cut(stream);
    assert_eq!(driver.watcher.timeout_reason(), Some(TimeoutReason::Reconnect));
    assert!(driver.sleep_to_timeout() <= ms(50), "as after a first failure");
    assert_eq!(driver.watcher.resume_revision(watch), Some(3));
}

#[test]
fn only_an_open_stream_can_be_moved() {
    let mut driver = Driver::new(WatchConfig::default());
    let watch = driver.watch(all_from(1));
    let stream = driver.opens().remove(0).stream;
    let refused = Err(ApiMisuse::StreamNotOpen(stream));
    assert_eq!(driver.watcher.move_stream(driver.now, stream), refused, "it is being opened");
    driver.cut(stream);
    assert_eq!(driver.watcher.move_stream(driver.now, stream), refused, "it is gone");
    assert_eq!(driver.opens(), []);
    let next = driver.reopen(TRUSTED);
    assert_eq!(driver.watcher.move_stream(driver.now, stream), refused, "that was another");
    driver.cancel(watch);
    driver.closed(watch);
    driver.watcher.move_stream(driver.now, next).expect("it is open, though nobody needs it");
    assert_eq!(driver.closes(), [(next, StreamEnd::Moved)]);
    assert_eq!(driver.opens(), []);
    assert_eq!((driver.stats().streams, driver.watcher.poll_timeout()), (0, None));
}

#[test]
fn a_paused_stream_and_an_overflowed_watch_move_as_well() {
    let mut driver = Driver::new(WatchConfig::default().buffer_floor_bytes(4000).buffer_bytes(4000));
    let (paused, stream, id) = driver.running(all_from(1).overflow(Overflow::Pause));
    let replayed = driver.watch(all_from(1));
    let other_id = driver.create_one(stream);
    driver.frame(stream, big(other_id, 1, 9000));
    driver.frame(stream, big(other_id, 2, 9000));
    driver.frame(stream, big(id, 1, 9000));
    assert!(!driver.watcher.wants_frame(stream));
    driver.watcher.move_stream(driver.now, stream).expect("it is open");
    let stream = driver.open(TRUSTED);
    assert!(driver.watcher.wants_frame(stream));
    assert_eq!(driver.creates(), [], "their consumers have not drained yet");
    for watch in [paused, replayed] {
        assert_eq!(driver.revisions(watch), [1]);
        let create = driver.creates().remove(0);
        assert_eq!(create.start_revision, 2);
        driver.frame(stream, created(create.watch_id));
    }
}
