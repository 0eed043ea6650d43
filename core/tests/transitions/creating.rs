//! Creates: the first alone, then together; refusals.

use etcd_watch_core::{
    CloseReason, Delivery, Failure, ServerMisbehaved, StreamEnd, StreamKey, TimeoutReason, WatchConfig,
};

use etcd_watch_proto::etcdserverpb::WatchResponse as Frame;

use crate::support::*;

#[test]
fn the_first_create_goes_alone_and_the_rest_follow_together_once_its_id_is_echoed() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch_together([all_from(1), all_from(2), all_from(3), all_from(4)]);
    let stream = driver.open(TRUSTED);
    let first = driver.creates();
    assert_eq!(first.len(), 1);
    driver.frame(stream, created(first[0].watch_id));
    let rest = driver.creates();
    let starts: Vec<i64> = rest.iter().map(|create| create.start_revision).collect();
    assert_eq!(starts, [2, 3, 4]);
    let mut ids: Vec<i64> = first.iter().chain(&rest).map(|create| create.watch_id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 4, "every watch has an id of its own");
}

#[test]
fn a_server_that_chooses_ids_itself_gets_one_create_at_a_time() {
    let mut driver = Driver::new(WatchConfig::default());
    let watches = driver.watch_together([all_from(1), all_from(2), all_from(3)]);
    let stream = driver.open(UNTRUSTED);
    for id in 0..3 {
        let creates = driver.creates();
        assert_eq!(creates.len(), 1, "one at a time");
        assert_eq!(creates[0].start_revision, id + 1);
        assert_eq!(creates[0].watch_id == 0, id > 0, "it is left to choose once it has shown that it does");
        driver.frame(stream, created(id));
    }
    driver.frame(stream, events(1, &[7]));
    assert_eq!(driver.revisions(watches[1]), [7], "the second watch got the id 1");
    assert_eq!(driver.revisions(watches[0]), [0_i64; 0]);
}

#[test]
fn a_server_that_chooses_an_id_twice_is_replaced() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch_together([all_from(1), all_from(2)]);
    let stream = driver.open(UNTRUSTED);
    driver.frame(stream, created(0));
    driver.frame(stream, created(0));
    let end = StreamEnd::Misbehaved(ServerMisbehaved::UnexpectedCreated { watch_id: 0 });
    assert_eq!(driver.closes(), [(stream, end)]);
}

#[test]
fn created_replies_out_of_order_replace_the_stream() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch_together([all_from(1), all_from(2), all_from(3)]);
    let stream = driver.open(TRUSTED);
    driver.create_one(stream);
    let rest = driver.creates();
    let watch_id = rest[1].watch_id;
    driver.frame(stream, created(watch_id));
    let end = StreamEnd::Misbehaved(ServerMisbehaved::UnexpectedCreated { watch_id });
    assert_eq!(driver.closes(), [(stream, end)]);
    let stream = driver.reopen(TRUSTED);
    driver.create_one(stream);
    assert_eq!(driver.creates().len(), 2, "all three are created again");
    assert_eq!(driver.stats().recreates, 1, "only the first had been created before");
}

#[test]
fn a_created_reply_nobody_asked_for_replaces_the_stream() {
    let mut driver = Driver::new(WatchConfig::default());
    let (_, stream, id) = driver.running(all_from(1));
    driver.frame(stream, created(id));
    let end = StreamEnd::Misbehaved(ServerMisbehaved::UnexpectedCreated { watch_id: id });
    assert_eq!(driver.closes(), [(stream, end)]);
}

#[test]
fn a_refused_create_ends_only_its_own_watch_whichever_id_the_refusal_carries() {
    for echo_id in [false, true] {
        let mut driver = Driver::new(WatchConfig::default());
        let watches = driver.watch_together([all_from(1), all_from(2), all_from(3)]);
        let stream = driver.open(TRUSTED);
        driver.create_one(stream);
        let rest = driver.creates();
        let id = if echo_id { rest[0].watch_id } else { -1 };
        driver.frame(stream, refused(id, "etcdserver: permission denied"));
        driver.frame(stream, created(rest[1].watch_id));
        let reason = driver.closed(watches[1]);
        assert!(matches!(reason, CloseReason::PermissionDenied { .. }), "{reason:?}");
        driver.frame(stream, events(rest[1].watch_id, &[5]));
        assert_eq!(driver.revisions(watches[2]), [5]);
        assert_eq!(driver.closes(), []);
        assert_eq!(driver.stats().watches, 2);
    }
}

