//! Ends: compaction, cancels in every state, shutdown, misuse.

use etcd_watch_core::{
    ApiMisuse, CloseReason, EndpointHint, RequestError, StreamEnd, TimeoutReason, WatchConfig,
};
use etcd_watch_proto::etcdserverpb::WatchResponse as Frame;

use crate::support::*;

#[test]
fn compaction_ends_a_watch_after_what_waits_and_says_where_it_was() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(3));
    driver.frame(stream, events(id, &[5]));
    driver.frame(stream, compacted(id, 50));
    assert!(driver.take_one(watch).is_some());
    let reason = CloseReason::Compacted { compact_revision: 50, next_revision: 6 };
    assert_eq!(driver.closed(watch), reason);
    assert_eq!(driver.cancels(), [id], "the server holds on to it until it is cancelled");
    assert_eq!(driver.closes(), []);
}

#[test]
fn a_cancel_reaches_the_server_in_every_state_it_knows_the_watch_in_and_closed_comes_once() {
    // Before the stream is open.
    let mut driver = Driver::new(WatchConfig::default());
    let watch = driver.watch(all_from(1));
    driver.cancel(watch);
    driver.cancel(watch);
    assert_eq!(driver.closed(watch), CloseReason::Cancelled);
    let stream = driver.open(TRUSTED);
    assert_eq!(driver.creates(), []);
    // While it is being created.
    let watch = driver.watch(all_from(1));
    let id = driver.creates()[0].watch_id;
    driver.cancel(watch);
    assert_eq!(driver.closed(watch), CloseReason::Cancelled);
    assert_eq!(driver.cancels(), []);
    driver.frame(stream, created(id));
    assert_eq!(driver.cancels(), [id], "the server is told once it has said that there is a watch");
    driver.frame(stream, events(id, &[5]));
    driver.frame(stream, canceled(id, ""));
    // While it waits behind another create, and while it runs.
    let (one, two) = (driver.watch(all_from(1)), driver.watch(all_from(1)));
    let ids = driver.creates();
    driver.frame(stream, created(ids[0].watch_id));
    driver.frame(stream, created(ids[1].watch_id));
    driver.frame(stream, events(ids[0].watch_id, &[5]));
    driver.cancel(one);
    assert_eq!(driver.cancels(), [ids[0].watch_id]);
    assert_eq!(driver.closed(one), CloseReason::Cancelled, "what waited is thrown away");
    // While it is disconnected.
    driver.cut(stream);
    driver.cancel(two);
    assert_eq!(driver.closed(two), CloseReason::Cancelled);
    assert_eq!(driver.cancels(), []);
    assert_eq!((driver.stats().watches, driver.stats().streams), (0, 0));
}

#[test]
fn a_watch_that_was_cancelled_is_not_brought_back_by_the_answer_to_its_create() {
    let mut driver = Driver::new(WatchConfig::default());
    let watch = driver.watch(all_from(1).created_notify(true));
    let stream = driver.open(TRUSTED);
    let id = driver.creates()[0].watch_id;
    driver.cancel(watch);
    driver.frame(stream, created(id));
    driver.frame(stream, events(id, &[5]));
    assert_eq!((driver.cancels(), driver.closed(watch)), (vec![id], CloseReason::Cancelled));
}

#[test]
fn a_cancel_goes_out_behind_creates() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, _, id) = driver.running(all_from(1));
    let now = driver.now;
    driver.watcher.cancel(now, watch).unwrap();
    driver.watcher.watch(now, all_from(2)).unwrap();
    driver.collect();
    let kinds: Vec<String> = driver.actions.iter().map(|action| format!("{action:?}")).collect();
    let at = |what: &str| kinds.iter().position(|kind| kind.contains(what));
    assert!(at("Create(").unwrap() < at("Cancel").unwrap(), "{kinds:?}");
    assert_eq!(driver.cancels(), [id]);
}

#[test]
fn a_cancel_leaves_a_watch_that_has_ended_as_it_is() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(3));
    driver.frame(stream, events(id, &[5]));
    driver.frame(stream, compacted(id, 50));
    driver.cancel(watch);
    assert_eq!(driver.take_all(watch).len(), 2, "its event and its end");
}

#[test]
fn a_server_cancel_with_a_reason_ends_the_watch_and_one_without_creates_it_again() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(3));
    driver.frame(stream, events(id, &[5]));
    assert_eq!(driver.revisions(watch), [5]);
    driver.frame(stream, canceled(id, ""));
    let create = driver.creates().remove(0);
    assert_eq!(create.start_revision, 6);
    driver.frame(stream, created(create.watch_id));
    driver.frame(stream, canceled(create.watch_id, "maintenance"));
    assert_eq!(driver.cancels(), [], "the server has ended both itself");
    assert_eq!(driver.closed(watch), CloseReason::CancelledByServer { message: "maintenance".into() });
}

const ABORTED: &str = "rpc error: code = Aborted desc = restarting";

