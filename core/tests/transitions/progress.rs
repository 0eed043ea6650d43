//! Progress: what moves the resume point, and what is believed.

use etcd_watch_core::{Opened, ServerVersion, WatchConfig};

use crate::support::*;

#[test]
fn a_periodic_notification_moves_the_resume_point_and_is_delivered_if_asked_for() {
    for asked in [false, true] {
        let mut driver = Driver::new(WatchConfig::default());
        let watch = driver.watch(all_from(3).progress_notify(asked));
        let stream = driver.open(UNTRUSTED);
        let id = driver.create_one(stream);
        driver.frame(stream, progress(id, 120));
        assert_eq!(driver.progress(watch), if asked { vec![121] } else { vec![] });
        assert_eq!(driver.watcher.resume_revision(watch), Some(121));
    }
}

#[test]
fn a_manual_reply_counts_only_from_servers_that_keep_its_order() {
    let versions = [("3.4.24", false), ("3.4.25", true), ("3.5.7", false), ("3.5.8", true), ("3.6.0", true)];
    for (version, believed) in versions {
        let mut driver = Driver::new(WatchConfig::default());
        let watch = driver.watch(all_from(3));
        let version: ServerVersion = version.parse().unwrap();
        let stream = driver.open(Opened { version: Some(version), ..Opened::default() });
        driver.create_one(stream);
        driver.request_progress(watch);
        assert_eq!(driver.progress_requests(), 1);
        driver.frame(stream, manual_progress(120));
        assert_eq!(driver.progress(watch).len(), usize::from(believed), "{version}");
        assert_eq!(driver.watcher.resume_revision(watch), Some(if believed { 121 } else { 3 }));
        assert_eq!(driver.stats().untrusted_progress, u64::from(!believed));
    }
}

#[test]
fn a_manual_reply_counts_once_the_server_has_told_its_version() {
    for (version, believed) in [("3.5.7", false), ("3.5.8", true)] {
        let mut driver = Driver::new(WatchConfig::default());
        let watch = driver.watch(all_from(3));
        let stream = driver.open(Opened::default());
        driver.create_one(stream);
        driver.request_progress(watch);
        driver.frame(stream, manual_progress(120));
        assert_eq!(driver.watcher.resume_revision(watch), Some(3), "its version is not known");
        driver.watcher.handle_version(driver.now, stream, version.parse().unwrap());
        driver.request_progress(watch);
        driver.frame(stream, manual_progress(130));
        assert_eq!(driver.watcher.resume_revision(watch), Some(if believed { 131 } else { 3 }), "{version}");
    }
}

#[test]
fn a_version_speaks_for_the_connection_that_it_was_told_on() {
    let mut driver = Driver::new(WatchConfig::default());
    let watch = driver.watch(all_from(3));
    let before = driver.open(Opened::default());
    driver.create_one(before);
    driver.cut(before);
    let stream = driver.reopen(Opened::default());
    driver.create_one(stream);
    driver.watcher.handle_version(driver.now, before, "3.5.30".parse().unwrap());
    driver.request_progress(watch);
    driver.frame(stream, manual_progress(120));
    assert_eq!(driver.watcher.resume_revision(watch), Some(3));
}

#[test]
fn a_manual_reply_made_before_a_watch_does_not_speak_for_it() {
    let mut driver = Driver::new(WatchConfig::default());
    let (first, stream, _) = driver.running(all_from(3));
    driver.request_progress(first);
    let second = driver.watch(all_from(50));
    driver.create_one(stream);
    driver.frame(stream, manual_progress(100));
    assert_eq!(driver.watcher.resume_revision(first), Some(101));
    assert_eq!(driver.watcher.resume_revision(second), Some(50));
    driver.request_progress(second);
    driver.frame(stream, manual_progress(100));
    assert_eq!(driver.watcher.resume_revision(second), Some(101), "the second reply was made after it");
}

