//! From the list to the watch, and back.

use etcd_watch_core::{
    CloseReason, Delivery, EndpointHint, KeyRange, ListReason, MirrorAction, MirrorEvent, Overflow,
    StreamOptions, TimeoutReason, WatchConfig, WatchRequest,
};

use crate::hand::{CLUSTER, Hand, compacted, of_k, page};

#[test]
fn the_options_of_a_request_reach_the_list_and_the_watch() {
    let metadata = vec![("tenant".to_string(), "red".to_string())];
    let options = StreamOptions { metadata, ..StreamOptions::default() };
    let request = of_k()
        .keys_only(true)
        .prev_kv(true)
        .overflow(Overflow::Fail)
        .buffer_bytes(5000)
        .stream_options(options.clone());
    let mut hand = Hand::new(&WatchConfig::default(), request);
    let list = hand.answer(Ok(page(9, &[("k1", 3)], false)));
    assert_eq!((list.keys_only, list.limit, &*list.options), (true, 2, &options));
    assert_eq!((list.range, list.endpoint), (KeyRange::prefix("k"), EndpointHint::Any));
    let expected = WatchRequest::new(KeyRange::prefix("k"))
        .start_revision(10)
        .known_store(CLUSTER, 9)
        .progress_notify(true)
        .prev_kv(true)
        .overflow(Overflow::Fail)
        .buffer_bytes(5000)
        .stream_options(options);
    assert_eq!(hand.action(), Some(MirrorAction::Watch(expected)));
}

#[test]
fn lists_that_are_begun_again_and_again_are_slowed_down_until_a_watch_works() {
    let mut hand = Hand::of_k();
    hand.watching(9, &[]);
    hand.watch_ends(compacted());
    hand.watching(9, &[]);
    hand.watch_ends(compacted());
    assert!(hand.is_idle(), "the second time in a row it waits");
    assert_eq!(hand.sleep_to_timeout(), TimeoutReason::RetryList);
    hand.watching(9, &[]);
}

#[test]
fn what_listing_cures_is_listed_again_and_what_it_does_not_ends_the_mirror() {
    let text = || "as said".to_string();
    let cured = [
        (compacted(), ListReason::Compacted),
        (CloseReason::Lagged { queued_bytes: 1, next_revision: 10 }, ListReason::Lagged),
        (CloseReason::TooLarge { what: "a revision", bytes: 2, limit: 1 }, ListReason::TooLarge),
        (
            CloseReason::StoreChanged { before: CLUSTER, after: 8 },
            ListReason::StoreChanged { before: CLUSTER, after: 8 },
        ),
        (
            CloseReason::StoreRegressed { known: 9, revision: 5 },
            ListReason::StoreRegressed { known: 9, revision: 5 },
        ),
    ];
    for (end, reason) in cured {
        let mut hand = Hand::of_k();
        hand.watching(9, &[("k1", 3)]);
        hand.watch_ends(end);
        hand.answer(Ok(page(9, &[("k1", 3)], false)));
        let is_anew = reason.is_other_store();
        assert_eq!(hand.mirror.next(hand.now), Some(MirrorEvent::Listing { revision: 9, reason }));
        assert_eq!(hand.told(), if is_anew { "+k1 !9" } else { "!9" });
    }
    let finals = [
        CloseReason::ShutDown,
        CloseReason::PermissionDenied { message: text() },
        CloseReason::AuthenticationFailed { message: text() },
        CloseReason::TokenRefused { tokens: 8, message: text() },
        CloseReason::Refused { message: text() },
        CloseReason::CancelledByServer { message: text() },
        CloseReason::Unsupported { message: text() },
        CloseReason::NoLeader { millis: 1 },
        CloseReason::Unreachable { millis: 1, last: text() },
    ];
    for end in finals {
        let mut hand = Hand::of_k();
        hand.watching(9, &[("k1", 3)]);
        hand.mirror.request_progress(hand.now);
        hand.watch_ends(end.clone());
        assert_eq!(hand.events(), [MirrorEvent::Closed(end)]);
        assert!(hand.mirror.is_closed() && hand.is_idle() && hand.mirror.index_keys() == 0);
        assert_eq!(hand.mirror.synced_revision(), None);
    }
}

