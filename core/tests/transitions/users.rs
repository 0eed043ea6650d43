//! Users, tokens and permissions: what ends a watch, and what only needs a new token.

use etcd_watch_core::{
    CloseReason, EndpointHint, Failure, KeyRange, Opened, StreamEnd, StreamKey, TimeoutReason, WatchConfig,
    WatchKey, WatchRequest, WatchState,
};

use prost::Message;

use crate::support::*;

const WITH_TOKEN: Opened = Opened { authenticated: true, ..UNTRUSTED };

const DENIED: &str = "etcdserver: permission denied";
const OLD_TOKEN: &str = "etcdserver: invalid auth token";

fn on_key(key: &'static str) -> WatchRequest {
    WatchRequest::new(KeyRange::key(key)).start_revision(3)
}

/// A watch that runs, and one whose create was denied, on a stream with a token.
fn one_denied(driver: &mut Driver) -> (StreamKey, (WatchKey, i64), WatchKey) {
    let watches = driver.watch_together([on_key("k"), on_key("secret")]);
    let stream = driver.open(WITH_TOKEN);
    let id = driver.create_one(stream);
    assert_eq!(driver.creates().len(), 1);
    driver.frame(stream, refused(-1, DENIED));
    (stream, (watches[0], id), watches[1])
}

#[test]
fn a_denial_on_a_stream_without_a_token_ends_the_watch_at_once() {
    let mut driver = Driver::new(WatchConfig::default());
    let watch = driver.watch(on_key("secret"));
    let stream = driver.open(UNTRUSTED);
    driver.creates();
    driver.frame(stream, refused(-1, DENIED));
    assert_eq!(driver.closed(watch), CloseReason::PermissionDenied { message: DENIED.into() });
    assert_eq!(driver.ranges(), []);
}

#[test]
fn a_denial_that_a_read_confirms_ends_the_watch_and_disturbs_no_other() {
    let mut driver = Driver::new(WatchConfig::default());
    let (stream, (watch, id), denied) = one_denied(&mut driver);
    let reads = driver.ranges();
    assert_eq!(reads.len(), 1);
    assert_eq!(reads[0].request.keys, KeyRange::key("secret"));
    assert_eq!(driver.watcher.watch_stats(denied).map(|stats| stats.state), Some(WatchState::Waiting));
    driver.frame(stream, events(id, &[5]));
    driver.range_failed(reads[0].range, Failure::status(7, DENIED));
    assert_eq!(driver.closed(denied), CloseReason::PermissionDenied { message: DENIED.into() });
    assert_eq!(driver.revisions(watch), [5]);
    assert_eq!((driver.closes(), driver.stats().opens), (vec![], 1));
    assert_eq!(driver.ranges(), []);
}

#[test]
fn a_denial_is_not_confirmed_by_what_a_proxy_says() {
    let mut driver = Driver::new(WatchConfig::default());
    let (_, _, denied) = one_denied(&mut driver);
    let reads = driver.ranges();
    driver.range_failed(reads[0].range, Failure::status(7, "RBAC: access denied"));
    driver.sleep_to_timeout();
    let reads = driver.ranges();
    assert_eq!(reads.len(), 1, "another endpoint is asked");
    assert_eq!(reads[0].endpoint, EndpointHint::Another);
    driver.range_failed(reads[0].range, Failure::status(7, DENIED));
    assert_eq!(driver.closed(denied), CloseReason::PermissionDenied { message: DENIED.into() });
}

#[test]
fn nothing_is_read_for_a_denied_watch_that_is_cancelled_before_its_turn() {
    let mut driver = Driver::new(WatchConfig::default());
    let watches = driver.watch_together([on_key("k"), on_key("secret"), on_key("other secret")]);
    let stream = driver.open(WITH_TOKEN);
    driver.create_one(stream);
    driver.frame(stream, refused(-1, DENIED));
    driver.frame(stream, refused(-1, DENIED));
    let reads = driver.ranges();
    assert_eq!(reads.len(), 1, "one at a time");
    driver.cancel(watches[2]);
    driver.range_failed(reads[0].range, Failure::status(7, DENIED));
    assert_eq!(driver.closed(watches[1]), CloseReason::PermissionDenied { message: DENIED.into() });
    assert_eq!(driver.ranges(), []);
}