#[test]
fn a_manual_reply_that_came_before_a_watch_was_created_does_not_speak_for_it() {
    // The simulator's seed 38912: the reply is past the revision in a `Created` that comes after it.
    let mut driver = Driver::new(WatchConfig::default());
    let (first, stream, _) = driver.running(all_from(3));
    driver.request_progress(first);
    let second = driver.watch(all_from(50));
    let id = driver.creates()[0].watch_id;
    driver.frame(stream, manual_progress(130));
    driver.frame(stream, created_at(id, 128));
    assert_eq!(driver.watcher.resume_revision(first), Some(131));
    assert_eq!(driver.watcher.resume_revision(second), Some(50));
    driver.cut(stream);
    let stream = driver.reopen(TRUSTED);
    driver.create_one(stream);
    assert_eq!(driver.creates()[0].start_revision, 50);
}

#[test]
fn what_was_not_kept_is_not_passed_over_for_a_reply_that_speaks_for_it() {
    let small = WatchConfig::default().buffer_floor_bytes(4000).buffer_bytes(4000).batch_events(1);
    let mut driver = Driver::new(small);
    let (watch, stream, id) = driver.running(all_from(3));
    (5..8).for_each(|revision| driver.frame(stream, big(id, revision, 1200)));
    assert_eq!(driver.watcher.resume_revision(watch), Some(7), "the third was not kept");
    let mut driver = Driver::new(WatchConfig::default().buffer_floor_bytes(4000).buffer_bytes(4000));
    let (watch, stream, id) = driver.running(all_from(3));
    (5..7).for_each(|revision| driver.frame(stream, big(id, revision, 1200)));
    driver.frame(stream, manual_progress(120));
    assert_eq!(driver.watcher.resume_revision(watch), Some(121));
    driver.frame(stream, big(id, 121, 1200));
    assert_eq!(driver.watcher.resume_revision(watch), Some(121), "and not behind what was not kept");
}

#[test]
fn progress_below_the_start_or_below_what_is_known_is_ignored() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(200).progress_notify(true));
    driver.frame(stream, progress(id, 150));
    assert_eq!(driver.watcher.resume_revision(watch), Some(200));
    assert_eq!(driver.progress(watch), [0_i64; 0]);
    driver.frame(stream, progress(id, 300));
    assert_eq!(driver.progress(watch), [301]);
    driver.frame(stream, progress(id, 250));
    assert_eq!(driver.progress(watch), [0_i64; 0]);
}

#[test]
fn progress_without_a_revision_says_nothing() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(1).progress_notify(true));
    driver.frame(stream, progress(id, 0));
    assert_eq!(driver.progress(watch), [0_i64; 0]);
}

#[test]
fn a_manual_reply_is_told_to_those_who_want_every_notification_whoever_asked() {
    let mut driver = Driver::new(WatchConfig::default());
    let (listener, stream, _) = driver.running(all_from(1).progress_notify(true));
    let asker = driver.watch(all_from(1));
    driver.create_one(stream);
    let other = driver.watch(all_from(1));
    driver.create_one(stream);
    driver.request_progress(asker);
    driver.frame(stream, manual_progress(120));
    assert_eq!([listener, asker, other].map(|watch| driver.progress(watch)), [vec![121], vec![121], vec![]]);
}

#[test]
fn progress_in_the_middle_of_a_revision_says_nothing() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(1).progress_notify(true));
    driver.frame(stream, fragment(id, vec![put(5, "a")]));
    for reply in [manual_progress(120), progress(id, 120)] {
        driver.frame(stream, reply);
        assert_eq!(driver.progress(watch), [0_i64; 0]);
        assert_eq!(driver.watcher.resume_revision(watch), Some(1));
    }
}

