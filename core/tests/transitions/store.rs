//! Which store answers: another cluster, members that lag, a store that went back.

use etcd_watch_core::{
    CloseReason, EndpointHint, Overflow, RangeDone, StreamEnd, StreamKey, TimeoutReason, WatchConfig,
};

use crate::support::*;

const OTHER: u64 = 0xbad;

fn lagging() -> WatchConfig {
    WatchConfig::default().lag_deadline(ms(2000))
}

/// Two watches on one stream: the first has seen nothing, the second revision 90. Then the stream breaks, and
/// the next one has answered the first create at revision 50.
fn broken_onto_a_member_at_50(driver: &mut Driver) -> (StreamKey, i64, [etcd_watch_core::WatchKey; 2]) {
    let (behind, stream, _) = driver.running(all_from(1));
    let ahead = driver.watch(all_from(2));
    let id = driver.create_one(stream);
    driver.frame(stream, events(id, &[90]));
    assert_eq!(driver.revisions(ahead), [90]);
    driver.cut(stream);
    let stream = driver.reopen(TRUSTED);
    let id = answer_creates(driver, stream, 50);
    (stream, id, [behind, ahead])
}

/// Answers the creates, one after the other; the last one's id.
fn answer_creates(driver: &mut Driver, stream: StreamKey, revision: i64) -> i64 {
    let mut last = 0;
    loop {
        let creates = driver.creates();
        if creates.is_empty() {
            return last;
        }
        for create in creates {
            last = create.watch_id;
            driver.frame(stream, created_at(last, revision));
        }
    }
}

#[test]
fn another_cluster_on_a_resumed_stream_ends_its_watches_whatever_it_says_first() {
    for what in ["created", "refused", "compacted", "progress"] {
        let mut driver = Driver::new(WatchConfig::default());
        let (watch, stream, id) = driver.running(all_from(3));
        driver.frame(stream, events(id, &[7]));
        assert_eq!(driver.revisions(watch), [7]);
        driver.cut(stream);
        let stream = driver.reopen(TRUSTED);
        let id = driver.creates()[0].watch_id;
        let mut frame = match what {
            "created" => created(id),
            "refused" => refused(-1, "etcdserver: permission denied"),
            "compacted" => {
                etcd_watch_proto::etcdserverpb::WatchResponse { compact_revision: 50, ..refused(-1, "") }
            }
            _ => {
                // A proxy that leaves the header out of this one.
                driver.frame(
                    stream,
                    etcd_watch_proto::etcdserverpb::WatchResponse { header: None, ..created(id) },
                );
                driver.request_progress(watch);
                manual_progress(100)
            }
        };
        frame.header.as_mut().expect("it has one").cluster_id = OTHER;
        driver.frame(stream, frame);
        let reason = CloseReason::StoreChanged { before: CLUSTER, after: OTHER };
        assert_eq!(driver.closed(watch), reason, "{what}");
    }
}

#[test]
fn a_cluster_without_an_id_is_no_other_one() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, _) = driver.running(all_from(3));
    driver.cut(stream);
    let stream = driver.reopen(TRUSTED);
    let id = driver.creates()[0].watch_id;
    let without_id = |mut frame: etcd_watch_proto::etcdserverpb::WatchResponse| {
        frame.header.as_mut().expect("it has one").cluster_id = 0;
        frame
    };
    driver.frame(stream, without_id(created(id)));
    driver.frame(stream, without_id(events(id, &[5])));
    driver.frame(stream, without_id(progress(id, 6)));
    assert_eq!(driver.revisions(watch), [5]);
    assert_eq!(driver.watcher.resume_revision(watch), Some(7));
}

#[test]
fn a_watch_from_now_remembers_the_cluster_that_told_it_its_now() {
    let mut driver = Driver::new(WatchConfig::default());
    let watch = driver.watch(from_now("k"));
    let stream = driver.open(TRUSTED);
    let read = driver.ranges().remove(0);
    let done = RangeDone { revision: 9, cluster_id: OTHER, mod_revision: 0 };
    driver.watcher.handle_range_done(driver.now, read.range, Ok(done));
    driver.create_one(stream);
    assert_eq!(driver.closed(watch), CloseReason::StoreChanged { before: OTHER, after: CLUSTER });
}