#[test]
fn a_create_refused_as_compacted_without_an_id_ends_its_watch_as_compacted() {
    let mut driver = Driver::new(WatchConfig::default());
    let watches = driver.watch_together([all_from(1), all_from(5)]);
    let stream = driver.open(TRUSTED);
    driver.create_one(stream);
    assert_eq!(driver.creates().len(), 1);
    let mut refusal = refused(-1, "");
    refusal.compact_revision = 9;
    driver.frame(stream, refusal);
    let reason = driver.closed(watches[1]);
    assert_eq!(reason, CloseReason::Compacted { compact_revision: 9, next_revision: 5 });
    assert_eq!(driver.closes(), []);
}

#[test]
fn the_servers_reason_for_a_refusal_has_its_control_characters_escaped() {
    let mut driver = Driver::new(WatchConfig::default());
    let watch = driver.watch(all_from(1));
    let stream = driver.open(TRUSTED);
    let id = driver.creates()[0].watch_id;
    driver.frame(stream, refused(id, "two\nlines \u{1b}[31m"));
    let message = r"two\nlines \u{1b}[31m".into();
    assert_eq!(driver.closed(watch), CloseReason::Refused { message });
}

#[test]
fn a_refusal_with_an_id_leaves_nothing_to_cancel_and_a_compacted_watch_does() {
    let mut driver = Driver::new(WatchConfig::default());
    let watch = driver.watch(all_from(1));
    let stream = driver.open(TRUSTED);
    let id = driver.creates()[0].watch_id;
    driver.frame(stream, refused(id, "maintenance"));
    assert_eq!(driver.closed(watch), CloseReason::Refused { message: "maintenance".into() });
    assert_eq!(driver.cancels(), []);
    let watch = driver.watch(all_from(1));
    let id = driver.creates()[0].watch_id;
    driver.frame(stream, Frame { compact_revision: 50, ..refused(id, "") });
    let reason = CloseReason::Compacted { compact_revision: 50, next_revision: 1 };
    assert_eq!(driver.closed(watch), reason);
    assert_eq!(driver.cancels(), [id], "the server holds on to it");
}

#[test]
fn a_watch_that_is_cancelled_before_its_create_was_sent_is_not_created() {
    let mut driver = Driver::new(WatchConfig::default());
    let watches = driver.watch_together([all_from(1), all_from(2), all_from(3)]);
    let stream = driver.open(TRUSTED);
    driver.cancel(watches[1]);
    driver.create_one(stream);
    let starts: Vec<i64> = driver.creates().iter().map(|create| create.start_revision).collect();
    assert_eq!((starts, driver.cancels()), (vec![3], vec![]));
}

#[test]
fn what_a_stream_says_before_it_is_known_to_be_open_is_ignored() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch(all_from(1));
    let opening = driver.opens()[0].stream;
    driver.frame(opening, manual_progress(5));
    driver.bytes(opening, &b"\xff"[..]);
    assert_eq!((driver.stats().frames, driver.closes()), (0, vec![]));
}

#[test]
fn a_refusal_of_the_first_create_leaves_the_next_one_to_go_alone() {
    let mut driver = Driver::new(WatchConfig::default());
    let watches = driver.watch_together([all_from(1), all_from(2), all_from(3)]);
    let stream = driver.open(TRUSTED);
    assert_eq!(driver.creates().len(), 1);
    driver.frame(stream, refused(-1, "no such thing"));
    assert!(matches!(driver.closed(watches[0]), CloseReason::Refused { .. }));
    driver.create_one(stream);
    assert_eq!(driver.creates().len(), 1);
}

#[test]
fn an_expired_token_opens_the_next_stream_with_a_fresh_one() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch(all_from(3));
    let stream = driver.open(TRUSTED);
    assert_eq!(driver.creates().len(), 1);
    driver.frame(stream, refused(-1, "etcdserver: invalid auth token"));
    assert_eq!(driver.closes(), [(stream, StreamEnd::TokenExpired)]);
    driver.sleep_to_timeout();
    let opens = driver.opens();
    assert!(opens[0].fresh_token);
    driver.opened(opens[0].stream, TRUSTED);
    driver.create_one(opens[0].stream);
    driver.cut(opens[0].stream);
    driver.sleep_to_timeout();
    assert!(!driver.opens()[0].fresh_token, "a token that works is kept");
}

#[test]
fn a_member_that_does_not_know_the_user_ends_the_watch_as_not_authenticated() {
    let text = "etcdserver: authentication failed, invalid user ID or password";
    let mut driver = Driver::new(WatchConfig::default());
    let watches = driver.watch_together([all_from(3), from_now("a")]);
    let stream = driver.opens().remove(0).stream;
    driver.failed(stream, Failure::status(3, text));
    for watch in watches {
        let reason = CloseReason::AuthenticationFailed { message: text.into() };
        assert_eq!(driver.closed(watch), reason);
    }
    assert_eq!(driver.stats().streams, 0);
}

