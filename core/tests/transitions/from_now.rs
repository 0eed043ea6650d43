//! "From now": one read for the watches queued together.

use etcd_watch_core::{Action, CloseReason, EndpointHint, Failure, KeyRange, TimeoutReason, WatchConfig};

use etcd_watch_proto::etcdserverpb::{ResponseHeader, WatchResponse as Frame};

use crate::support::*;

#[test]
fn watches_asked_for_together_share_one_read_and_later_ones_wait_for_the_next() {
    let mut driver = Driver::new(WatchConfig::default());
    let stream = {
        driver.watch_together([from_now("a"), from_now("b")]);
        driver.open(TRUSTED)
    };
    let first = driver.ranges();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].request.keys, KeyRange::key("a"));
    let late = driver.watch(from_now("c"));
    assert_eq!(driver.ranges(), [], "one read at a time");
    driver.range_done(first[0].range, 41);
    let second = driver.ranges();
    assert_eq!(second[0].request.keys, KeyRange::key("c"));
    driver.range_done(first[0].range, 47); // Once more, which nobody waits for.
    assert_eq!(driver.watcher.resume_revision(late), Some(0));
    let creates = driver.creates();
    assert_eq!(creates[0].start_revision, 42);
    driver.frame(stream, created(creates[0].watch_id));
    assert_eq!(driver.creates()[0].start_revision, 42);
    assert_eq!(driver.watcher.resume_revision(late), Some(0));
    driver.range_done(second[0].range, 50);
    assert_eq!(driver.watcher.resume_revision(late), Some(51));
}

#[test]
fn a_read_is_asked_for_after_everything_else_for_the_sake_of_those_who_still_come() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watcher.watch(driver.now, from_now("a")).unwrap();
    let open = driver.watcher.poll_action();
    assert!(matches!(open, Some(Action::Open { .. })), "{open:?}");
    driver.watcher.watch(driver.now, from_now("b")).unwrap();
    driver.watcher.watch(driver.now, all_from(1)).unwrap();
    let reads = driver.ranges();
    assert_eq!(reads.len(), 1);
    driver.range_done(reads[0].range, 41);
    assert_eq!(driver.ranges(), [], "that was for both");
}

#[test]
fn nothing_is_read_for_a_watch_that_is_cancelled_before_its_turn() {
    let mut driver = Driver::new(WatchConfig::default());
    let watches = ["a", "b"].map(|key| driver.watcher.watch(driver.now, from_now(key)).unwrap());
    driver.watcher.cancel(driver.now, watches[0]).unwrap();
    let reads = driver.ranges();
    assert_eq!(reads.len(), 1);
    assert_eq!(reads[0].request.keys, KeyRange::key("b"));
    let late = driver.watch(from_now("c"));
    driver.cancel(late);
    driver.range_done(reads[0].range, 41);
    assert_eq!(driver.ranges(), [], "nobody waits any more");
}

#[test]
fn a_watch_from_now_that_saw_nothing_goes_on_at_its_now_and_not_at_the_created_header() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch(from_now("a"));
    let stream = driver.open(TRUSTED);
    let read = driver.ranges().remove(0);
    driver.range_done(read.range, 10);
    let id = driver.creates()[0].watch_id;
    driver.frame(stream, created_at(id, 99));
    driver.cut(stream);
    driver.reopen(TRUSTED);
    assert_eq!(driver.creates()[0].start_revision, 11);
    assert_eq!(driver.ranges(), []);
}

#[test]
fn a_made_up_created_header_does_not_make_the_next_read_look_old() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch(from_now("a"));
    let stream = driver.open(Default::default());
    let read = driver.ranges().remove(0);
    driver.range_done(read.range, 41);
    driver.creates();
    // The gRPC proxy says the revision that the watch is to start at, which need not exist yet.
    let header = Some(ResponseHeader { revision: 42, ..ResponseHeader::default() });
    driver.frame(stream, Frame { header, created: true, ..Frame::default() });
    let watch = driver.watch(from_now("b"));
    let read = driver.ranges().remove(0);
    driver.range_done(read.range, 41);
    assert_eq!(driver.watcher.resume_revision(watch), Some(42), "without waiting for a later revision");
}

#[test]
fn a_denied_read_ends_only_the_watch_whose_keys_were_read() {
    let mut driver = Driver::new(WatchConfig::default());
    let watches = driver.watch_together([from_now("secret"), from_now("open")]);
    let read = driver.ranges().remove(0);
    driver.range_failed(read.range, Failure::status(7, "etcdserver: permission denied"));
    assert!(matches!(driver.closed(watches[0]), CloseReason::PermissionDenied { .. }));
    let next = driver.ranges();
    assert_eq!(next[0].request.keys, KeyRange::key("open"), "at once, for the others");
    driver.range_done(next[0].range, 5);
    assert_eq!(driver.watcher.resume_revision(watches[1]), Some(6));
}

