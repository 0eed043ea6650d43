//! Servers that break the protocol: the stream is replaced, counted, and no watch loses its place.

use bytes::Bytes;
use etcd_watch_core::{CloseReason, DecodeError, Failure, ServerMisbehaved, StreamEnd, WatchConfig};
use etcd_watch_proto::{
    etcdserverpb::{ResponseHeader, WatchResponse},
    mvccpb::{Event, KeyValue},
};
use prost::Message;

use crate::support::*;

/// The frame replaces the stream, and the watch goes on where it was.
fn replaced_by(frame: impl FnOnce(i64) -> Bytes) -> ServerMisbehaved {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver
        .running(etcd_watch_core::WatchRequest::new(etcd_watch_core::KeyRange::key("k")).start_revision(1));
    driver.frame(stream, events(id, &[4]));
    driver.bytes(stream, frame(id));
    let (closed, end) = driver.closes().remove(0);
    assert_eq!(closed, stream);
    let StreamEnd::Misbehaved(what) = end else { panic!("{end:?}") };
    assert_eq!((driver.stats().misbehaved, driver.stats().reconnects), (1, 1));
    assert_eq!(driver.revisions(watch), [4], "nothing of the frame is delivered");
    driver.reopen(TRUSTED);
    assert_eq!(driver.creates()[0].start_revision, 5);
    what
}

fn bytes(frame: WatchResponse) -> Bytes {
    frame.encode_to_vec().into()
}

#[test]
fn every_breach_replaces_the_stream_and_is_named() {
    let what = replaced_by(|_| Bytes::from_static(&[0x5a, 9]));
    assert_eq!(what, ServerMisbehaved::Undecodable(DecodeError::Truncated { at: 2 }));
    let what = replaced_by(|_| bytes(events(7, &[5])));
    assert_eq!(what, ServerMisbehaved::UnknownWatchId { watch_id: 7 });
    let what = replaced_by(|id| bytes(batch(id, vec![put(5, "")])));
    assert_eq!(what, ServerMisbehaved::InvalidEvent);
    let what = replaced_by(|id| bytes(events(id, &[0])));
    assert_eq!(what, ServerMisbehaved::InvalidEvent);
    let what = replaced_by(|id| bytes(events(id, &[i64::MAX])));
    assert_eq!(what, ServerMisbehaved::InvalidEvent, "no revision can follow it");
    for kind in [2, -1] {
        let what = replaced_by(|id| bytes(batch(id, vec![Event { r#type: kind, ..put(5, "k") }])));
        assert_eq!(what, ServerMisbehaved::InvalidEvent, "kind {kind}");
    }
    let below_zero = ResponseHeader { revision: -7, ..ResponseHeader::default() };
    let what = replaced_by(|id| bytes(WatchResponse { header: Some(below_zero), ..events(id, &[5]) }));
    assert_eq!(what, ServerMisbehaved::InvalidRevision { revision: -7 });
    for revision in [-1, i64::MAX] {
        let what = replaced_by(|id| bytes(progress(id, revision)));
        assert_eq!(what, ServerMisbehaved::InvalidRevision { revision }, "progress");
        let what = replaced_by(|_| bytes(manual_progress(revision)));
        assert_eq!(what, ServerMisbehaved::InvalidRevision { revision }, "progress of the stream");
        let what = replaced_by(|id| bytes(compacted(id, revision)));
        assert_eq!(what, ServerMisbehaved::InvalidRevision { revision }, "a compaction");
    }
    let put_of = |change: fn(&mut KeyValue)| {
        let mut event = put(5, "k");
        event.kv.iter_mut().for_each(change);
        replaced_by(|id| bytes(batch(id, vec![event])))
    };
    let puts: [fn(&mut KeyValue); 4] = [
        |kv| kv.version = -1,
        |kv| kv.create_revision = 6,
        |kv| kv.create_revision = 0,
        |kv| kv.create_revision = -4,
    ];
    for (at, change) in puts.into_iter().enumerate() {
        assert_eq!(put_of(change), ServerMisbehaved::InvalidEvent, "put {at}");
    }
    for id in [None, Some(-1)] {
        let what = replaced_by(|own| bytes(fragment(id.unwrap_or(own), Vec::new())));
        assert_eq!(what, ServerMisbehaved::EmptyFragment);
    }
    let what = replaced_by(|id| bytes(events(id, &[6, 5])));
    assert_eq!(what, ServerMisbehaved::RevisionsBackwards { previous: 6, next: 5 });
    let mut foreign = 0;
    let what = replaced_by(|id| {
        foreign = id;
        bytes(batch(id, vec![put(5, "elsewhere")]))
    });
    assert_eq!(what, ServerMisbehaved::ForeignKey { watch_id: foreign });
}

#[test]
fn a_flood_of_responses_for_watches_that_are_over_is_cut_off() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(1));
    driver.watch(all_from(1));
    driver.create_one(stream);
    driver.cancel(watch);
    driver.frame(stream, canceled(id, ""));
    for _ in 0..1000 {
        driver.frame(stream, events(id, &[5]));
    }
    assert_eq!(driver.closes(), []);
    driver.frame(stream, events(id, &[5]));
    let end = StreamEnd::Misbehaved(ServerMisbehaved::StaleFlood { limit: 1000 });
    assert_eq!(driver.closes(), [(stream, end)]);
}

#[test]
fn a_revision_over_the_limit_ends_only_its_watch() {
    let mut driver = Driver::new(WatchConfig::default().max_revision_bytes(10_000));
    let (watch, stream, id) = driver.running(all_from(1));
    let other = driver.watch(all_from(1));
    let second = driver.create_one(stream);
    for part in 0..4 {
        let event = put_value(5, &format!("k{part}"), vec![0; 3000]);
        driver.frame(stream, fragment(id, vec![event]));
    }
    assert!(matches!(driver.closed(watch), CloseReason::TooLarge { what: "a revision", .. }));
    assert_eq!(driver.cancels(), [id]);
    driver.frame(stream, events(second, &[5]));
    assert_eq!(driver.revisions(other), [5]);
}

#[test]
fn what_has_come_of_a_revision_may_be_as_large_as_the_limit() {
    let part = |id| fragment(id, vec![put(5, "a")]);
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(1));
    driver.frame(stream, events(id, &[4]));
    let index = driver.responses(watch)[0].memory_bytes() - events(id, &[4]).encoded_len();
    let bytes = part(id).encoded_len() + index;
    for (limit, is_over) in [(bytes, false), (bytes - 1, true)] {
        let mut driver = Driver::new(WatchConfig::default().max_revision_bytes(limit));
        let (watch, stream, id) = driver.running(all_from(1));
        driver.frame(stream, part(id));
        let end = CloseReason::TooLarge { what: "a revision", bytes, limit };
        let ends = is_over.then_some(etcd_watch_core::Delivery::Closed(end));
        assert_eq!(driver.take_all(watch), Vec::from_iter(ends));
    }
}

#[test]
fn a_response_over_the_limit_ends_the_watch_it_must_be_for_the_third_time() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, mut stream, mut id) = driver.running(all_from(1));
    let other = driver.watch(all_from(1));
    let _ = id;
    id = driver.create_one(stream);
    for round in 1..=3 {
        if round < 3 {
            driver.frame(stream, progress(id, 100 + round));
        }
        driver.failed(stream, Failure::ResponseTooLarge { bytes: 5 << 20, limit: 4 << 20 });
        if round < 3 {
            stream = driver.reopen(TRUSTED);
            driver.create_one(stream);
        }
        if round < 2 {
            id = driver.create_one(stream);
        }
    }
    assert!(matches!(driver.closed(watch), CloseReason::TooLarge { what: "a response", .. }));
    assert_eq!(
        driver.take_all(other),
        [],
        "its neighbour had been heard, so it was not even there at the third"
    );
    driver.reopen(TRUSTED);
    assert_eq!(driver.creates().len(), 1);
}