/// A stream that serves a watch well.
fn serving_another(driver: &mut Driver) -> StreamKey {
    let (_, stream, id) = driver.running(all_from(3));
    driver.frame(stream, events(id, &[3]));
    stream
}

#[test]
fn a_duplicate_id_and_a_refusal_without_reason_are_tried_again_a_limited_number_of_times() {
    for reason in ["mvcc: duplicate watch ID provided on the WatchStream", ""] {
        let mut driver = Driver::new(WatchConfig::default());
        let stream = serving_another(&mut driver);
        let watch = driver.watch(all_from(3));
        let mut last = 0;
        for before in 0..8 {
            if before > 1 {
                assert_eq!(driver.creates(), [], "it pauses");
                assert_eq!(driver.watcher.timeout_reason(), Some(TimeoutReason::Create));
                driver.sleep_to_timeout();
            }
            let creates = driver.creates();
            assert_eq!(creates.len(), 1);
            assert_ne!(creates[0].watch_id, last, "with another id");
            last = creates[0].watch_id;
            driver.frame(stream, refused(-1, reason));
        }
        assert_eq!(driver.creates(), []);
        assert!(matches!(driver.closed(watch), CloseReason::Refused { .. }));
    }
}

#[test]
fn the_first_pause_before_a_watch_is_created_again_is_the_base_of_the_backoff() {
    // A floor as high as the base leaves nothing to chance.
    let base = ms(40);
    let mut driver = Driver::new(WatchConfig::default().backoff(base, base, ms(5_000)));
    let stream = serving_another(&mut driver);
    driver.watch(all_from(3));
    for _ in 0..2 {
        assert_eq!(driver.creates().len(), 1, "at once, the first time");
        driver.frame(stream, refused(-1, ""));
    }
    assert_eq!((driver.creates().len(), driver.sleep_to_timeout()), (0, base));
    assert_eq!(driver.creates().len(), 1);
    driver.frame(stream, refused(-1, ""));
    let second = driver.sleep_to_timeout();
    assert!(second > base && second <= 2 * base, "the next one may be twice as long: {second:?}");
}

#[test]
fn a_create_that_is_refused_for_wrong_credentials_ends_its_watch_as_not_authenticated() {
    let text = "etcdserver: authentication failed, invalid user ID or password";
    let mut driver = Driver::new(WatchConfig::default());
    let watch = driver.watch(all_from(3));
    let stream = driver.open(TRUSTED);
    assert_eq!(driver.creates().len(), 1);
    driver.frame(stream, refused(-1, text));
    assert_eq!(driver.closed(watch), CloseReason::AuthenticationFailed { message: text.into() });
}

#[test]
fn a_refusal_that_concerns_the_member_moves_the_whole_stream() {
    let mut driver = Driver::new(WatchConfig::default());
    let watches = driver.watch_together([all_from(1), all_from(2)]);
    let stream = driver.open(TRUSTED);
    driver.create_one(stream);
    driver.frame(stream, refused(-1, "etcdserver: too many requests"));
    assert!(matches!(driver.closes()[..], [(_, StreamEnd::Unavailable { .. })]));
    assert!(watches.iter().all(|&watch| driver.watcher.resume_revision(watch).is_some()));
}

#[test]
fn created_is_delivered_once_and_only_if_asked_for() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, _) = driver.running(all_from(5).created_notify(true));
    let responses = driver.responses(watch);
    assert_eq!(responses.len(), 1);
    assert_eq!(responses[0].kind(), etcd_watch_core::ResponseKind::Created);
    assert_eq!(responses[0].resume_revision(), 5, "the header's revision moves nothing");
    driver.cut(stream);
    let stream = driver.reopen(TRUSTED);
    driver.create_one(stream);
    assert_eq!(driver.responses(watch), []);
}

#[test]
fn creates_that_are_refused_for_want_of_a_leader_have_a_deadline_of_their_own() {
    for (refusal, is_given_up) in [("etcdserver: no leader", true), ("etcdserver: server stopped", false)] {
        let mut driver = Driver::new(WatchConfig::default().no_leader_deadline(Some(ms(3_000))));
        let watch = driver.watch(all_from(1));
        let mut stream = driver.open(TRUSTED);
        let mut refusals = 0;
        while refusals < 20 && !driver.creates().is_empty() {
            driver.frame(stream, refused(-1, refusal));
            refusals += 1;
            match driver.watcher.timeout_reason() {
                Some(TimeoutReason::Reconnect) => stream = driver.reopen(TRUSTED),
                Some(_) => drop(driver.sleep_to_timeout()),
                None => {}
            }
        }
        let end = driver.take_all(watch).pop();
        let is_so = matches!(end, Some(Delivery::Closed(CloseReason::NoLeader { .. })));
        assert_eq!(is_so, is_given_up, "{refusal}: {end:?}");
    }
}