#[test]
fn a_denial_that_a_read_contradicts_is_an_old_token_and_every_watch_goes_on_with_a_new_one() {
    for answer in [Ok(()), Err(Failure::status(16, OLD_TOKEN))] {
        let mut driver = Driver::new(WatchConfig::default());
        let (stream, (watch, id), denied) = one_denied(&mut driver);
        driver.frame(stream, events(id, &[5]));
        let read = driver.ranges().remove(0);
        match answer {
            Ok(()) => driver.range_done(read.range, 9),
            Err(failure) => driver.range_failed(read.range, failure),
        }
        assert_eq!(driver.closes(), [(stream, StreamEnd::TokenExpired)]);
        driver.sleep_to_timeout();
        let open = driver.opens().remove(0);
        assert!(open.fresh_token);
        driver.opened(open.stream, WITH_TOKEN);
        let first = driver.creates().remove(0);
        assert_eq!(first.start_revision, 6);
        driver.frame(open.stream, created(first.watch_id));
        assert_eq!(driver.creates()[0].start_revision, 3, "the denied one, where it was");
        assert_eq!(driver.revisions(watch), [5]);
        assert_eq!(driver.take_all(denied), []);
    }
}

#[test]
fn a_watch_that_is_denied_on_streams_with_new_tokens_too_ends() {
    let mut driver = Driver::new(WatchConfig::default());
    let (mut stream, (watch, _), denied) = one_denied(&mut driver);
    let mut replaced = 0;
    while let Some(read) = driver.ranges().pop() {
        driver.range_done(read.range, 9);
        stream = driver.reopen(WITH_TOKEN);
        replaced += 1;
        driver.create_one(stream);
        assert_eq!(driver.creates().len(), 1);
        driver.frame(stream, refused(-1, DENIED));
    }
    assert_eq!(replaced, 2);
    assert_eq!(driver.closed(denied), CloseReason::PermissionDenied { message: DENIED.into() });
    assert!(driver.watcher.wants_frame(stream), "the other goes on");
    assert_eq!(driver.watcher.watch_stats(watch).map(|stats| stats.state), Some(WatchState::Active));
}

#[test]
fn a_watch_that_ran_in_between_is_not_held_to_the_denials_before() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch(on_key("k"));
    let mut stream = driver.open(WITH_TOKEN);
    for _ in 0..10 {
        driver.creates();
        driver.frame(stream, refused(-1, DENIED));
        let read = driver.ranges().remove(0);
        driver.range_done(read.range, 9);
        stream = driver.reopen(WITH_TOKEN);
        driver.create_one(stream);
        driver.cut(stream);
        stream = driver.reopen(WITH_TOKEN);
    }
    assert_eq!(driver.stats().watches, 1);
}

#[test]
fn a_read_for_a_denial_that_fails_otherwise_is_repeated_elsewhere_with_a_growing_backoff() {
    let mut driver = Driver::new(WatchConfig::default().backoff(ms(10), ms(50), ms(2000)));
    let (_, _, denied) = one_denied(&mut driver);
    let mut slept = Vec::new();
    for attempt in 0..12 {
        let reads = driver.ranges();
        assert_eq!(reads.len(), 1);
        let hint = if attempt == 0 { EndpointHint::Any } else { EndpointHint::Another };
        assert_eq!(reads[0].endpoint, hint);
        driver.range_failed(reads[0].range, Failure::connection("refused"));
        assert_eq!(driver.watcher.timeout_reason(), Some(TimeoutReason::RetryRange));
        slept.push(driver.sleep_to_timeout());
    }
    assert!(slept[0] <= ms(50) && slept.iter().any(|slept| *slept > ms(400)), "{slept:?}");
    let read = driver.ranges().remove(0);
    driver.range_failed(read.range, Failure::status(7, DENIED));
    assert!(matches!(driver.closed(denied), CloseReason::PermissionDenied { .. }));
}

#[test]
fn many_denials_are_looked_into_one_after_the_other_and_those_for_the_same_keys_together() {
    let mut driver = Driver::new(WatchConfig::default());
    let keys = ["a", "a", "b", "a", "c"];
    let mut watches = driver.watch_together(["k"].into_iter().chain(keys).map(on_key));
    let stream = driver.open(WITH_TOKEN);
    driver.create_one(stream);
    assert_eq!(driver.creates().len(), 5);
    for _ in keys {
        // All of them arrive before the driver looks at any action.
        let frame = refused(-1, DENIED).encode_to_vec();
        driver.watcher.handle_frame(driver.now, stream, etcd_watch_core::Frame::decode(frame.into()));
    }
    watches.remove(0);
    for (key, ended) in [("a", 2), ("b", 1), ("a", 1)] {
        let reads = driver.ranges();
        assert_eq!(reads.len(), 1, "one at a time");
        assert_eq!(reads[0].request.keys, KeyRange::key(key));
        driver.range_failed(reads[0].range, Failure::status(7, DENIED));
        for watch in watches.drain(..ended) {
            assert!(matches!(driver.closed(watch), CloseReason::PermissionDenied { .. }));
        }
    }
    // The last one shows that the token is old.
    let read = driver.ranges().remove(0);
    driver.range_done(read.range, 9);
    assert_eq!(driver.closes(), [(stream, StreamEnd::TokenExpired)]);
    assert_eq!(driver.stats().watches, 2);
}

