//! Changes of state, for those who wait for them: that there was one, since when things are as they are, and what was
//! heard last.

use etcd_watch_core::{CloseReason, WatchConfig};

use crate::support::*;

/// Runs a step, and says whether a watch or a stream changed its state by it.
fn changes(driver: &mut Driver, step: impl FnOnce(&mut Driver)) -> bool {
    let before = driver.watcher.state_changes();
    step(driver);
    assert_eq!(driver.stats().state_changes, driver.watcher.state_changes());
    driver.watcher.state_changes() != before
}

#[test]
fn every_change_of_state_is_counted_and_nothing_that_is_none() {
    let mut driver = Driver::new(WatchConfig::default());
    assert!(changes(&mut driver, |driver| {
        driver.watch(all_from(10));
    }));
    let stream = driver.opens()[0].stream;
    assert!(changes(&mut driver, |driver| driver.opened(stream, TRUSTED)));
    let id = driver.creates()[0].watch_id;
    assert!(changes(&mut driver, |driver| driver.frame(stream, created(id))));
    assert!(!changes(&mut driver, |driver| {
        for revision in 11..1_000 {
            driver.frame(stream, events(id, &[revision]));
        }
        driver.frame(stream, progress(id, 2_000));
        driver.sleep(ms(10));
    }));
    assert!(changes(&mut driver, |driver| driver.cut(stream)));
    let mut again = stream;
    assert!(changes(&mut driver, |driver| again = driver.reopen(TRUSTED)));
    assert_eq!(driver.creates().len(), 1, "it is not answered");
    assert!(changes(&mut driver, |driver| driver.failed(again, etcd_watch_core::Failure::EndOfStream)));
    let mut third = stream;
    assert!(changes(&mut driver, |driver| third = driver.reopen(TRUSTED)));
    let id = driver.create_one(third);
    assert!(changes(&mut driver, |driver| driver.frame(third, canceled(id, "no reason to stay"))));
}

#[test]
fn a_watch_tells_since_when_it_runs_or_does_not() {
    let mut driver = Driver::new(WatchConfig::default());
    driver.sleep(ms(100));
    let opened = driver.now;
    let watch = driver.watch(all_from(10));
    let since = |driver: &Driver| driver.watcher.watch_stats(watch).expect("it is known").since;
    driver.sleep(ms(10));
    let stream = driver.open(TRUSTED);
    assert_eq!(since(&driver), opened, "it has not been on a server");
    driver.sleep(ms(10));
    driver.create_one(stream);
    let created = driver.now;
    driver.sleep(ms(10));
    assert_eq!(since(&driver), created);
    driver.cut(stream);
    let cut = driver.now;
    assert_eq!(since(&driver), cut);
    let second = driver.reopen(TRUSTED);
    assert_eq!(driver.creates().len(), 1, "it is not answered");
    driver.sleep(ms(10));
    driver.cut(second);
    assert_eq!(since(&driver), cut, "the second connection has brought nothing");
    let third = driver.reopen(TRUSTED);
    let id = driver.create_one(third);
    assert_eq!(since(&driver), driver.now);
    driver.sleep(ms(10));
    assert_eq!(driver.watcher.close_reason(watch), None);
    driver.frame(third, compacted(id, 20));
    assert_eq!(since(&driver), driver.now);
    assert!(matches!(driver.watcher.close_reason(watch), Some(CloseReason::Compacted { .. })));
    driver.closed(watch);
    assert_eq!(driver.watcher.close_reason(watch), None, "it was taken");
}

#[test]
fn a_stream_tells_its_connection_and_when_it_was_heard_last() {
    let mut driver = Driver::new(WatchConfig::default());
    let _watch = driver.watch(all_from(10));
    let stream = driver.open(TRUSTED);
    assert_eq!(driver.watcher.last_frame(stream), None, "nothing has come");
    driver.sleep(ms(10));
    let id = driver.create_one(stream);
    assert_eq!(driver.watcher.last_frame(stream), Some(driver.now));
    driver.sleep(ms(10));
    let heard = driver.now;
    driver.frame(stream, events(id, &[11]));
    driver.sleep(ms(10));
    assert_eq!(driver.watcher.last_frame(stream), Some(heard));
    assert_eq!(driver.watcher.stream(stream.stream()), Some(stream));
    driver.cut(stream);
    assert_eq!(driver.watcher.last_frame(stream), None, "that connection is gone");
    let next = driver.watcher.stream(stream.stream()).expect("it is there");
    assert_ne!(next, stream);
    driver.watcher.shutdown(driver.now);
    assert_eq!(driver.watcher.stream(stream.stream()), None);
}
