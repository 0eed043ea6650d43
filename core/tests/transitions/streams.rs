//! Streams: backoff, failover, deadlines, probes, grouping, the store's identity, time.

use etcd_watch_core::{
    CloseReason, EndpointHint, Failure, Instant, ServerMisbehaved, StreamEnd, StreamOptions, TimeoutReason,
    WatchConfig,
};

use crate::support::*;

#[test]
fn backoff_grows_within_its_bounds_and_is_reset_by_events_and_not_by_an_answer() {
    let mut longest = [0; 8];
    for seed in 0..40 {
        let mut driver = Driver::with_seed(WatchConfig::default().backoff(ms(10), ms(50), ms(400)), seed);
        driver.watch(all_from(1));
        for (attempt, longest) in longest.iter_mut().enumerate() {
            let stream = driver.open(TRUSTED);
            driver.cut(stream);
            let slept = driver.sleep_to_timeout().as_millis();
            let highest = (50 << attempt).min(400);
            assert!((10..=highest).contains(&slept), "attempt {attempt}: {slept} ms");
            *longest = slept.max(*longest);
        }
        let stream = driver.open(TRUSTED);
        let id = driver.creates().pop().unwrap().watch_id;
        driver.frame(stream, created(id));
        driver.cut(stream);
        assert_eq!(driver.watcher.failures_in_a_row(stream), 9, "an answer doesn't reset it");
        let stream = driver.reopen(TRUSTED);
        let id = driver.create_one(stream);
        driver.frame(stream, events(id, &[7]));
        driver.cut(stream);
        assert!(driver.sleep_to_timeout() <= ms(50), "events do");
    }
    assert!(longest[0] <= 50 && longest[7] > 200, "it grows, with jitter: {longest:?}");
}

#[test]
fn a_stream_that_failed_goes_to_another_endpoint() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch(all_from(1));
    let first = driver.opens().remove(0);
    assert_eq!(first.endpoint, EndpointHint::Any);
    driver.failed(first.stream, Failure::EndOfStream);
    driver.sleep_to_timeout();
    assert_eq!(driver.opens()[0].endpoint, EndpointHint::Another);
}

#[test]
fn words_of_a_dead_stream_are_ignored() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(1));
    driver.cut(stream);
    driver.frame(stream, events(id, &[5]));
    driver.watcher.handle_opened(driver.now, stream, TRUSTED);
    driver.failed(stream, Failure::EndOfStream);
    assert_eq!(driver.take_all(watch), []);
    assert_eq!((driver.stats().frames, driver.stats().reconnects), (1, 1));
    assert!(!driver.watcher.wants_frame(stream));
}

#[test]
fn a_stream_that_is_said_to_be_open_twice_goes_on_as_it_was() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(1));
    driver.opened(stream, TRUSTED);
    driver.frame(stream, events(id, &[5]));
    assert_eq!((driver.revisions(watch), driver.creates(), driver.closes()), (vec![5], vec![], vec![]));
}

#[test]
fn an_unanswered_create_replaces_the_stream() {
    let mut driver = Driver::new(WatchConfig::default().answer_timeout(ms(700)));
    driver.watch(all_from(1));
    let stream = driver.open(TRUSTED);
    assert_eq!(driver.watcher.timeout_reason(), Some(TimeoutReason::AnswerDue));
    driver.sleep(ms(699));
    assert_eq!(driver.closes(), []);
    driver.sleep(ms(1));
    let end = StreamEnd::Misbehaved(ServerMisbehaved::Unresponsive { millis: 700 });
    assert_eq!(driver.closes(), [(stream, end)]);
}

#[test]
fn an_idle_stream_is_probed_and_replaced_if_it_stays_silent() {
    let config = WatchConfig::default().probe(Some(ms(5000))).probe_timeout(ms(1000)).progress_interval(None);
    let mut driver = Driver::new(config);
    let (_, stream, id) = driver.running(all_from(1));
    driver.sleep(ms(5000));
    driver.answer_probe(stream, 100);
    driver.sleep(ms(4999));
    assert_eq!(driver.probes(), []);
    driver.sleep(ms(1));
    assert_eq!(driver.probes().len(), 1);
    driver.frame(stream, progress(id, 100));
    driver.sleep(ms(4999));
    assert_eq!(driver.closes(), [], "any frame is a sign of life");
    driver.sleep(ms(1));
    driver.sleep(ms(1000));
    assert_eq!(driver.probes(), [], "the one before has not been answered yet");
    let end = StreamEnd::Misbehaved(ServerMisbehaved::Unresponsive { millis: 1000 });
    assert_eq!(driver.closes(), [(stream, end)]);
}