#[test]
fn one_read_that_shows_an_old_token_frees_every_watch_that_was_denied_on_its_stream() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch_together(["a", "b", "c"].map(on_key));
    let stream = driver.open(WITH_TOKEN);
    for _ in 0..3 {
        assert_eq!(driver.creates().len(), 1, "the next one is first on this stream");
        driver.frame(stream, refused(-1, DENIED));
    }
    let read = driver.ranges().remove(0);
    driver.range_done(read.range, 9);
    assert_eq!(driver.ranges(), []);
    let stream = driver.reopen(WITH_TOKEN);
    driver.create_one(stream);
    assert_eq!(driver.creates().len(), 2);
}

#[test]
fn a_denied_watch_whose_stream_broke_meanwhile_is_created_on_the_next_one() {
    let mut driver = Driver::new(WatchConfig::default());
    let (stream, _, denied) = one_denied(&mut driver);
    let read = driver.ranges().remove(0);
    driver.cut(stream);
    let stream = driver.reopen(WITH_TOKEN);
    driver.create_one(stream);
    assert_eq!(driver.creates(), [], "it waits for its answer");
    driver.range_done(read.range, 9);
    assert_eq!(driver.creates().len(), 1);
    assert_eq!((driver.closes(), driver.take_all(denied)), (vec![], vec![]));
}

#[test]
fn a_denied_watch_can_be_cancelled_and_shut_down_while_its_read_is_out_or_due() {
    for is_shutdown in [false, true] {
        for is_failed in [false, true] {
            let mut driver = Driver::new(WatchConfig::default());
            let (_, _, denied) = one_denied(&mut driver);
            let read = driver.ranges().remove(0);
            if is_failed {
                driver.range_failed(read.range, Failure::EndOfStream);
            }
            if is_shutdown {
                driver.watcher.shutdown(driver.now);
                assert_eq!(driver.closed(denied), CloseReason::ShutDown);
                assert_eq!(driver.watcher.poll_timeout(), None);
            } else {
                driver.cancel(denied);
                assert_eq!(driver.closed(denied), CloseReason::Cancelled);
                assert_eq!(driver.cancels(), [0_i64; 0], "no server has it");
            }
            if !is_failed {
                driver.range_done(read.range, 9);
            }
            driver.sleep(ms(1000));
            assert_eq!(driver.ranges(), []);
            let closes = driver.closes();
            assert!(closes.iter().all(|(_, end)| is_shutdown && *end == StreamEnd::ShutDown), "{closes:?}");
        }
    }
}

#[test]
fn wrong_credentials_end_every_watch_that_waits_for_a_read() {
    let text = "etcdserver: authentication failed, invalid user ID or password";
    let mut driver = Driver::new(WatchConfig::default());
    let watches = driver.watch_together([from_now("a"), from_now("b")]);
    let read = driver.ranges().remove(0);
    driver.range_failed(read.range, Failure::status(3, text));
    for watch in watches {
        assert_eq!(driver.closed(watch), CloseReason::AuthenticationFailed { message: text.into() });
    }
    let (_, _, denied) = one_denied(&mut driver);
    let read = driver.ranges().remove(0);
    driver.range_failed(read.range, Failure::status(3, text));
    assert_eq!(driver.closed(denied), CloseReason::AuthenticationFailed { message: text.into() });
}

#[test]
fn streams_whose_new_tokens_are_refused_again_and_again_end_their_watches() {
    for is_refused_on_opening in [false, true] {
        let mut driver = Driver::new(WatchConfig::default().backoff(ms(10), ms(50), ms(5000)));
        let watches = driver.watch_together([on_key("a"), on_key("b")]);
        let mut opens = Vec::new();
        let mut slept = Vec::new();
        while driver.stats().watches > 0 {
            let open = driver.opens().remove(0);
            if is_refused_on_opening {
                driver.failed(open.stream, Failure::status(16, OLD_TOKEN));
            } else {
                driver.opened(open.stream, WITH_TOKEN);
                driver.creates();
                driver.frame(open.stream, refused(-1, OLD_TOKEN));
                assert_eq!(driver.closes(), [(open.stream, StreamEnd::TokenExpired)]);
            }
            opens.push(open.fresh_token);
            if driver.stats().watches > 0 {
                slept.push(driver.sleep_to_timeout());
            }
        }
        assert!(!opens[0]);
        assert_eq!(opens[1..], [true; 8], "a new token each time");
        assert!(slept.iter().any(|slept| *slept > ms(500)), "the backoff grows: {slept:?}");
        for watch in watches {
            let reason = CloseReason::TokenRefused { tokens: 8, message: OLD_TOKEN.into() };
            assert_eq!(driver.closed(watch), reason);
        }
        assert_eq!((driver.stats().streams, driver.watcher.poll_timeout()), (0, None));
    }
}