#[test]
fn an_overtaken_event_is_delivered_counted_and_the_stream_believed_no_more() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(3));
    let other = driver.watch(all_from(3));
    driver.create_one(stream);
    driver.frame(stream, manual_progress(120));
    assert_eq!(driver.watcher.resume_revision(other), Some(121));
    driver.frame(stream, events(id, &[90]));
    assert_eq!(driver.revisions(watch), [90]);
    assert_eq!(driver.stats().overtaken_events, 1);
    assert_eq!(driver.watcher.resume_revision(watch), Some(91));
    assert_eq!(driver.watcher.resume_revision(other), Some(3), "its neighbour was told the same");
    driver.frame(stream, manual_progress(130));
    assert_eq!(driver.watcher.resume_revision(watch), Some(91));
    assert_eq!(driver.stats().untrusted_progress, 1);
}

#[test]
fn notifications_are_believed_no_more_on_a_connection_whose_replies_were_proved_false() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(3).progress_notify(true));
    driver.frame(stream, manual_progress(120));
    assert_eq!(driver.progress(watch), [121]);
    driver.frame(stream, events(id, &[90]));
    assert_eq!(driver.revisions(watch), [90]);
    driver.frame(stream, progress(id, 130));
    assert_eq!(driver.progress(watch), [0_i64; 0]);
    assert_eq!(driver.watcher.resume_revision(watch), Some(91));
}

#[test]
fn no_request_follows_a_reply_that_speaks_for_all_who_want_one() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, _) = driver.running(all_from(3));
    driver.request_progress(watch);
    assert_eq!(driver.progress_requests(), 1);
    driver.frame(stream, manual_progress(120));
    assert_eq!((driver.progress(watch), driver.progress_requests()), (vec![121], 0));
}

#[test]
fn a_wanted_notification_is_asked_for_again_until_it_comes() {
    let mut driver = Driver::new(WatchConfig::default().progress_interval(None));
    let (watch, stream, _) = driver.running(all_from(3));
    driver.request_progress(watch);
    assert_eq!(driver.progress_requests(), 1);
    driver.sleep_to_timeout();
    assert_eq!(driver.progress_requests(), 1);
    driver.frame(stream, manual_progress(120));
    assert_eq!(driver.progress(watch), [121]);
    assert_eq!(driver.watcher.poll_timeout(), None);
}

#[test]
fn a_wanted_notification_survives_a_break() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, _) = driver.running(all_from(3));
    driver.request_progress(watch);
    driver.cut(stream);
    driver.progress_requests();
    let stream = driver.reopen(TRUSTED);
    driver.create_one(stream);
    assert_eq!(driver.progress_requests(), 1);
}

#[test]
fn a_quiet_trusted_stream_is_asked_for_a_fresh_resume_point() {
    for (opened, asked) in [(TRUSTED, 1), (UNTRUSTED, 0)] {
        let mut driver = Driver::new(WatchConfig::default().progress_interval(Some(ms(30_000))));
        driver.watch(all_from(3));
        let stream = driver.open(opened);
        driver.create_one(stream);
        driver.sleep(ms(29_999));
        assert_eq!(driver.progress_requests(), 0);
        driver.sleep(ms(2));
        assert_eq!(driver.progress_requests(), asked);
    }
}

#[test]
fn a_manual_reply_past_where_a_watch_was_created_speaks_for_it_whenever_it_was_asked_for() {
    let mut driver = Driver::new(WatchConfig::default());
    let (first, stream, _) = driver.running(all_from(3));
    driver.request_progress(first);
    let second = driver.watch(all_from(50));
    driver.create_one(stream);
    driver.frame(stream, manual_progress(101));
    assert_eq!(driver.watcher.resume_revision(second), Some(102));
}

#[test]
fn an_event_below_periodic_progress_takes_back_its_own_watch_s_and_only_replies_from_the_others() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(3));
    let other = driver.watch(all_from(3));
    let other_id = driver.create_one(stream);
    driver.frame(stream, progress(id, 120));
    driver.frame(stream, progress(other_id, 110));
    driver.frame(stream, manual_progress(130));
    driver.frame(stream, events(id, &[90]));
    assert_eq!(driver.watcher.resume_revision(watch), Some(91), "what it was told itself was not true");
    assert_eq!(driver.watcher.resume_revision(other), Some(111), "what it was told itself may be");
}