#[test]
fn a_probe_that_is_refused_or_whose_id_is_ignored_is_a_sign_of_life_too() {
    let config = WatchConfig::default().probe(Some(ms(5000))).probe_timeout(ms(1000)).progress_interval(None);
    for answer in ["refused", "ignored"] {
        let mut driver = Driver::new(config.clone());
        let watch = driver.watch(all_from(1));
        let stream = driver.open(TRUSTED);
        let own = driver.creates()[0].watch_id;
        let id = if answer == "ignored" { 0 } else { own };
        driver.frame(stream, created(id));
        driver.sleep(ms(5000));
        let probes = driver.probes();
        match answer {
            "refused" => {
                assert_eq!(probes, [own + 1]);
                driver.frame(stream, refused(-1, "etcdserver: permission denied"));
                assert_eq!(driver.cancels(), []);
            }
            _ => {
                assert_eq!(probes, [0], "it chooses");
                driver.frame(stream, created(1));
                assert_eq!(driver.cancels(), [1]);
            }
        }
        driver.frame(stream, events(id, &[7]));
        assert_eq!(driver.revisions(watch), [7]);
        driver.sleep(ms(1000));
        assert_eq!(driver.closes(), [], "{answer}");
    }
}

#[test]
fn watches_end_when_no_member_has_a_leader_or_none_can_be_reached_for_too_long() {
    let deadline = Some(ms(3000));
    let no_leader = Failure::status(14, "etcdserver: no leader");
    let unreachable = Failure::connection("refused");
    for failure in [no_leader.clone(), unreachable] {
        let config = WatchConfig::default().no_leader_deadline(deadline).unreachable_deadline(deadline);
        let mut driver = Driver::new(config);
        let watch = driver.watch(all_from(1));
        let begun = driver.now;
        while driver.stats().watches > 0 {
            for open in driver.opens() {
                driver.failed(open.stream, failure.clone());
            }
            if driver.stats().watches > 0 {
                driver.sleep_to_timeout();
            }
            assert!(driver.now.since(begun) <= ms(9000));
        }
        let reason = driver.closed(watch);
        let is_right = match reason {
            CloseReason::NoLeader { millis } => failure == no_leader && millis >= 3000,
            CloseReason::Unreachable { millis, .. } => failure != no_leader && millis >= 3000,
            _ => false,
        };
        assert!(is_right, "{reason:?} for {failure:?}");
    }
}

#[test]
fn another_cluster_ends_the_watch_and_no_cluster_id_does_not() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, _) = driver.running(all_from(1));
    driver.cut(stream);
    let stream = driver.reopen(TRUSTED);
    let id = driver.creates()[0].watch_id;
    let mut frame = created(id);
    frame.header = None;
    driver.frame(stream, frame);
    driver.frame(stream, events(id, &[5]));
    assert_eq!(driver.revisions(watch), [5]);
    let mut frame = events(id, &[6]);
    frame.header.as_mut().unwrap().cluster_id = 0xbad;
    driver.frame(stream, frame);
    let reason = CloseReason::StoreChanged { before: CLUSTER, after: 0xbad };
    assert_eq!(driver.closed(watch), reason);
    assert_eq!(driver.cancels(), [id]);
}

