//! What can be asked: statistics, the overflow that is logged, when a stream is opened again.

use etcd_watch_core::{Action, Creates, Failure, Overflow, WatchConfig, WatchState, WatchStats};

use crate::support::*;

fn stats(driver: &Driver, watch: etcd_watch_core::WatchKey) -> WatchStats {
    driver.watcher.watch_stats(watch).expect("a watch that is known")
}

#[test]
fn the_state_of_a_watch_is_told_at_every_step_of_its_life() {
    let mut driver = Driver::new(WatchConfig::default().buffer_floor_bytes(4000).buffer_bytes(4000));
    let watch = driver.watch(from_now("k"));
    let state = |driver: &Driver| stats(driver, watch).state;
    assert_eq!(state(&driver), WatchState::AwaitingRevision);
    let read = driver.ranges().remove(0);
    driver.range_done(read.range, 4);
    assert_eq!(state(&driver), WatchState::Waiting);
    let stream = driver.open(TRUSTED);
    assert_eq!((state(&driver), stats(&driver, watch).stream), (WatchState::Creating, Some(stream)));
    let id = driver.create_one(stream);
    assert_eq!(state(&driver), WatchState::Active);
    driver.frame(stream, big(id, 5, 9000));
    assert_eq!(state(&driver), WatchState::Active, "a consumer with one response to take is not slow");
    driver.frame(stream, big(id, 6, 9000));
    assert_eq!(state(&driver), WatchState::Overflowed);
    driver.take_all(watch);
    driver.create_one(stream);
    driver.cut(stream);
    assert_eq!(state(&driver), WatchState::Waiting);
    driver.cancel(watch);
    assert_eq!((state(&driver), stats(&driver, watch).stream), (WatchState::Closed, None));
    driver.closed(watch);
    assert_eq!(driver.watcher.watch_stats(watch), None);
}

#[test]
fn revisions_tell_how_far_a_watch_is_and_lag_how_far_its_consumer_is_behind() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(10));
    let begun = stats(&driver, watch);
    assert_eq!((begun.resume_revision, begun.accepted_revision, begun.taken_revision), (10, 9, 0));
    assert_eq!((begun.lag, begun.queued_responses, begun.queued_events, begun.queued_bytes), (0, 0, 0, 0));
    driver.frame(stream, events(id, &[12, 13]));
    driver.frame(stream, events(id, &[20]));
    let waiting = stats(&driver, watch);
    assert_eq!((waiting.resume_revision, waiting.accepted_revision, waiting.taken_revision), (21, 20, 0));
    assert_eq!(waiting.lag, 11, "10 to 20: revisions of the store, not events");
    assert_eq!((waiting.queued_responses, waiting.queued_events, waiting.events), (2, 3, 0));
    assert_eq!(waiting.queued_bytes, driver.stats().queued_bytes);
    assert_eq!(waiting.buffer_limit, 1 << 20, "the floor");
    assert_eq!(driver.revisions(watch), [12, 13, 20]);
    driver.frame(stream, events(id, &[20]));
    driver.frame(stream, progress(id, 30));
    let taken = stats(&driver, watch);
    assert_eq!((taken.resume_revision, taken.accepted_revision, taken.taken_revision), (31, 20, 20));
    assert_eq!((taken.lag, taken.events, taken.stale_events), (0, 3, 1));
    driver.frame(stream, events(id, &[35]));
    assert_eq!(stats(&driver, watch).lag, 15);
}

#[test]
fn the_largest_lag_is_that_of_the_consumer_who_is_furthest_behind() {
    let mut driver = Driver::new(WatchConfig::default());
    assert_eq!(driver.watcher.max_lag(), 0);
    let (_, stream, id) = driver.running(all_from(10));
    driver.frame(stream, events(id, &[20]));
    let watch = driver.watch(all_from(10));
    let id = driver.create_one(stream);
    driver.frame(stream, events(id, &[30]));
    assert_eq!(driver.watcher.max_lag(), 21);
    assert_eq!((driver.revisions(watch), driver.watcher.max_lag()), (vec![30], 11));
}