#[test]
fn a_failed_read_is_tried_again_elsewhere_after_a_backoff() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch(from_now("a"));
    driver.open(TRUSTED);
    let read = driver.ranges().remove(0);
    assert_eq!(read.endpoint, EndpointHint::Any);
    driver.range_failed(read.range, Failure::connection("refused"));
    assert_eq!(driver.ranges(), []);
    assert_eq!(driver.watcher.timeout_reason(), Some(TimeoutReason::RetryRange));
    let slept = driver.sleep_to_timeout();
    assert!(slept >= ms(10) && slept <= ms(50), "{slept:?}");
    assert_eq!(driver.ranges()[0].endpoint, EndpointHint::Another);
}

#[test]
fn a_read_refused_for_its_token_is_tried_again_with_a_fresh_one() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.watch(from_now("a"));
    driver.open(TRUSTED);
    let read = driver.ranges().remove(0);
    driver.range_failed(read.range, Failure::status(16, "etcdserver: invalid auth token"));
    driver.sleep_to_timeout();
    assert!(driver.ranges()[0].fresh_token);
}

#[test]
fn an_answer_without_a_revision_or_for_another_read_starts_nothing() {
    let mut driver = Driver::new(WatchConfig::default());
    let watch = driver.watch(from_now("a"));
    driver.open(TRUSTED);
    let read = driver.ranges().remove(0);
    driver.range_done(read.range, 0);
    assert_eq!(driver.watcher.resume_revision(watch), Some(0));
    driver.range_done(read.range, 77);
    assert_eq!(driver.watcher.resume_revision(watch), Some(0), "that read is over");
    driver.sleep_to_timeout();
    let read = driver.ranges().remove(0);
    driver.range_done(read.range, 78);
    assert_eq!(driver.watcher.resume_revision(watch), Some(79));
}

#[test]
fn a_read_that_fails_is_not_repeated_for_a_watch_that_is_gone() {
    let mut driver = Driver::new(WatchConfig::default());
    let watch = driver.watch(from_now("a"));
    driver.open(UNTRUSTED);
    let read = driver.ranges().remove(0);
    driver.cancel(watch);
    driver.range_failed(read.range, Failure::connection("refused"));
    driver.sleep(ms(4_000));
    assert_eq!(driver.ranges(), []);
}

#[test]
fn a_read_that_is_never_answered_is_given_up_at_its_deadline() {
    let mut driver = Driver::new(WatchConfig::default().unreachable_deadline(Some(ms(3_000))));
    let watch = driver.watch(from_now("a"));
    driver.open(UNTRUSTED);
    assert_eq!(driver.ranges().len(), 1);
    driver.sleep(ms(2_999));
    assert_eq!(driver.take_all(watch), []);
    driver.sleep(ms(1));
    let reason = driver.closed(watch);
    assert!(matches!(reason, CloseReason::Unreachable { millis: 3_000, .. }), "{reason:?}");
}

#[test]
fn members_without_a_leader_have_a_deadline_of_their_own() {
    let mut driver = Driver::new(WatchConfig::default().no_leader_deadline(Some(ms(3_000))));
    let watch = driver.watch(from_now("a"));
    driver.open(UNTRUSTED);
    let fail_for_6_s = |driver: &mut Driver, failure: &Failure| {
        let until = driver.now + ms(6_000);
        while driver.now < until
            && let Some(read) = driver.ranges().pop()
        {
            driver.range_failed(read.range, failure.clone());
            driver.sleep_to_timeout();
        }
    };
    fail_for_6_s(&mut driver, &Failure::connection("refused"));
    assert_eq!(driver.take_all(watch), []);
    fail_for_6_s(&mut driver, &Failure::status(14, "etcdserver: no leader"));
    let reason = driver.closed(watch);
    assert!(matches!(reason, CloseReason::NoLeader { .. }), "{reason:?}");
}

#[test]
fn a_read_that_answers_with_a_revision_that_no_store_has_is_made_again_elsewhere() {
    for (revision, mod_revision) in [(-1, 0), (i64::MAX, 0), (41, -1), (41, i64::MAX)] {
        let mut driver = Driver::new(WatchConfig::default());
        let watch = driver.watch(from_now("a"));
        driver.open(TRUSTED);
        let read = driver.ranges().remove(0);
        driver.range_found(read.range, revision, mod_revision);
        assert_eq!(driver.watcher.resume_revision(watch), Some(0), "{revision} {mod_revision}");
        assert_eq!(driver.watcher.timeout_reason(), Some(TimeoutReason::RetryRange));
        driver.sleep_to_timeout();
        let read = driver.ranges().remove(0);
        assert_eq!(read.endpoint, EndpointHint::Another);
        driver.range_done(read.range, 41);
        assert_eq!(driver.watcher.resume_revision(watch), Some(42));
    }
}