#[test]
fn a_watch_that_runs_shows_that_its_stream_s_token_is_good() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch(on_key("a"));
    for round in 0..4 {
        for refusal in 0..6 {
            let open = driver.opens().remove(0);
            assert_eq!(open.fresh_token, refusal > 0, "round {round}");
            driver.opened(open.stream, WITH_TOKEN);
            driver.creates();
            driver.frame(open.stream, refused(-1, OLD_TOKEN));
            driver.sleep_to_timeout();
        }
        let stream = driver.open(WITH_TOKEN);
        driver.create_one(stream);
        driver.cut(stream);
        driver.sleep_to_timeout();
    }
    assert_eq!(driver.stats().watches, 1);
}

#[test]
fn one_watch_that_is_refused_for_the_token_while_others_run_ends_alone() {
    let mut driver = Driver::new(WatchConfig::default());
    let watches = driver.watch_together([on_key("a"), on_key("b")]);
    let mut refusals = 0;
    while driver.stats().watches == 2 {
        let stream = driver.open(WITH_TOKEN);
        driver.create_one(stream);
        driver.creates();
        driver.frame(stream, refused(-1, OLD_TOKEN));
        refusals += 1;
        if driver.stats().watches == 2 {
            driver.sleep_to_timeout();
        }
    }
    assert_eq!(refusals, 9);
    assert!(matches!(driver.closed(watches[1]), CloseReason::TokenRefused { .. }));
    assert_eq!(driver.take_all(watches[0]), []);
}

#[test]
fn reads_whose_new_tokens_are_refused_again_and_again_end_their_watches() {
    let mut driver = Driver::new(WatchConfig::default().backoff(ms(10), ms(50), ms(5000)));
    let watches = driver.watch_together([from_now("a"), from_now("b")]);
    let mut fresh = Vec::new();
    let mut slept = Vec::new();
    while driver.stats().watches > 0 {
        let read = driver.ranges().remove(0);
        fresh.push(read.fresh_token);
        driver.range_failed(read.range, Failure::status(16, OLD_TOKEN));
        if driver.stats().watches > 0 {
            slept.push(driver.sleep_to_timeout());
        }
    }
    assert!(!fresh[0]);
    assert_eq!(fresh[1..], [true; 8]);
    assert!(slept.iter().any(|slept| *slept > ms(500)), "the backoff grows: {slept:?}");
    for watch in watches {
        let reason = CloseReason::TokenRefused { tokens: 8, message: OLD_TOKEN.into() };
        assert_eq!(driver.closed(watch), reason);
    }
}

#[test]
fn a_read_asks_for_a_new_token_until_one_has_worked() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch(from_now("a"));
    let read = driver.ranges().remove(0);
    driver.range_failed(read.range, Failure::status(16, OLD_TOKEN));
    driver.sleep_to_timeout();
    let read = driver.ranges().remove(0);
    driver.range_failed(read.range, Failure::connection("refused"));
    driver.sleep_to_timeout();
    let read = driver.ranges().remove(0);
    assert!(read.fresh_token, "whether the new one is good has not been seen");
    driver.range_done(read.range, 5);
    driver.watch(from_now("a"));
    assert!(!driver.ranges()[0].fresh_token);
}

#[test]
fn a_read_of_denied_keys_whose_token_is_refused_is_followed_by_one_with_a_new_token() {
    let mut driver = Driver::new(WatchConfig::default());
    let (stream, _, _) = one_denied(&mut driver);
    let read = driver.ranges().remove(0);
    assert!(!read.fresh_token);
    driver.range_failed(read.range, Failure::status(16, OLD_TOKEN));
    assert_eq!(driver.closes(), [(stream, StreamEnd::TokenExpired)]);
    driver.sleep_to_timeout();
    let open = driver.opens().remove(0);
    driver.opened(open.stream, WITH_TOKEN);
    driver.create_one(open.stream);
    assert_eq!(driver.creates().len(), 1);
    driver.frame(open.stream, refused(-1, DENIED));
    assert!(driver.ranges()[0].fresh_token);
}

#[test]
fn a_denial_does_not_show_that_a_stream_s_new_token_is_good() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch(on_key("a"));
    let stream = driver.open(WITH_TOKEN);
    driver.creates();
    driver.frame(stream, refused(-1, OLD_TOKEN));
    driver.sleep_to_timeout();
    let open = driver.opens().remove(0);
    driver.opened(open.stream, WITH_TOKEN);
    driver.creates();
    driver.frame(open.stream, refused(-1, DENIED));
    driver.cut(open.stream);
    driver.sleep_to_timeout();
    assert!(driver.opens()[0].fresh_token);
}