#[test]
fn a_watch_that_nothing_has_come_for_is_suspected_before_those_that_were_heard_of() {
    let too_large = || Failure::ResponseTooLarge { bytes: 5 << 20, limit: 4 << 20 };
    let mut driver = Driver::new(WatchConfig::default());
    let replied = all_from(50);
    let [notified, told, silent] = [3, 4, 5].map(all_from);
    driver.watch_together([replied, notified, told, silent]);
    let mut stream = driver.open(TRUSTED);
    for _ in 0..2 {
        let id = driver.create_one(stream);
        let others = driver.creates();
        // Made after the first watch, and before the others.
        driver.frame(stream, manual_progress(100));
        driver.frame(stream, events(id, &[10]));
        others.iter().for_each(|create| driver.frame(stream, created(create.watch_id)));
        driver.frame(stream, progress(others[0].watch_id, 100));
        driver.frame(stream, events(others[1].watch_id, &[100]));
        driver.failed(stream, too_large());
        stream = driver.reopen(TRUSTED);
    }
    driver.sleep_to_timeout();
    let starts: Vec<i64> = driver.creates().iter().map(|create| create.start_revision).collect();
    assert_eq!(starts, [5], "it comes first, and alone");
}

#[test]
fn a_cancel_that_is_said_twice_creates_a_watch_once() {
    let mut driver = Driver::new(WatchConfig::default());
    let (_, stream, id) = driver.running(all_from(1));
    driver.frame(stream, canceled(id, ""));
    driver.frame(stream, canceled(id, ""));
    assert_eq!(driver.creates().len(), 1);
}

#[test]
fn what_a_stream_has_shown_is_not_raised_by_a_revision_that_no_store_has() {
    let mut driver = Driver::new(WatchConfig::default());
    let (_, stream, id) = driver.running(all_from(1));
    driver.frame(stream, events(id, &[4]));
    driver.frame(stream, progress(id, i64::MAX));
    let watch = driver.watch(from_now("other"));
    let read = driver.ranges().remove(0);
    driver.range_done(read.range, 100);
    assert_eq!(driver.watcher.resume_revision(watch), Some(101), "the answer is not behind");
}

#[test]
fn a_fragment_below_the_revision_that_is_not_whole_yet_is_a_breach() {
    let mut driver = Driver::new(WatchConfig::default());
    let (watch, stream, id) = driver.running(all_from(5));
    driver.frame(stream, fragment(id, vec![put(5, "a"), put(7, "a")]));
    driver.frame(stream, fragment(id, vec![put(6, "a")]));
    let what = ServerMisbehaved::RevisionsBackwards { previous: 7, next: 6 };
    assert_eq!(driver.closes(), [(stream, StreamEnd::Misbehaved(what))]);
    assert_eq!(driver.revisions(watch), [5]);
    driver.reopen(TRUSTED);
    assert_eq!(driver.creates()[0].start_revision, 6);
}