#[test]
fn a_member_that_lags_gets_its_time_then_another_is_tried_then_the_store_has_regressed() {
    let mut driver = Driver::new(WatchConfig::default().lag_deadline(ms(2000)));
    let (watch, stream, id) = driver.running(all_from(1));
    driver.frame(stream, events(id, &[90]));
    assert_eq!(driver.revisions(watch), [90]);
    driver.cut(stream);
    let stream = driver.reopen(TRUSTED);
    let id = driver.creates()[0].watch_id;
    driver.frame(stream, created_at(id, 50));
    driver.frame(stream, progress(id, 0));
    driver.sleep(ms(1999));
    assert_eq!(driver.closes(), []);
    driver.answer_probe(stream, 50);
    driver.frame(stream, progress(id, 0));
    driver.sleep(ms(1));
    let end = StreamEnd::Lagging { revision: 50, known: 90 };
    assert_eq!(driver.closes(), [(stream, end)], "a header without a revision tells none");
    driver.sleep_to_timeout();
    let open = driver.opens().remove(0);
    assert_eq!(open.endpoint, EndpointHint::Another);
    driver.opened(open.stream, TRUSTED);
    let id = driver.creates()[0].watch_id;
    driver.frame(open.stream, created_at(id, 50));
    driver.sleep(ms(2000));
    assert_eq!(driver.closed(watch), CloseReason::StoreRegressed { known: 90, revision: 50 });
}

#[test]
fn watches_share_streams_by_their_options_up_to_the_limit() {
    let mut driver = Driver::new(WatchConfig::default().max_watches_per_stream(2));
    driver.watch_together([all_from(1), all_from(1), all_from(1)]);
    assert_eq!(driver.opens().len(), 2);
    let options = StreamOptions { require_leader: false, ..StreamOptions::default() };
    driver.watch_together([all_from(1).stream_options(options.clone()), all_from(1).stream_options(options)]);
    assert_eq!(driver.opens().len(), 1);
    assert_eq!(driver.stats().streams, 3);
}

#[test]
fn time_that_goes_back_stands_still_and_an_early_timeout_does_nothing() {
    let mut driver = Driver::new(WatchConfig::default());
    let (_, stream, _) = driver.running(all_from(1));
    driver.sleep(ms(5000));
    let before = format!("{:?}", driver.watcher);
    driver.watcher.handle_timeout(Instant::ZERO);
    assert_eq!(format!("{:?}", driver.watcher), before);
    driver.now = Instant::ZERO;
    driver.cut(stream);
    let until = driver.watcher.poll_timeout().unwrap();
    assert!(until > Instant::ZERO + ms(5000), "from the latest time seen: {until:?}");
}

#[test]
fn the_end_of_time_and_the_shortest_deadlines_do_not_loop() {
    let nanos = core::time::Duration::from_nanos;
    let mut driver = Driver::new(WatchConfig::default().lag_deadline(nanos(5)));
    let (watch, stream, id) = driver.running(all_from(1));
    driver.frame(stream, events(id, &[90]));
    driver.cut(stream);
    let stream = driver.reopen(TRUSTED);
    let id = driver.creates()[0].watch_id;
    driver.frame(stream, created_at(id, 50));
    driver.sleep(nanos(1));
    driver.request_progress(watch);
    for _ in 0..20 {
        driver.watcher.handle_timeout(Instant::from_nanos(u64::MAX));
        driver.collect();
        assert!(driver.actions.len() < 1000);
    }
}

#[test]
fn a_stream_that_opens_and_answers_no_create_is_given_up_at_the_deadline() {
    let mut driver = Driver::new(WatchConfig::default().unreachable_deadline(Some(ms(3_000))));
    let watch = driver.watch(all_from(1));
    driver.open(UNTRUSTED);
    assert_eq!(driver.creates().len(), 1);
    assert_eq!(driver.watcher.timeout_reason(), Some(TimeoutReason::GiveUp));
    assert_eq!(driver.sleep_to_timeout(), ms(3_000));
    let reason = driver.closed(watch);
    assert!(matches!(reason, CloseReason::Unreachable { millis: 3_000, .. }), "{reason:?}");
}

#[test]
fn the_time_until_it_is_given_up_begins_with_the_break_and_not_with_the_last_create() {
    let mut driver = Driver::new(WatchConfig::default().unreachable_deadline(Some(ms(3_000))));
    let (watch, stream, _) = driver.running(all_from(1));
    driver.watch(all_from(2));
    driver.create_one(stream);
    assert_eq!(driver.stats().creates, 2);
    driver.sleep(ms(9_000));
    driver.cut(stream);
    driver.reopen(UNTRUSTED);
    assert_eq!(driver.take_all(watch), []);
    assert_eq!((driver.stats().creates, driver.stats().recreates), (3, 1));
}