#[test]
fn a_member_that_catches_up_in_time_loses_nothing() {
    let mut driver = Driver::new(lagging());
    let (stream, id, [_, ahead]) = broken_onto_a_member_at_50(&mut driver);
    assert_eq!(driver.watcher.resume_revision(ahead), Some(91));
    driver.sleep(ms(1900));
    driver.answer_probe(stream, 89);
    driver.sleep(ms(99));
    assert_eq!(driver.closes(), []);
    let mut frame = events(id, &[91, 95]);
    frame.header = header(95);
    driver.frame(stream, frame);
    driver.sleep(ms(60_000));
    assert_eq!(driver.revisions(ahead), [91, 95]);
    assert_eq!((driver.closes(), driver.stats().opens), (vec![], 2));
}

#[test]
fn a_store_that_went_back_is_found_out_by_the_watches_that_are_ahead_of_it_alone() {
    let mut driver = Driver::new(lagging());
    let (stream, _, [behind, ahead]) = broken_onto_a_member_at_50(&mut driver);
    driver.sleep(ms(2000));
    assert_eq!(driver.closes(), [(stream, StreamEnd::Lagging { revision: 50, known: 90 })]);
    driver.sleep_to_timeout();
    let open = driver.opens().remove(0);
    assert_eq!(open.endpoint, EndpointHint::Another);
    driver.opened(open.stream, TRUSTED);
    // The watch that is not ahead is created first: its answer says nothing against the one that is.
    answer_creates(&mut driver, open.stream, 52);
    assert_eq!(driver.watcher.timeout_reason(), Some(TimeoutReason::Lagging));
    driver.sleep(ms(2000));
    assert_eq!(driver.closed(ahead), CloseReason::StoreRegressed { known: 90, revision: 52 });
    assert_eq!(driver.take_all(behind), []);
    assert_eq!(driver.closes(), [], "the others stay where they are");
}

#[test]
fn a_member_that_catches_up_in_silence_is_left_in_peace() {
    // Its watches are in the future: nothing but the answers to probes tells that it has caught up.
    let mut driver = Driver::new(lagging());
    let (stream, _, [_, ahead]) = broken_onto_a_member_at_50(&mut driver);
    driver.sleep_to_timeout();
    driver.answer_probe(stream, 90);
    driver.sleep(ms(60_000));
    assert_eq!((driver.closes(), driver.probes(), driver.take_all(ahead)), (vec![], vec![], vec![]));
}

#[test]
fn a_lag_is_over_with_the_answer_that_says_so() {
    let mut driver = Driver::new(lagging());
    broken_onto_a_member_at_50(&mut driver);
    driver.sleep(ms(2000));
    driver.sleep_to_timeout();
    let stream = driver.open(TRUSTED);
    answer_creates(&mut driver, stream, 52);
    driver.probes();
    driver.sleep(ms(1));
    let probes = driver.probes();
    driver.frame(stream, created_at(probes[0], 95));
    // Before the probe's cancel is confirmed. What lags next has all its time again.
    driver.cut(stream);
    driver.closes();
    let stream = driver.reopen(TRUSTED);
    answer_creates(&mut driver, stream, 60);
    driver.sleep(ms(2000));
    assert_eq!(driver.closes(), [(stream, StreamEnd::Lagging { revision: 60, known: 90 })]);
}