#[test]
fn a_watch_that_is_sent_away_twice_without_a_cause_goes_to_another_endpoint() {
    for reason in ["", ABORTED] {
        let mut driver = Driver::new(WatchConfig::default());
        let (watch, stream, id) = driver.running(all_from(3));
        driver.frame(stream, canceled(id, reason));
        let id = driver.create_one(stream);
        assert_eq!(driver.closes(), [], "the first time it is created there again");
        driver.frame(stream, canceled(id, reason));
        let closes = driver.closes();
        let [(closed, StreamEnd::Unavailable { message })] = &closes[..] else { panic!("{closes:?}") };
        assert!(*closed == stream && !message.is_empty() && message.contains(reason), "{message}");
        driver.sleep_to_timeout();
        let open = driver.opens().remove(0);
        assert_eq!(open.endpoint, EndpointHint::Another);
        driver.opened(open.stream, TRUSTED);
        let id = driver.create_one(open.stream);
        driver.frame(open.stream, events(id, &[3]));
        assert_eq!(driver.revisions(watch), [3]);
    }
}

#[test]
fn a_watch_that_is_sent_away_everywhere_without_a_cause_ends_at_the_eighth_time() {
    type Answer = fn(i64, &str) -> Frame;
    let ways: [(&str, Answer, bool); 4] =
        [("", canceled, true), ("", refused, false), (ABORTED, canceled, false), (ABORTED, refused, false)];
    for (reason, answer, is_cancelled) in ways {
        let mut driver = Driver::new(WatchConfig::default());
        let watch = driver.watch(all_from(3));
        let mut stream = driver.open(TRUSTED);
        let mut places = 1;
        for time in 1..=8 {
            let create = driver.creates().remove(0);
            if !answer(1, "").created {
                driver.frame(stream, created(create.watch_id));
            }
            driver.frame(stream, answer(create.watch_id, reason));
            if time < 8 && !driver.closes().is_empty() {
                stream = driver.reopen(TRUSTED);
                places += 1;
            }
        }
        let message = reason.to_owned();
        let end = if is_cancelled {
            CloseReason::CancelledByServer { message }
        } else {
            CloseReason::Refused { message }
        };
        assert_eq!((driver.closed(watch), places), (end, 7), "{reason:?}");
    }
}

#[test]
fn a_watch_that_is_sent_away_without_a_cause_leaves_a_connection_in_peace_that_serves_others() {
    let mut driver = Driver::new(WatchConfig::default());
    let (other, stream, first) = driver.running(all_from(3));
    driver.frame(stream, events(first, &[3]));
    let watch = driver.watch(all_from(3));
    for time in 1..=8 {
        let id = driver.create_one(stream);
        driver.frame(stream, canceled(id, ""));
        if (2..8).contains(&time) {
            assert_eq!(driver.watcher.timeout_reason(), Some(TimeoutReason::Create));
            driver.sleep_to_timeout();
        }
    }
    assert_eq!(driver.closes(), []);
    assert_eq!(driver.closed(watch), CloseReason::CancelledByServer { message: String::new() });
    assert_eq!(driver.revisions(other), [3]);
}

#[test]
fn shutdown_ends_every_watch_after_what_waits_and_every_stream() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(3));
    driver.frame(stream, events(id, &[5]));
    let now = driver.now;
    driver.watcher.shutdown(now);
    assert_eq!(driver.closes(), [(stream, StreamEnd::ShutDown)]);
    assert!(driver.take_one(watch).is_some());
    assert_eq!(driver.closed(watch), CloseReason::ShutDown);
    assert_eq!(driver.watcher.watch(now, all_from(1)), Err(ApiMisuse::ShutDown));
    assert_eq!(driver.watcher.poll_timeout(), None);
}

#[test]
fn misuse_is_told_and_changes_nothing() {
    let mut driver = Driver::new(WatchConfig::default());
    let now = driver.now;
    let refused = driver.watcher.watch(now, all_from(-1));
    assert_eq!(refused, Err(ApiMisuse::Request(RequestError::NegativeRevision { revision: -1 })));
    assert_eq!(driver.opens(), []);
    let watch = driver.watch(all_from(1));
    driver.cancel(watch);
    driver.closed(watch);
    assert_eq!(driver.watcher.cancel(now, watch), Err(ApiMisuse::UnknownWatch(watch)));
    assert_eq!(driver.watcher.request_progress(now, watch), Err(ApiMisuse::UnknownWatch(watch)));
    assert_eq!(driver.watcher.resume_revision(watch), None);
}

#[test]
fn a_stream_without_watches_is_closed_after_a_grace_time_unless_one_comes() {
    let mut driver = Driver::new(WatchConfig::default().linger(ms(3000)));
    let (watch, stream, _) = driver.running(all_from(1));
    driver.cancel(watch);
    assert_eq!(driver.watcher.timeout_reason(), Some(TimeoutReason::Linger));
    driver.sleep(ms(2000));
    let watch = driver.watch(all_from(1));
    driver.create_one(stream);
    driver.sleep(ms(2000));
    assert_eq!(driver.closes(), []);
    driver.cancel(watch);
    driver.sleep(ms(3000));
    assert_eq!(driver.closes(), [(stream, StreamEnd::Idle)]);
    assert_eq!(driver.stats().streams, 0);
}

#[test]
fn what_waits_for_a_watch_that_is_cancelled_counts_no_more() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(1));
    let other = driver.watch(all_from(1));
    let other_id = driver.create_one(stream);
    driver.frame(stream, events(other_id, &[4]));
    let waiting = driver.stats().queued_bytes;
    driver.frame(stream, events(id, &[4, 5]));
    assert!(driver.stats().queued_bytes > waiting && waiting > 0);
    driver.cancel(watch);
    assert_eq!(driver.stats().queued_bytes, waiting);
    assert_eq!(driver.revisions(other), [4]);
    assert_eq!(driver.stats().queued_bytes, 0);
}
