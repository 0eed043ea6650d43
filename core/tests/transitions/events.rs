//! Events: accepted, repeated, split; batches.

use etcd_watch_core::WatchConfig;

use crate::support::*;

#[test]
fn repeats_are_dropped_and_counted_and_new_events_beside_them_are_delivered() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(3));
    driver.frame(stream, events(id, &[2, 3, 5]));
    assert_eq!(driver.revisions(watch), [3, 5], "what lies before the start is a repeat too");
    driver.frame(stream, events(id, &[3, 5]));
    driver.frame(stream, events(id, &[5, 6]));
    assert_eq!(driver.revisions(watch), [6]);
    assert_eq!((driver.stats().events, driver.stats().stale_events), (3, 4));
    assert_eq!(driver.watcher.resume_revision(watch), Some(7));
}

#[test]
fn the_header_of_a_batch_does_not_move_the_resume_point() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(3));
    driver.frame(stream, events(id, &[4]));
    driver.revisions(watch);
    driver.cut(stream);
    driver.reopen(TRUSTED);
    assert_eq!(driver.creates()[0].start_revision, 5);
}

#[test]
fn fragments_are_released_by_whole_revisions() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(1));
    driver.frame(stream, fragment(id, vec![put(1, "a"), put(2, "a")]));
    assert_eq!(driver.revisions(watch), [1], "revision 2 may have more");
    driver.frame(stream, fragment(id, vec![put(2, "b")]));
    assert_eq!(driver.revisions(watch), [0_i64; 0]);
    driver.frame(stream, fragment(id, vec![put(2, "c"), put(3, "a")]));
    let responses = driver.responses(watch);
    assert_eq!(revisions_of(&responses), [2, 2, 2]);
    assert_eq!(responses.len(), 1, "a revision comes in one response");
    driver.frame(stream, fragment(id, vec![put(4, "a")]));
    assert_eq!(driver.revisions(watch), [3]);
    driver.frame(stream, events(id, &[5]));
    assert_eq!(driver.revisions(watch), [4, 5]);
}

#[test]
fn a_cut_between_fragments_resumes_at_the_revision_that_was_not_whole() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(1));
    driver.frame(stream, fragment(id, vec![put(1, "a"), put(2, "a")]));
    driver.cut(stream);
    let stream = driver.reopen(TRUSTED);
    let create = driver.creates().remove(0);
    assert_eq!(create.start_revision, 2);
    driver.frame(stream, created(create.watch_id));
    driver.frame(stream, batch(create.watch_id, vec![put(2, "a"), put(2, "b")]));
    assert_eq!(driver.revisions(watch), [1, 2, 2]);
}

#[test]
fn fragments_of_different_watches_may_interleave() {
    let mut driver = Driver::new(WatchConfig::default());
    let (one, stream, first) = driver.running(all_from(1));
    let two = driver.watch(all_from(1));
    let second = driver.create_one(stream);
    driver.frame(stream, fragment(first, vec![put(1, "a")]));
    driver.frame(stream, fragment(second, vec![put(1, "a")]));
    driver.frame(stream, batch(first, vec![put(1, "b")]));
    assert_eq!(driver.revisions(two), [0_i64; 0]);
    driver.frame(stream, batch(second, vec![put(1, "b")]));
    assert_eq!(driver.revisions(one), [1, 1]);
    assert_eq!(driver.revisions(two), [1, 1]);
}

#[test]
fn responses_that_wait_together_come_together_up_to_the_limits() {
    let sizes = |config: WatchConfig| {
        let mut driver = Driver::new(config);
        let (watch, stream, id) = driver.running(all_from(1));
        (1..=6).for_each(|revision| driver.frame(stream, events(id, &[revision])));
        let sizes: Vec<usize> = driver.responses(watch).iter().map(|response| response.len()).collect();
        sizes
    };
    assert_eq!(sizes(WatchConfig::default()), [6]);
    assert_eq!(sizes(WatchConfig::default().batch_events(4)), [4, 2]);
    assert_eq!(sizes(WatchConfig::default().batch_events(1)), [1; 6]);
    assert_eq!(sizes(WatchConfig::default().batch_bytes(1)), [1; 6]);
}

#[test]
fn a_watch_is_announced_once_per_edge() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(1));
    driver.frame(stream, events(id, &[1]));
    driver.frame(stream, events(id, &[2]));
    assert_eq!(driver.delivers(), [watch]);
    assert!(driver.take_one(watch).is_some());
    driver.frame(stream, events(id, &[3]));
    assert_eq!(driver.delivers(), [], "it has not found it empty yet");
    assert!(driver.take_one(watch).is_some() && driver.take_one(watch).is_none());
    driver.frame(stream, events(id, &[4]));
    assert_eq!(driver.delivers(), [watch]);
}
