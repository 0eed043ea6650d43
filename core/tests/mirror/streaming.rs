//! Lists whose pages after the first come by a stream.

use etcd_watch_core::{
    CloseReason, EndpointHint, Failure, KeyRange, ListKey, ListProgress, ListReason, ListRequest,
    MirrorAction, MirrorEvent, Page, TimeoutReason,
};

use crate::hand::{CLUSTER, Hand, compacted, page};

/// A mirror that has taken a first page at revision 9, with `k1`.
fn begun() -> Hand {
    let mut hand = Hand::of_k();
    assert!(!hand.answer(Ok(page(9, &[("k1", 3)], true))).may_stream, "a page tells the revision first");
    assert_eq!(hand.told(), "=9 +k1");
    hand
}

/// One whose driver now has a stream.
fn streaming() -> (Hand, ListKey) {
    let mut hand = begun();
    let (list, request) = hand.asked();
    assert!(request.may_stream && hand.mirror.wants_chunk(list));
    assert_eq!((request.revision, request.range), (9, KeyRange::range("k1\0", "l").expect("a range")));
    assert_eq!(request.max_bytes, 4 * 2 * crate::hand::FIRST_PAIR_BYTES);
    (hand, list)
}

/// A message of a stream that is not the one with the header.
fn chunk(kvs: &[(&'static str, i64)]) -> Page {
    Page { revision: 0, cluster_id: 0, ..page(0, kvs, false) }
}

impl Hand {
    fn chunk(&mut self, list: ListKey, chunk: Page) {
        assert!(self.mirror.wants_chunk(list));
        self.mirror.handle_chunk(self.now, list, Ok(chunk));
    }

    fn stream_ends(&mut self, list: ListKey, failure: Failure) {
        self.mirror.handle_chunk(self.now, list, Err(failure));
    }

    /// What is asked for next, after a pause.
    fn asked_later(&mut self) -> ListRequest {
        assert!(self.is_idle());
        assert_eq!(self.sleep_to_timeout(), TimeoutReason::RetryList);
        self.asked().1
    }

    fn closes(&mut self, list: ListKey) {
        assert_eq!(self.action(), Some(MirrorAction::CloseList { list }));
    }
}

#[test]
fn messages_are_handed_on_as_they_come_and_the_header_and_the_end_complete_the_list() {
    let (mut hand, list) = streaming();
    hand.chunk(list, chunk(&[("k2", 4), ("k3", 5)]));
    assert!(!hand.mirror.wants_chunk(list), "the consumer has to take them first");
    assert_eq!(hand.told(), "+k2 +k3");
    hand.chunk(list, page(20, &[("k4", 9)], false));
    assert_eq!(hand.told(), "+k4", "the stream may still fail");
    hand.stream_ends(list, Failure::EndOfStream);
    assert_eq!(hand.told(), "!9");
    assert!(matches!(hand.action(), Some(MirrorAction::Watch(_))));
    assert_eq!((hand.mirror.synced_revision(), hand.mirror.index_keys()), (Some(9), 4));
}

#[test]
fn the_header_may_come_in_any_message() {
    let (mut hand, list) = streaming();
    hand.chunk(list, page(20, &[("k2", 4)], false));
    assert_eq!(hand.told(), "+k2");
    hand.chunk(list, chunk(&[("k3", 5)]));
    assert_eq!(hand.told(), "+k3");
    hand.stream_ends(list, Failure::EndOfStream);
    assert_eq!(hand.told(), "!9");
}

#[test]
fn a_stream_without_its_header_goes_on_from_its_last_key_at_the_same_revision() {
    for failure in [Failure::EndOfStream, Failure::connection("reset"), Failure::status(14, "gone")] {
        let (mut hand, list) = streaming();
        hand.chunk(list, chunk(&[("k2", 4)]));
        assert_eq!(hand.told(), "+k2");
        hand.stream_ends(list, failure);
        let request = hand.asked_later();
        assert_eq!((request.revision, request.range), (9, KeyRange::range("k2\0", "l").expect("a range")));
        assert_eq!((request.endpoint, request.may_stream), (EndpointHint::Another, false), "a page first");
    }
}

#[test]
fn after_a_page_the_rest_may_come_by_a_stream_again() {
    let (mut hand, list) = streaming();
    hand.stream_ends(list, Failure::connection("reset"));
    hand.sleep_to_timeout();
    hand.answer(Ok(page(9, &[("k2", 4)], true)));
    assert_eq!(hand.told(), "+k2");
    let (list, request) = hand.asked();
    assert!(request.may_stream);
    hand.chunk(list, page(9, &[], false));
    hand.stream_ends(list, Failure::EndOfStream);
    assert_eq!(hand.told(), "!9");
}

#[test]
fn a_page_is_as_good_an_answer() {
    let mut hand = begun();
    assert!(hand.answer(Ok(page(9, &[("k2", 4)], true))).may_stream);
    assert_eq!(hand.told(), "+k2");
    assert!(hand.answer(Ok(page(9, &[], false))).may_stream);
    assert_eq!(hand.told(), "!9");
}

#[test]
fn a_member_that_keeps_its_cluster_to_itself_brings_pages() {
    let mut hand = Hand::of_k();
    hand.answer(Ok(Page { cluster_id: 0, ..page(9, &[("k1", 3)], true) }));
    hand.events();
    let (list, request) = hand.asked();
    assert!(!request.may_stream && !hand.mirror.wants_chunk(list));
    hand.mirror.handle_chunk(hand.now, list, Ok(chunk(&[("k2", 4)])));
    assert!(hand.is_idle(), "a stream was not asked for");
}

#[test]
fn a_member_without_streams_is_asked_for_a_page_at_once_and_for_no_stream_again() {
    let (mut hand, list) = streaming();
    hand.stream_ends(list, Failure::status(12, "unknown method RangeStream for service etcdserverpb.KV"));
    assert!(!hand.answer(Ok(page(9, &[("k2", 4)], true))).may_stream);
    assert_eq!(hand.told(), "+k2");
    assert!(!hand.asked().1.may_stream);
}

#[test]
fn streams_that_bring_nothing_are_given_up_after_two() {
    let (mut hand, mut list) = streaming();
    let keys = ["k2", "k3"];
    for (key, is_last) in [(keys[0], false), (keys[1], true)] {
        hand.stream_ends(list, Failure::status(13, "no such luck"));
        hand.sleep_to_timeout();
        hand.answer(Ok(page(9, &[(key, 4)], true)));
        hand.events();
        let (asked, request) = hand.asked();
        assert_eq!(request.may_stream, !is_last);
        list = asked;
    }
}

#[test]
fn a_stream_whose_revision_is_compacted_is_a_list_to_begin_again() {
    let (mut hand, list) = streaming();
    hand.chunk(list, chunk(&[("k2", 4)]));
    assert_eq!(hand.told(), "+k2");
    hand.stream_ends(list, Failure::status(11, "etcdserver: mvcc: required revision has been compacted"));
    let request = hand.answer(Ok(page(12, &[("k2", 11)], false)));
    assert_eq!((request.revision, request.range, request.may_stream), (0, KeyRange::prefix("k"), false));
    let event = hand.mirror.next(hand.now);
    assert_eq!(event, Some(MirrorEvent::Listing { revision: 12, reason: ListReason::Interrupted }));
    assert_eq!(hand.told(), "+k2 -k1 !12");
}

#[test]
fn a_member_that_lags_is_passed_by() {
    let (mut hand, list) = streaming();
    let future = "etcdserver: mvcc: required revision is a future revision";
    hand.stream_ends(list, Failure::status(11, future));
    let request = hand.asked_later();
    assert_eq!((request.revision, request.endpoint), (9, EndpointHint::Another));
}

#[test]
fn a_stream_of_another_cluster_is_corrected_before_anything_is_announced() {
    let (mut hand, list) = streaming();
    hand.chunk(list, chunk(&[("k2", 4), ("k7", 4)]));
    assert_eq!(hand.told(), "+k2 +k7");
    hand.chunk(list, Page { cluster_id: 8, ..page(30, &[("k9", 4)], false) });
    assert!(!hand.mirror.has_events(), "nothing of that message is handed out");
    hand.closes(list);
    hand.answer(Ok(Page { cluster_id: 8, ..page(30, &[("k1", 3), ("k2", 4)], false) }));
    let reason = ListReason::StoreChanged { before: CLUSTER, after: 8 };
    assert_eq!(hand.mirror.next(hand.now), Some(MirrorEvent::Listing { revision: 30, reason }));
    assert_eq!(hand.told(), "+k1 +k2 -k7 !30", "equal revisions of two stores are two pairs");
}

#[test]
fn what_waits_of_a_stream_of_another_cluster_is_not_taken_for_known() {
    let (mut hand, list) = streaming();
    // Handed in early, so that the second waits.
    for key in ["k2", "k3"] {
        hand.mirror.handle_chunk(hand.now, list, Ok(chunk(&[(key, 4)])));
    }
    hand.mirror.handle_chunk(hand.now, list, Ok(Page { cluster_id: 8, ..page(30, &[], false) }));
    hand.closes(list);
    assert_eq!(hand.told(), "+k2");
    hand.answer(Ok(Page { cluster_id: 8, ..page(30, &[("k2", 4), ("k3", 4)], false) }));
    assert_eq!(hand.told(), "=30 +k2 +k3 -k1 !30");
}

#[test]
fn what_comes_early_is_kept_in_its_order() {
    let (mut hand, list) = streaming();
    for key in ["k2", "k3", "k4"] {
        hand.mirror.handle_chunk(hand.now, list, Ok(chunk(&[(key, 4)])));
    }
    hand.mirror.handle_chunk(hand.now, list, Ok(page(9, &[("k5", 4)], false)));
    hand.stream_ends(list, Failure::EndOfStream);
    assert_eq!(hand.told(), "+k2 +k3 +k4 +k5 !9");
}

#[test]
fn a_stream_that_nothing_can_be_made_of_is_reset() {
    for flawed in [&[("k2", 4), ("k1", 4)][..], &[("k1", 4)], &[("a", 4)], &[("k2", 10)], &[("k2", 0)]] {
        let (mut hand, list) = streaming();
        hand.chunk(list, chunk(flawed));
        hand.closes(list);
        let request = hand.asked_later();
        assert_eq!((request.endpoint, request.may_stream), (EndpointHint::Another, false));
        hand.mirror.handle_chunk(hand.now, list, Ok(chunk(&[("k2", 4)])));
        assert!(!hand.mirror.has_events(), "nothing of it is wanted any more");
    }
}

#[test]
fn a_message_over_the_bound_is_followed_by_a_page_at_once() {
    let (mut hand, list) = streaming();
    hand.chunk(list, chunk(&[("k2", 4)]));
    hand.events();
    hand.stream_ends(list, Failure::ResponseTooLarge { bytes: 9 << 20, limit: 1 << 20 });
    let request = hand.answer(Ok(page(9, &[("k3", 4)], true)));
    assert_eq!((request.may_stream, request.endpoint), (false, EndpointHint::Any));
    assert_eq!(hand.told(), "+k3");
    assert!(hand.asked().1.may_stream, "etcd begins a stream with small messages");
}

#[test]
fn a_stream_that_says_that_there_is_more_is_not_the_end_of_the_list() {
    let (mut hand, list) = streaming();
    hand.chunk(list, page(9, &[("k2", 4)], true));
    hand.events();
    hand.stream_ends(list, Failure::EndOfStream);
    let request = hand.answer(Ok(page(9, &[("k3", 4)], false)));
    assert_eq!((request.range, request.may_stream), (KeyRange::range("k2\0", "l").expect("a range"), false));
    assert_eq!(hand.told(), "+k3 !9");
}

#[test]
fn a_mirror_that_ends_resets_its_stream() {
    let (mut hand, list) = streaming();
    hand.chunk(list, chunk(&[("k2", 4)]));
    hand.mirror.cancel(hand.now);
    hand.closes(list);
    assert_eq!(hand.events(), [MirrorEvent::Closed(CloseReason::Cancelled)]);
    let (mut hand, list) = streaming();
    hand.mirror.cancel(hand.now);
    hand.closes(list);
    assert!(!hand.mirror.wants_chunk(list));
}

#[test]
fn a_stream_is_read_as_slowly_as_its_consumer_takes() {
    let (mut hand, list) = streaming();
    hand.chunk(list, chunk(&[("k2", 4)]));
    assert_eq!(hand.mirror.poll_timeout(), None);
    hand.events();
    assert_eq!(hand.mirror.poll_timeout(), None, "the driver knows how long a stream may be silent");
}

#[test]
fn progress_is_told_while_a_list_lasts() {
    let progress = |hand: &Hand| {
        let told = hand.mirror.list_progress();
        told.map(|ListProgress { keys, total, .. }| (keys, total))
    };
    let mut hand = Hand::of_k();
    assert_eq!(progress(&hand), Some((0, None)));
    hand.answer(Ok(Page { count: 5, ..page(9, &[("k1", 3), ("k2", 3)], true) }));
    assert_eq!((hand.told(), progress(&hand)), ("=9 +k1 +k2".into(), Some((2, Some(5)))));
    // What a page counts is what was left before it.
    hand.answer(Ok(Page { count: 3, ..page(9, &[("k3", 3)], true) }));
    assert_eq!((hand.told(), progress(&hand)), ("+k3".into(), Some((3, Some(5)))));
    let (list, _) = hand.asked();
    hand.chunk(list, chunk(&[("k4", 3)]));
    assert_eq!((hand.told(), progress(&hand)), ("+k4".into(), Some((4, Some(5)))));
    hand.chunk(list, page(9, &[("k5", 3)], false));
    hand.stream_ends(list, Failure::EndOfStream);
    assert_eq!(progress(&hand), Some((5, Some(5))), "not all of it is taken yet");
    assert_eq!((hand.told(), progress(&hand)), ("+k5 !9".into(), None));
    assert!(matches!(hand.action(), Some(MirrorAction::Watch(_))));
    hand.watch_ends(compacted());
    hand.answer(Ok(Page { count: 7, ..page(20, &[("k1", 3)], true) }));
    assert_eq!((hand.told(), progress(&hand)), ("=20".into(), Some((1, Some(7)))), "a list begins at 0");
}

#[test]
fn a_stream_that_is_not_wanted_any_more_is_reset_though_the_mirror_is_cancelled_before_the_driver_looks() {
    let (mut hand, list) = streaming();
    hand.chunk(list, chunk(&[("a", 4)]));
    hand.mirror.cancel(hand.now);
    hand.closes(list);
    assert_eq!(hand.events(), [MirrorEvent::Closed(CloseReason::Cancelled)]);
    assert!(hand.is_idle());
}

#[test]
fn an_answer_at_a_revision_that_no_store_has_is_of_no_use() {
    for revision in [-9, i64::MAX] {
        let (mut hand, list) = streaming();
        hand.chunk(list, page(revision, &[("k2", 4)], false));
        assert_eq!(hand.told(), "", "{revision}");
        hand.closes(list);
        let request = hand.asked_later();
        assert_eq!((request.endpoint, request.revision), (EndpointHint::Another, 9));
        let mut hand = Hand::of_k();
        hand.answer(Ok(page(revision, &[("k1", 3)], false)));
        assert_eq!(hand.told(), "", "{revision}");
        assert_eq!(hand.asked_later().endpoint, EndpointHint::Another);
    }
}

#[test]
fn a_stream_that_goes_on_and_brings_nothing_is_given_up() {
    let (mut hand, list) = streaming();
    for _ in 0..2 {
        hand.chunk(list, chunk(&[]));
    }
    hand.chunk(list, chunk(&[]));
    hand.closes(list);
    let request = hand.asked_later();
    assert_eq!((request.revision, request.endpoint), (9, EndpointHint::Another));
}

#[test]
fn streams_that_end_with_more_to_come_and_brought_nothing_are_given_up_after_two() {
    let (mut hand, mut list) = streaming();
    for may_stream in [true, false] {
        hand.chunk(list, page(9, &[], true));
        hand.stream_ends(list, Failure::EndOfStream);
        if may_stream {
            hand.answer(Ok(page(9, &[("k2", 3)], true)));
            assert_eq!(hand.told(), "+k2");
        }
        let (next, request) = hand.asked();
        assert_eq!(request.may_stream, may_stream);
        list = next;
    }
}

#[test]
fn a_stream_that_is_at_odds_with_the_count_has_the_list_begun_again_by_pages() {
    for keys in [&[("k2", 4)][..], &[("k2", 4), ("k3", 4), ("k4", 4)]] {
        let mut hand = Hand::of_k();
        hand.answer(Ok(Page { count: 3, ..page(9, &[("k1", 3)], true) }));
        assert_eq!(hand.told(), "=9 +k1");
        let (list, _) = hand.asked();
        hand.chunk(list, page(9, keys, false));
        if keys.len() == 1 {
            assert_eq!(hand.told(), "+k2");
            hand.stream_ends(list, Failure::EndOfStream);
        } else {
            hand.closes(list);
        }
        let (_, request) = hand.asked();
        assert_eq!((request.revision, request.endpoint), (0, EndpointHint::Another));
    }
}