#[test]
fn the_largest_lag_counts_consumers_whose_buffers_are_kept() {
    let mut driver = Driver::new(WatchConfig::default());
    let (_, stream, id) = driver.running(all_from(10).overflow(Overflow::Pause));
    driver.frame(stream, events(id, &[20]));
    let ended = driver.watch(all_from(10));
    let id = driver.create_one(stream);
    driver.frame(stream, events(id, &[30]));
    driver.watcher.shutdown(driver.now);
    assert_eq!(driver.watcher.max_lag(), 21, "of what waits for a watch that has ended");
    driver.take_all(ended);
    assert_eq!(driver.watcher.max_lag(), 11);
}

#[test]
fn the_largest_lag_is_that_of_the_consumers_who_have_taken_nothing_for_longest() {
    let mut driver = Driver::new(WatchConfig::default());
    let (first, stream, id) = driver.running(all_from(10));
    driver.frame(stream, events(id, &[11]));
    for revision in 12..=44 {
        driver.watch(all_from(10));
        let id = driver.create_one(stream);
        driver.frame(stream, events(id, &[revision]));
    }
    assert_eq!(driver.watcher.max_lag(), 33, "34 wait, and 32 are looked at");
    driver.take_all(first);
    assert_eq!(driver.watcher.max_lag(), 34, "the next one is looked at instead");
}

#[test]
fn a_stream_counts_as_open_from_its_opening_to_its_end() {
    let mut driver = Driver::new(WatchConfig::default());
    let count = |driver: &Driver| (driver.stats().streams, driver.stats().open_streams);
    let watch = driver.watch(all_from(1));
    assert_eq!(count(&driver), (1, 0));
    let stream = driver.open(TRUSTED);
    assert_eq!(count(&driver), (1, 1));
    driver.create_one(stream);
    driver.failed(stream, Failure::connection("reset"));
    assert_eq!(count(&driver), (1, 0));
    let stream = driver.reopen(TRUSTED);
    assert_eq!(count(&driver), (1, 1));
    driver.watcher.move_stream(driver.now, stream).expect("it is open");
    assert_eq!(count(&driver), (1, 0));
    driver.watcher.cancel(driver.now, watch).expect("it is open");
    driver.watcher.shutdown(driver.now);
    assert_eq!(count(&driver), (0, 0));
}

#[test]
fn what_happens_to_a_watch_is_counted_for_it_and_for_all_in_the_order_of_opening() {
    let config = WatchConfig::default().buffer_floor_bytes(4000).buffer_bytes(4000);
    let mut driver = Driver::new(config);
    let (slow, stream, id) = driver.running(all_from(1));
    let quick = driver.watch(all_from(1));
    let quick_id = driver.create_one(stream);
    driver.frame(stream, big(id, 1, 9000));
    driver.frame(stream, events(id, &[2]));
    driver.take_all(slow);
    driver.create_one(stream);
    driver.frame(stream, events(quick_id, &[1, 2]));
    driver.frame(stream, progress(quick_id, 5));
    driver.frame(stream, manual_progress(6));
    driver.take_all(quick);
    let all: Vec<_> = driver.watcher.all_watch_stats().collect();
    assert_eq!(all.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [slow, quick]);
    let counts = |stats: WatchStats| (stats.overflows, stats.recreates, stats.events);
    assert_eq!(counts(all[0].1), (1, 1, 1));
    assert_eq!(counts(all[1].1), (0, 0, 2));
    let stats = driver.stats();
    assert_eq!((stats.cancels, stats.responses, stats.progress_notifications), (1, 2, 2));
    assert!(stats.frame_bytes > 9000 && stats.frames == 8, "{stats:?}");
}

#[test]
fn an_overflow_is_said_once_each_time_with_the_watch_and_its_policy() {
    for policy in [Overflow::Replay, Overflow::Pause, Overflow::Fail] {
        let mut driver = Driver::new(WatchConfig::default().buffer_floor_bytes(4000).buffer_bytes(4000));
        let (watch, stream, id) = driver.running(all_from(1).overflow(policy));
        for revision in 1..=9 {
            driver.frame(stream, big(id, revision, 1200));
        }
        let said = driver.overflows();
        assert_eq!(said.len(), 1, "{said:?}");
        let Action::Overflowed { watch: of, policy: by, queued_bytes, resume_revision } = said[0] else {
            panic!("{said:?}")
        };
        assert_eq!((of, by), (watch, policy));
        // What is not kept can be asked for again; only a pause makes that needless.
        let is_kept = policy == Overflow::Pause;
        assert_eq!((queued_bytes > 4000, resume_revision), (is_kept, 3 + i64::from(is_kept)), "{said:?}");
        assert_eq!(driver.stats().overflows, 1);
        driver.take_all(watch);
        if policy == Overflow::Pause {
            driver.frame(stream, big(id, 10, 9000));
            assert_eq!(driver.overflows().len(), 1, "a new edge");
        }
    }
}