#[test]
fn a_member_that_lags_is_not_asked_while_its_stream_is_not_read() {
    let mut driver = Driver::new(lagging());
    let (slow, stream, _) = driver.running(all_from(1).overflow(Overflow::Pause).buffer_bytes(1000));
    let ahead = driver.watch(all_from(2));
    let id = driver.create_one(stream);
    driver.frame(stream, events(id, &[90]));
    assert_eq!(driver.revisions(ahead), [90]);
    driver.cut(stream);
    let stream = driver.reopen(TRUSTED);
    let slow_id = driver.creates()[0].watch_id;
    driver.frame(stream, created_at(slow_id, 50));
    answer_creates(&mut driver, stream, 50);
    let mut frame = big(slow_id, 40, 9000);
    frame.header = header(50);
    driver.frame(stream, frame);
    assert!(!driver.watcher.wants_frame(stream));
    for _ in 0..3 {
        driver.sleep(ms(300));
        assert_eq!(driver.probes(), []);
    }
    assert_eq!(driver.revisions(slow), [40]);
    driver.sleep(ms(300));
    assert_eq!(driver.probes().len(), 1);
}

#[test]
fn a_store_that_went_back_is_found_out_though_it_answers() {
    let mut driver = Driver::new(lagging().probe(Some(ms(500))).probe_timeout(ms(500)));
    let (stream, _, [_, ahead]) = broken_onto_a_member_at_50(&mut driver);
    let mut closes = driver.closes();
    while closes.is_empty() {
        driver.sleep_to_timeout();
        closes = driver.closes();
        if closes.is_empty() {
            driver.answer_probe(stream, 50);
        }
    }
    assert_eq!(closes, [(stream, StreamEnd::Lagging { revision: 50, known: 90 })]);
    let stream = driver.reopen(TRUSTED);
    answer_creates(&mut driver, stream, 52);
    while driver.delivers().is_empty() {
        driver.sleep_to_timeout();
        assert_eq!(driver.closes(), []);
        if driver.stats().watches == 2 {
            driver.answer_probe(stream, 52);
        }
    }
    assert_eq!(driver.closed(ahead), CloseReason::StoreRegressed { known: 90, revision: 52 });
}

#[test]
fn another_member_that_has_it_all_ends_the_matter() {
    let mut driver = Driver::new(lagging());
    let (_, _, [_, ahead]) = broken_onto_a_member_at_50(&mut driver);
    driver.sleep(ms(2000));
    driver.sleep_to_timeout();
    let stream = driver.open(TRUSTED);
    let id = answer_creates(&mut driver, stream, 97);
    let mut frame = events(id, &[93]);
    frame.header = header(97);
    driver.frame(stream, frame);
    driver.sleep(ms(10_000));
    assert_eq!(driver.revisions(ahead), [93]);
    // A later lag begins from the beginning: another member is tried before it is believed.
    driver.cut(stream);
    let stream = driver.reopen(TRUSTED);
    answer_creates(&mut driver, stream, 60);
    driver.closes();
    driver.sleep(ms(2000));
    assert_eq!(driver.closes(), [(stream, StreamEnd::Lagging { revision: 60, known: 93 })]);
}

#[test]
fn a_now_below_what_was_seen_is_asked_for_again_elsewhere_and_believed_in_the_end() {
    let mut driver = Driver::new(lagging());
    let (_, stream, id) = driver.running(all_from(1));
    let mut frame = events(id, &[90]);
    frame.header = header(90);
    driver.frame(stream, frame);
    let watch = driver.watch(from_now("k"));
    let mut hints = Vec::new();
    let begun = driver.now;
    while driver.watcher.resume_revision(watch) == Some(0) {
        let read = driver.ranges().remove(0);
        hints.push(read.endpoint);
        driver.range_done(read.range, 50);
        if driver.watcher.resume_revision(watch) == Some(0) {
            assert_eq!(driver.watcher.timeout_reason(), Some(TimeoutReason::RetryRange));
            driver.sleep_to_timeout();
        }
    }
    assert_eq!(driver.now.since(begun), ms(2000), "not later than at the deadline");
    assert!(hints.len() > 3 && hints.len() < 40, "{hints:?}");
    assert!(hints[1..].iter().all(|hint| *hint == EndpointHint::Another));
    assert_eq!(driver.watcher.resume_revision(watch), Some(51));
    // That is what the store is now.
    let next = driver.watch(from_now("k"));
    let read = driver.ranges().remove(0);
    driver.range_done(read.range, 51);
    assert_eq!(driver.watcher.resume_revision(next), Some(52));
}