#[test]
fn an_end_that_comes_early_waits_for_what_comes_before_it() {
    let mut hand = Hand::of_k();
    hand.answer(Ok(page(9, &[("k1", 3)], false)));
    assert!(!hand.mirror.wants_delivery(), "the list has not been taken");
    hand.mirror.handle_delivery(hand.now, Delivery::Closed(CloseReason::ShutDown));
    assert_eq!(hand.told(), "=9 +k1 !9 Closed(ShutDown)");
}

#[test]
fn progress_is_asked_for_while_there_is_a_watch() {
    let mut hand = Hand::of_k();
    hand.mirror.request_progress(hand.now);
    hand.watching(9, &[]);
    assert!(hand.is_idle());
    hand.mirror.request_progress(hand.now);
    hand.mirror.request_progress(hand.now);
    assert_eq!(hand.action(), Some(MirrorAction::RequestProgress));
    assert!(hand.is_idle());
}

#[test]
fn a_mirror_that_is_cancelled_cancels_the_watch_its_driver_knows_of() {
    let mut hand = Hand::of_k();
    hand.watching(9, &[("k1", 3)]);
    hand.mirror.cancel(hand.now);
    assert_eq!(hand.action(), Some(MirrorAction::Cancel));
    assert_eq!(hand.events(), [MirrorEvent::Closed(CloseReason::Cancelled)]);
    hand.mirror.cancel(hand.now);
    assert!(hand.is_idle());

    let mut hand = Hand::of_k();
    hand.answer(Ok(page(9, &[("k1", 3)], false)));
    hand.mirror.cancel(hand.now);
    assert_eq!(hand.action(), None, "the watch was not opened yet");
    assert_eq!(hand.events(), [MirrorEvent::Closed(CloseReason::Cancelled)]);

    let mut hand = Hand::of_k();
    let (list, _) = hand.asked();
    hand.mirror.cancel(hand.now);
    hand.mirror.handle_page(hand.now, list, Ok(page(9, &[("k1", 3)], false)));
    assert_eq!(hand.events(), [MirrorEvent::Closed(CloseReason::Cancelled)]);
    assert!(hand.is_idle() && hand.mirror.poll_timeout().is_none());
}

#[test]
fn a_store_that_is_empty_now_is_a_delete_of_everything_in_parts_of_a_page() {
    // A part has as many bytes as a page may have, and a delete counts for the key and 32 bytes beside it.
    let mut hand = Hand::new(&WatchConfig::default(), of_k().page_bytes(2 * 34));
    hand.answer(Ok(page(9, &[("k1", 3), ("k2", 4)], true)));
    hand.events();
    hand.watching(9, &[("k3", 5), ("k4", 6), ("k5", 7)]);
    hand.watch_ends(compacted());
    hand.answer(Ok(page(20, &[], false)));
    let parts: Vec<usize> = hand
        .events()
        .iter()
        .filter_map(|event| match event {
            MirrorEvent::Snapshot(part) => Some(part.deletes().len()),
            _ => None,
        })
        .collect();
    assert_eq!(parts, [2, 2, 1]);
    assert_eq!(hand.mirror.index_keys(), 0);
}

/// The simulator's seed 700232790. The watch had got no further than 12 when it was told that everything up to 20 was compacted. Whatever lists at 12
/// then was restored from a backup, and its keys may have other values at the same revisions.
#[test]
fn a_list_below_what_was_compacted_is_of_another_store() {
    let mut hand = Hand::of_k();
    hand.watching(12, &[("k1", 3)]);
    hand.watch_ends(CloseReason::Compacted { compact_revision: 20, next_revision: 13 });
    while !hand.mirror.has_events() {
        hand.answer(Ok(page(12, &[("k1", 3)], false)));
        if !hand.mirror.has_events() {
            hand.sleep_to_timeout();
        }
    }
    let reason = ListReason::StoreRegressed { known: 20, revision: 12 };
    assert_eq!(hand.mirror.next(hand.now), Some(MirrorEvent::Listing { revision: 12, reason }));
    assert_eq!(hand.told(), "+k1 !12", "the key is handed out again");
}