#[test]
fn a_create_says_whose_it_is_and_whether_it_goes_on() {
    let mut driver = Driver::new(WatchConfig::default());
    let watch = driver.watch(all_from(7));
    let stream = driver.open(TRUSTED);
    let said = |driver: &Driver| {
        driver.actions.iter().find_map(|action| match action {
            Action::Send { creates, .. } => *creates,
            _ => None,
        })
    };
    assert_eq!(said(&driver), Some(Creates { watch, resumes: false }));
    driver.create_one(stream);
    driver.request_progress(watch);
    assert_eq!(said(&driver), None, "other requests are for the stream");
    driver.cut(stream);
    driver.reopen(TRUSTED);
    assert_eq!(said(&driver), Some(Creates { watch, resumes: true }));
}

#[test]
fn when_a_stream_is_opened_again_and_how_often_it_failed_can_be_asked_with_its_old_key() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch(all_from(1));
    let first = driver.open(TRUSTED);
    driver.creates();
    assert_eq!((driver.watcher.reopens_at(first), driver.watcher.failures_in_a_row(first)), (None, 0));
    driver.cut(first);
    assert_eq!(driver.watcher.reopens_at(first), driver.watcher.poll_timeout());
    assert_eq!(driver.watcher.failures_in_a_row(first), 1);
    let second = driver.reopen(TRUSTED);
    driver.creates();
    assert_eq!(driver.watcher.reopens_at(first), None);
    driver.cut(second);
    assert_eq!(driver.watcher.failures_in_a_row(second), 2);
    assert!(driver.watcher.reopens_at(second) > Some(driver.now));
    assert_eq!(driver.watcher.reopens_at(first), None, "that one was replaced long ago");
    let third = driver.reopen(TRUSTED);
    let id = driver.create_one(third);
    assert_eq!(driver.watcher.failures_in_a_row(third), 2, "an answer is no proof");
    driver.frame(third, events(id, &[7]));
    assert_eq!(driver.watcher.failures_in_a_row(third), 0, "events prove it");
}

#[test]
fn which_keys_a_watch_is_of_can_be_asked_until_its_end_is_taken() {
    let mut driver = Driver::new(WatchConfig::default());
    let watch = driver.watch(from_now("k"));
    assert_eq!(driver.watcher.range(watch), Some(etcd_watch_core::KeyRange::key("k")));
    driver.cancel(watch);
    driver.closed(watch);
    assert_eq!(driver.watcher.range(watch), None);
}

#[test]
fn there_are_no_actions_when_it_says_so() {
    let mut driver = Driver::new(WatchConfig::default());
    assert!(!driver.watcher.has_actions());
    driver.watcher.watch(driver.now, from_now("k")).expect("a valid request");
    assert!(driver.watcher.has_actions(), "a stream and a read");
    driver.collect();
    assert!(!driver.watcher.has_actions());
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(1));
    driver.frame(stream, events(id, &[5]));
    driver.watcher.next(driver.now, watch);
    assert!(!driver.watcher.has_actions(), "taking what waits asks for nothing");
    driver.watcher.cancel(driver.now, watch).expect("an open watch");
    assert!(driver.watcher.has_actions());
}

#[test]
fn a_clone_goes_on_as_the_original_does_and_leaves_it_alone() {
    let mut driver = Driver::new(WatchConfig::default());
    let (_, stream, id) = driver.running(all_from(1));
    driver.frame(stream, fragment(id, vec![put(5, "a")]));
    let before = format!("{:?}", driver.watcher);
    let mut copy = driver.watcher.clone();
    copy.handle_failed(driver.now, stream, Failure::connection("reset"));
    assert_eq!(format!("{:?}", driver.watcher), before);
    driver.watcher.handle_failed(driver.now, stream, Failure::connection("reset"));
    assert_eq!(format!("{:?}", driver.watcher), format!("{copy:?}"), "jitter included");
}