#[test]
fn a_now_is_measured_by_the_one_before_though_no_stream_has_said_anything() {
    let mut driver = Driver::new(lagging());
    driver.watch(from_now("a"));
    let read = driver.ranges().remove(0);
    driver.range_done(read.range, 100);
    driver.watch(from_now("b"));
    let read = driver.ranges().remove(0);
    driver.range_done(read.range, 90);
    driver.sleep_to_timeout();
    assert_eq!(driver.ranges().len(), 1, "it is asked for again");
}

#[test]
fn a_now_is_measured_by_what_was_seen_when_it_was_asked_for() {
    let mut driver = Driver::new(lagging());
    let (_, stream, id) = driver.running(all_from(1));
    driver.frame(stream, events(id, &[80]));
    let watch = driver.watch(from_now("k"));
    let read = driver.ranges().remove(0);
    // While the read is out, the store goes on.
    let mut frame = events(id, &[190]);
    frame.header = header(190);
    driver.frame(stream, frame);
    driver.range_done(read.range, 100);
    assert_eq!(driver.watcher.resume_revision(watch), Some(101));
}

#[test]
fn a_now_of_another_cluster_is_not_measured_by_this_one() {
    let mut driver = Driver::new(lagging());
    driver.running(all_from(1));
    let watch = driver.watch(from_now("k"));
    let read = driver.ranges().remove(0);
    let done = RangeDone { revision: 9, cluster_id: OTHER, mod_revision: 0 };
    driver.watcher.handle_range_done(driver.now, read.range, Ok(done));
    assert_eq!(driver.watcher.resume_revision(watch), Some(10));
}

#[test]
fn a_watch_that_knows_its_store_from_before_notices_another_one_at_once() {
    let mut driver = Driver::new(WatchConfig::default());
    let watch = driver.watch(all_from(91).known_store(OTHER, 90));
    let stream = driver.open(TRUSTED);
    driver.create_one(stream);
    assert_eq!(driver.closed(watch), CloseReason::StoreChanged { before: OTHER, after: CLUSTER });
}

#[test]
fn a_watch_that_knows_its_store_from_before_does_not_wait_for_a_history_that_is_gone() {
    let mut driver = Driver::new(lagging());
    let watch = driver.watch(all_from(91).known_store(0, 90));
    for _ in 0..2 {
        let stream = driver.open(TRUSTED);
        answer_creates(&mut driver, stream, 50);
        while driver.closes().is_empty() && driver.delivers().is_empty() {
            driver.sleep_to_timeout();
        }
        if driver.watcher.timeout_reason() == Some(TimeoutReason::Reconnect) {
            driver.sleep_to_timeout();
        }
    }
    assert_eq!(driver.closed(watch), CloseReason::StoreRegressed { known: 90, revision: 50 });
}

#[test]
fn a_watch_whose_store_has_gone_on_since_then_just_runs() {
    let mut driver = Driver::new(lagging());
    let (watch, stream, id) = driver.running(all_from(91).known_store(CLUSTER, 100));
    driver.frame(stream, events(id, &[95, 101]));
    assert_eq!(driver.revisions(watch), [95, 101]);
}

#[test]
fn a_member_that_has_just_what_is_known_is_not_behind() {
    for (known, is_behind) in [(100, false), (101, true)] {
        let mut driver = Driver::new(WatchConfig::default());
        let watch = driver.watch(all_from(known + 1).known_store(CLUSTER, known));
        let stream = driver.open(UNTRUSTED);
        driver.create_one(stream);
        let waits_for = is_behind.then_some(TimeoutReason::Lagging);
        assert_eq!(driver.watcher.timeout_reason(), waits_for, "{known}");
        assert_eq!(driver.take_all(watch), []);
    }
}
