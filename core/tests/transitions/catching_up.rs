//! What a watch has missed when the server creates it, and since when its consumer has lacked it.

use etcd_watch_core::{Instant, Opened, ServerVersion, WatchConfig, WatchKey, WatchRequest};
use etcd_watch_proto::etcdserverpb::{ResponseHeader, WatchResponse as Frame};

use crate::support::*;

fn driver() -> Driver {
    Driver::new(WatchConfig::default().progress_interval(None))
}

/// A watch that hears of progress.
fn listening(revision: i64) -> WatchRequest {
    all_from(revision).progress_notify(true)
}

fn missed(driver: &Driver, watch: WatchKey) -> i64 {
    driver.watcher.watch_stats(watch).expect("a watch that is known").missed_through
}

fn behind(driver: &Driver, watch: WatchKey) -> Instant {
    driver.watcher.watch_stats(watch).expect("a watch that is known").behind_since
}

#[test]
fn a_watch_that_has_missed_something_asks_how_far_it_is() {
    let mut driver = driver();
    let (watch, stream, _) = driver.running(listening(90));
    assert_eq!(missed(&driver, watch), 100);
    assert_eq!(driver.progress_requests(), 0, "etcd answers none before it has caught up");
    assert!(driver.sleep_to_timeout() <= ms(100));
    assert_eq!(driver.progress_requests(), 1);
    driver.sleep_to_timeout();
    assert_eq!(driver.progress_requests(), 1, "until it is answered");
    driver.frame(stream, manual_progress(103));
    assert_eq!(driver.progress(watch), [104]);
    driver.sleep(ms(60_000));
    assert_eq!(driver.progress_requests(), 0, "it has been told");
}

#[test]
fn one_request_speaks_for_all_that_are_created_together() {
    let mut driver = driver();
    let watches = driver.watch_together((0..20).map(|_| listening(90)));
    let stream = driver.open(TRUSTED);
    let mut created_so_far = 0;
    while created_so_far < watches.len() {
        for create in driver.creates() {
            driver.frame(stream, created(create.watch_id));
            created_so_far += 1;
        }
    }
    driver.sleep_to_timeout();
    assert_eq!(driver.progress_requests(), 1);
    driver.frame(stream, manual_progress(101));
    for watch in watches {
        assert_eq!(driver.progress(watch), [102]);
    }
}

#[test]
fn where_nothing_was_missed_or_nothing_would_tell_nobody_is_asked() {
    let silent = Opened { version: Some(ServerVersion::new(3, 5, 12)), authenticated: false };
    let made_up = |id| Frame {
        header: Some(ResponseHeader { revision: 100, ..ResponseHeader::default() }),
        ..created(id)
    };
    type Case = (&'static str, WatchRequest, Opened, fn(i64) -> Frame);
    let cases: [Case; 5] = [
        ("the store is not there yet", listening(101), TRUSTED, created),
        ("it would not be told", all_from(90), TRUSTED, created),
        ("the server's replies are not believed", listening(90), UNTRUSTED, created),
        ("the server may not reply", listening(90), silent, created),
        ("a proxy has made up the header", listening(90), TRUSTED, made_up),
    ];
    for (why, request, opened, created) in cases {
        let mut driver = driver();
        let watch = driver.watch(request);
        let stream = driver.open(opened);
        let id = driver.creates()[0].watch_id;
        driver.frame(stream, created(id));
        assert_eq!(missed(&driver, watch), 0, "{why}");
        driver.sleep(ms(1_000));
        assert_eq!(driver.progress_requests(), 0, "{why}");
    }
}

#[test]
fn a_watch_is_behind_from_its_loss_until_its_consumer_has_what_it_missed() {
    let mut driver = driver();
    let (watch, stream, id) = driver.running(listening(90));
    driver.frame(stream, events(id, &[95, 102]));
    driver.take_all(watch);
    driver.sleep(ms(1_000));
    let lost = driver.now;
    driver.cut(stream);
    assert_eq!(behind(&driver, watch), lost);

    // It runs again at revision 200, and has heard of 150 when it is lost again.
    let again = |driver: &mut Driver| {
        let stream = driver.reopen(TRUSTED);
        let id = driver.creates()[0].watch_id;
        driver.frame(stream, created_at(id, 200));
        (stream, id)
    };
    let (stream, id) = again(&mut driver);
    assert_eq!((missed(&driver, watch), behind(&driver, watch)), (200, lost));
    driver.frame(stream, events(id, &[150]));
    driver.take_all(watch);
    driver.sleep(ms(1_000));
    driver.cut(stream);
    assert_eq!(behind(&driver, watch), lost, "it had not caught up");

    // What has come and was not taken does not count, either.
    let (stream, id) = again(&mut driver);
    driver.frame(stream, events(id, &[200]));
    driver.cut(stream);
    assert_eq!(behind(&driver, watch), lost, "its consumer had not caught up");

    driver.take_all(watch);
    let (stream, _) = again(&mut driver);
    assert_eq!(missed(&driver, watch), 0, "the store has not moved on");
    driver.sleep(ms(1_000));
    driver.cut(stream);
    assert_eq!(behind(&driver, watch), driver.now, "this loss is another");
}

#[test]
fn an_end_tells_since_when_it_was_behind() {
    let mut driver = driver();
    let (watch, stream, _) = driver.running(listening(90));
    driver.frame(stream, manual_progress(101));
    driver.take_all(watch);
    driver.sleep(ms(1_000));
    let lost = driver.now;
    driver.cut(stream);
    assert_eq!(driver.watcher.ended_behind(watch), None, "it has not ended");
    let stream = driver.reopen(TRUSTED);
    let id = driver.creates()[0].watch_id;
    driver.frame(stream, created_at(id, 200));
    driver.sleep(ms(1_000));
    driver.frame(stream, compacted(id, 150));
    assert_eq!(driver.watcher.ended_behind(watch), Some(lost));
    driver.closed(watch);
    assert_eq!(driver.watcher.ended_behind(watch), None, "it is forgotten");
}

#[test]
fn replies_that_are_proved_false_leave_nothing_to_wait_for() {
    let mut driver = driver();
    let (watch, stream, id) = driver.running(listening(90));
    driver.frame(stream, manual_progress(103));
    driver.frame(stream, events(id, &[102]));
    assert_eq!(missed(&driver, watch), 0);
    driver.sleep(ms(60_000));
    assert_eq!(driver.progress_requests(), 0);
}
